"""Contents of every loadable memory of a design, as rows of words: from the integer network and back to it.

The layout is that of :attr:`lmht.rtl.parameters.TileParameters.memories`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmht.gen.integer import IntegerLayer, IntegerNetwork
from lmht.gen.pack import pack_rows, unpack_rows
from lmht.rtl.parameters import DesignParameters, TileParameters
from lmht.rtl.registers import LoadableMemory, RegisterMap

__all__ = ["TileMemory", "pack_memories", "tile_memories", "unpack_layers"]

Rows = NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class TileMemory(LoadableMemory):
    """A loadable memory of a tile; `index` is its number on the configuration bus and in ``image.bin``."""

    tile: TileParameters


def tile_memories(design: DesignParameters) -> list[TileMemory]:
    """All memories of all tiles in the order of their numbers, named ``<tile>_<memory>``."""
    tiles = {tile.name: tile for tile in design.tiles}
    return [
        TileMemory(
            index=memory.index,
            stage=memory.stage,
            memory=memory.memory,
            shape=memory.shape,
            tile=tiles[memory.stage],
        )
        for memory in RegisterMap.for_design(design).memories
        if memory.stage in tiles
    ]


def pack_memories(design: DesignParameters, network: IntegerNetwork) -> dict[str, Rows]:
    """Rows of every loadable memory by name, in the order of :func:`tile_memories`.

    Returns
    -------
    dict of numpy.ndarray of uint32, each of shape (depth, words)
        Least significant word of a row first.

    Raises
    ------
    ValueError
        If the network does not fit the design.
    """
    if len(design.layers) != len(network.layers):
        raise ValueError(f"network must have {len(design.layers)} layers, not {len(network.layers)}")
    contents = {}
    for memory in tile_memories(design):
        tile, layer = memory.tile, network.layers[memory.tile.layer]
        if (layer.neurons, layer.inputs) != (tile.layer_channels, tile.input.positions):
            raise ValueError(
                f"layer {tile.layer} must be {tile.input.positions}-{tile.layer_channels} as designed, "
                f"not {layer.inputs}-{layer.neurons}"
            )
        rows = _PACKERS[memory.memory](tile, layer)
        if rows.shape != (memory.shape.depth, memory.words):
            raise ValueError(
                f"{memory.name} must have shape {(memory.shape.depth, memory.words)}, not {rows.shape}"
            )
        contents[memory.name] = rows
    return contents


def _slice(tile: TileParameters, values: NDArray[np.int64], padded: int) -> NDArray[np.int64]:
    """The tile's channels of an array whose last axis is the channel, with zeros behind up to `padded`."""
    part = values[..., tile.channel_offset : tile.channel_offset + tile.channels]
    return np.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, padded - tile.channels)])


def _pack_weights(tile: TileParameters, layer: IntegerLayer) -> Rows:
    lanes = _slice(tile, layer.weights.T, tile.groups * tile.lanes)
    return pack_rows((lanes.reshape(-1, tile.lanes), tile.weight_bits))


def _pack_biases(tile: TileParameters, layer: IntegerLayer) -> Rows:
    lanes = _slice(tile, layer.bias, tile.update_rows * tile.update_lanes)
    return pack_rows((lanes.reshape(-1, tile.update_lanes), tile.neuron.accumulator_bits))


def _pack_multipliers(tile: TileParameters, layer: IntegerLayer) -> Rows:
    lanes = _slice(tile, layer.multipliers, tile.update_rows * tile.update_lanes)
    # (T, T_in, N) to (phase, multiplier, update row, update lane) to the order of the rows.
    split = lanes.reshape(tile.mix_phases, tile.mix_multipliers, tile.update_rows, tile.update_lanes)
    fields = split.transpose(2, 0, 3, 1).reshape(tile.update_rows * tile.mix_phases, -1)
    return pack_rows((fields, tile.neuron.multiplier_bits))


