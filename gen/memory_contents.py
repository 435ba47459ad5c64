"""Contents of every loadable memory of a design, as rows of words: from the integer network and back to it.

The layout is that of :attr:`lmht.rtl.tile_parameters.TileParameters.memories`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.utils import bits_for
from numpy.typing import NDArray

from lmht.gen.integer import PIXEL_MAX, IntegerLayer, IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.gen.pack import pack_rows, unpack_rows
from lmht.gen.quiet import is_silent, quiet_levels
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.projection import IMAGE, Pooling
from lmht.rtl.registers import LoadableMemory, RegisterMap
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters

__all__ = ["TileMemory", "lane_channels", "pack_memories", "tile_memories", "unpack_layers"]

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
    for tiles, layer in zip(design.layers, network.layers, strict=True):
        _check_layer(design, tiles[0], layer)
    contents = {}
    for memory in tile_memories(design):
        tile, layer = memory.tile, network.layers[memory.tile.layer]
        if memory.memory in WEIGHT_MEMORIES:
            rows = _pack_weights(tile, layer, WEIGHT_MEMORIES.index(memory.memory))
        else:
            rows = _PACKERS[memory.memory](tile, layer)
        if rows.shape != (memory.shape.depth, memory.words):
            raise ValueError(
                f"{memory.name} must have shape {(memory.shape.depth, memory.words)}, not {rows.shape}"
            )
        contents[memory.name] = rows
    return contents


def _check_layer(design: DesignParameters, tile: TileParameters, layer: IntegerLayer) -> None:
    def check(name: str, want: object, have: object) -> None:
        if have != want:
            raise ValueError(f"layer {tile.layer}: {name} must be {want} as designed, not {have}")

    check("channels", tile.layer_channels, layer.channels)
    check("number of projections", len(tile.projections), len(layer.projections))
    check("diagonal", tile.neuron.diagonal, layer.diagonal)
    for number, projection in enumerate(layer.projections):
        check("kernel", tile.projections[number].kernel, projection.kernel)
        for name, want in _projection_fields(design, tile, number).items():
            check(name, want, getattr(projection, name))


def _projection_fields(design: DesignParameters, tile: TileParameters, number: int) -> dict[str, Any]:
    """Everything of an :class:`IntegerProjection` but its weights, as the hardware has it."""
    projection = tile.projections[number]
    image = projection.source == IMAGE
    source = None if image else design.layers[projection.source][0]
    height, width = (
        (projection.input.height, projection.input.width) if source is None else (source.height, source.width)
    )
    pooling = None if source is None else source.pooling
    if projection.pool != (1, 1):
        if pooling is not None:
            raise ValueError(f"{tile.name} must not pool again what layer {projection.source} pools")
        pooling = Pooling(kind="sum", size=projection.pool)
    return {
        "source": projection.source,
        "input_shape": (projection.input.channels, height, width),
        "weight_bits": projection.weight_bits,
        "shift": projection.shift,
        "stride": projection.stride,
        "padding": projection.padding,
        "groups": projection.channel_groups,
        "pooling": pooling,
        "input_steps": tile.neuron.input_steps,
        "input_max_level": PIXEL_MAX if source is None else source.neuron.levels,
    }


def lane_channels(tile: TileParameters, number: int) -> NDArray[np.int64]:
    """Which neurons an input channel meets in the lanes of a projection's weight memory.

    Returns
    -------
    numpy.ndarray of int64, shape (C_in, span, lanes)
        The layer's output channel of every lane, the same for every tap; -1 where there is no synapse.
    """
    parameters = tile.projections[number]
    inputs = np.arange(parameters.input.channels)
    first_group = np.array([tile.first_group(number, channel) for channel in inputs.tolist()])
    groups = first_group[:, None] + np.arange(tile.span(number))
    local = groups[:, :, None] * tile.lanes + np.arange(tile.lanes)
    channels = tile.channel_offset + local
    parts = parameters.channel_groups
    part = inputs // (parameters.input.channels // parts)
    joined = channels // (tile.layer_channels // parts) == part[:, None, None]
    return np.where((local < tile.channels) & joined, channels, -1)


def _pack_weights(tile: TileParameters, layer: IntegerLayer, number: int) -> Rows:
    weights = layer.projections[number].weights
    channels = lane_channels(tile, number)
    inputs = np.arange(len(channels)) % weights.shape[1]
    taps = weights.reshape(*weights.shape[:2], -1).transpose(2, 0, 1)
    lanes = taps[:, channels, inputs[:, None, None]]
    lanes[:, channels < 0] = 0
    if tile.tap_unroll:
        rows = lanes.transpose(1, 2, 0, 3).reshape(-1, len(lanes) * tile.lanes)
    else:
        rows = lanes.reshape(-1, tile.lanes)
    return pack_rows((rows, tile.projections[number].weight_bits))


def _slice(tile: TileParameters, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tile's channels of an array whose last axis is the channel, with zeros behind that fill the update rows."""
    part = values[..., tile.channel_offset : tile.channel_offset + tile.channels]
    padding = tile.update_rows * tile.update_lanes - tile.channels
    return np.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, padding)])


def _pack_biases(tile: TileParameters, layer: IntegerLayer) -> Rows:
    lanes = _slice(tile, layer.bias)
    # (T, N) to (phase, current, update row, update lane) to the order of the rows.
    split = lanes.reshape(tile.bias_phases, tile.mix_currents, tile.update_rows, tile.update_lanes)
    fields = split.transpose(2, 0, 3, 1).reshape(tile.update_rows * tile.bias_phases, -1)
    return pack_rows((fields, tile.neuron.bias_bits))