def _pack_constants(tile: TileParameters, layer: IntegerLayer) -> Rows:
    blocks = [(np.array([[layer.initial_membrane]], dtype=np.int64), tile.neuron.membrane_bits)]
    if tile.neuron.leak:
        one = np.full(layer.steps, 1 << layer.leak_bits, dtype=np.int64)
        blocks.append(((one if layer.leak is None else layer.leak)[None, :], tile.neuron.leak_bits + 1))
    elif layer.leak is not None:
        raise ValueError(f"layer {tile.layer} must be without leak as designed")
    return pack_rows(*blocks)


_PACKERS = {
    "weights": _pack_weights,
    "biases": _pack_biases,
    "multipliers": _pack_multipliers,
    "constants": _pack_constants,
}


def unpack_layers(design: DesignParameters, contents: Mapping[str, Rows]) -> tuple[IntegerLayer, ...]:
    """The integer layers that memory contents stand for: the inverse of :func:`pack_memories`.

    Raises
    ------
    ValueError
        If a memory is missing, has another shape, or holds what no integer layer can.
    """
    for memory in tile_memories(design):
        if memory.name not in contents:
            raise ValueError(f"memory {memory.name} is missing")
        found, expected = contents[memory.name].shape, (memory.shape.depth, memory.words)
        if found != expected:
            raise ValueError(f"memory {memory.name} must have shape {expected}, not {found}")
    return tuple(_unpack_layer(tiles, contents) for tiles in design.layers)


def _unpack_layer(tiles: tuple[TileParameters, ...], contents: Mapping[str, Rows]) -> IntegerLayer:
    first = tiles[0]
    neuron = first.neuron
    constants = contents.get(f"{first.name}_constants")
    initial_membrane, leak = 0, None
    if constants is not None:
        fields = {
            name: int(unpack_rows(constants, offset=offset, count=1, bits=width, signed=name == "v0")[0, 0])
            for name, (offset, width) in neuron.constants_fields.items()
        }
        initial_membrane = fields.pop("v0")
        leak = np.array(list(fields.values()), dtype=np.int64) if neuron.leak else None
    return IntegerLayer(
        weights=np.concatenate([_unpack_weights(tile, contents) for tile in tiles]),
        bias=np.concatenate([_unpack_biases(tile, contents) for tile in tiles]),
        multipliers=np.concatenate([_unpack_multipliers(tile, contents) for tile in tiles], axis=2),
        shift=neuron.shift,
        levels=neuron.levels,
        fraction_bits=neuron.fraction_bits,
        leak=leak,
        leak_bits=neuron.leak_bits,
        initial_membrane=initial_membrane,
        weight_bits=first.weight_bits,
        multiplier_bits=neuron.multiplier_bits,
        input_max_level=first.input.max_level or 1,
    )


def _unpack_weights(tile: TileParameters, contents: Mapping[str, Rows]) -> NDArray[np.int64]:
    rows = contents[f"{tile.name}_weights"]
    fields = unpack_rows(rows, count=tile.lanes, bits=tile.weight_bits, signed=True)
    return fields.reshape(tile.input.positions, -1)[:, : tile.channels].T


def _unpack_biases(tile: TileParameters, contents: Mapping[str, Rows]) -> NDArray[np.int64]:
    rows = contents[f"{tile.name}_biases"]
    fields = unpack_rows(rows, count=tile.update_lanes, bits=tile.neuron.accumulator_bits, signed=True)
    return fields.reshape(-1)[: tile.channels]


def _unpack_multipliers(tile: TileParameters, contents: Mapping[str, Rows]) -> NDArray[np.int64]:
    rows, count = contents[f"{tile.name}_multipliers"], tile.update_lanes * tile.mix_multipliers
    fields = unpack_rows(rows, count=count, bits=tile.neuron.multiplier_bits, signed=False)
    split = fields.reshape(tile.update_rows, tile.mix_phases, tile.update_lanes, tile.mix_multipliers)
    products = split.transpose(1, 3, 0, 2).reshape(tile.neuron.steps, tile.neuron.input_steps, -1)
    return products[:, :, : tile.channels]