def _pack_multipliers(tile: TileParameters, layer: IntegerLayer) -> Rows:
    lanes = _slice(tile, layer.multipliers)
    # (T, T_in or 1, N) to (phase, multiplier, update row, update lane) to the order of the rows.
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
    blocks.append((np.array([[is_silent(tile, layer)]], dtype=np.int64), 1))
    return pack_rows(*blocks)


def _pack_quiet_levels(tile: TileParameters, layer: IntegerLayer) -> Rows:
    lanes = _slice(tile, quiet_levels(layer)).T
    return pack_rows((lanes.reshape(tile.update_rows, -1), bits_for(layer.levels)))


_PACKERS = {
    "biases": _pack_biases,
    "multipliers": _pack_multipliers,
    "constants": _pack_constants,
    "quiet_levels": _pack_quiet_levels,
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
    return tuple(_unpack_layer(design, tiles, contents) for tiles in design.layers)


def _unpack_layer(
    design: DesignParameters, tiles: tuple[TileParameters, ...], contents: Mapping[str, Rows]
) -> IntegerLayer:
    neuron = tiles[0].neuron
    constants = [_unpack_constants(tile, contents) for tile in tiles]
    first = {name: value for name, value in constants[0].items() if name != "silent"}
    initial_membrane = first.pop("v0", 0)
    layer = IntegerLayer(
        projections=tuple(
            IntegerProjection(
                weights=_unpack_weights(tiles, number, contents),
                **_projection_fields(design, tiles[0], number),
            )
            for number in range(len(tiles[0].projections))
        ),
        bias=np.concatenate([_unpack_biases(tile, contents) for tile in tiles], axis=1),
        multipliers=np.concatenate([_unpack_multipliers(tile, contents) for tile in tiles], axis=2),
        shift=neuron.shift,
        levels=neuron.levels,
        fraction_bits=neuron.fraction_bits,
        leak=np.array(list(first.values()), dtype=np.int64) if neuron.leak else None,
        leak_bits=neuron.leak_bits,
        initial_membrane=initial_membrane,
        multiplier_bits=neuron.multiplier_bits,
    )
    for tile, found in zip(tiles, constants, strict=True):
        if tile.constant_events:
            name = f"{tile.name}_quiet_levels"
            if not np.array_equal(contents[name], _pack_quiet_levels(tile, layer)):
                raise ValueError(f"memory {name} must hold the levels of neurons without input")
        expected = first | {"v0": initial_membrane, "silent": is_silent(tile, layer)} if found else {}
        for name, value in expected.items():
            if found[name] != value:
                raise ValueError(
                    f"{name} in memory {tile.name}_constants must be {int(value)}, not {found[name]}"
                )
    return layer


def _unpack_constants(tile: TileParameters, contents: Mapping[str, Rows]) -> dict[str, int]:
    rows = contents.get(f"{tile.name}_constants")
    return {
        name: int(unpack_rows(rows, offset=offset, count=1, bits=width, signed=name == "v0")[0, 0])
        for name, (offset, width) in tile.constants_fields.items()
        if rows is not None
    }


def _unpack_weights(
    tiles: tuple[TileParameters, ...], number: int, contents: Mapping[str, Rows]
) -> NDArray[np.int64]:
    parameters = tiles[0].projections[number]
    inputs_per_group = parameters.input.channels // parameters.channel_groups
    weights = np.zeros((parameters.taps, tiles[0].layer_channels, inputs_per_group), dtype=np.int64)
    for tile in tiles:
        name = f"{tile.name}_{WEIGHT_MEMORIES[number]}"
        channels = lane_channels(tile, number)
        count = tile.memories[WEIGHT_MEMORIES[number]].width // parameters.weight_bits
        fields = unpack_rows(contents[name], count=count, bits=parameters.weight_bits, signed=True)
        if tile.tap_unroll:
            lanes = fields.reshape(*channels.shape[:2], parameters.taps, tile.lanes).transpose(2, 0, 1, 3)
        else:
            lanes = fields.reshape(parameters.taps, *channels.shape)
        joined = channels >= 0
        if lanes[:, ~joined].any():
            raise ValueError(f"memory {name} must be 0 in lanes without a synapse")
        inputs = np.broadcast_to(np.arange(len(channels))[:, None, None] % inputs_per_group, channels.shape)
        weights[:, channels[joined], inputs[joined]] = lanes[:, joined]
    shaped = weights.transpose(1, 2, 0)
    return shaped.reshape(*shaped.shape[:2], *parameters.kernel)


def _unpack_biases(tile: TileParameters, contents: Mapping[str, Rows]) -> NDArray[np.int64]:
    rows, count = contents[f"{tile.name}_biases"], tile.update_lanes * tile.mix_currents
    fields = unpack_rows(rows, count=count, bits=tile.neuron.bias_bits, signed=True)
    split = fields.reshape(tile.update_rows, tile.bias_phases, tile.update_lanes, tile.mix_currents)
    return split.transpose(1, 3, 0, 2).reshape(tile.neuron.steps, -1)[:, : tile.channels]


def _unpack_multipliers(tile: TileParameters, contents: Mapping[str, Rows]) -> NDArray[np.int64]:
    rows, count = contents[f"{tile.name}_multipliers"], tile.update_lanes * tile.mix_multipliers
    fields = unpack_rows(rows, count=count, bits=tile.neuron.multiplier_bits, signed=False)
    split = fields.reshape(tile.update_rows, tile.mix_phases, tile.update_lanes, tile.mix_multipliers)
    products = split.transpose(1, 3, 0, 2).reshape(tile.neuron.steps, tile.neuron.mix_terms, -1)
    return products[:, :, : tile.channels]
