"""Is what a memory image holds what the integer network says? Field by field, named as a designer would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmht.gen.images import Image
from lmht.gen.integer import IntegerNetwork
from lmht.gen.memory_contents import TileMemory, lane_channels, pack_memories, tile_memories
from lmht.gen.pack import unpack_rows
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES

__all__ = ["MemoryDifference", "memory_differences"]

_FIELDS = {
    **dict.fromkeys(WEIGHT_MEMORIES, "lane"),
    "biases": "update lane",
    "multipliers": "multiplier",
    "constants": "constant",
}


@dataclass(frozen=True)
class MemoryDifference:
    """One field of a memory image that is not the network's.

    Parameters
    ----------
    stage, memory : str
        Tile, and its memory.
    row, field : int
        Row of the memory and position in the row: lane (of all taps, if a row holds them), update lane or multiplier.
    expected, found : int
    others : int
        Further differences in the same memory.
    place : str
        For a weight: the input and the neuron that it joins, or the tap of a kernel and its channels.
    """

    stage: str
    memory: str
    row: int
    field: int
    expected: int
    found: int
    others: int
    place: str = ""

    def __str__(self) -> str:
        more = f" and {self.others} more" if self.others else ""
        place = f" ({self.place})" if self.place else ""
        return (
            f"{self.stage} {self.memory} row {self.row} {_FIELDS[self.memory]} {self.field}{place} is {self.found} "
            f"in the memory image, {self.expected} in the network{more}"
        )


def memory_differences(
    design: DesignParameters, network: IntegerNetwork, image: Image
) -> tuple[MemoryDifference, ...]:
    """The first difference of every memory that differs, in the order of the data path.

    Raises
    ------
    ValueError
        If the network does not fit the design, or the image lacks a memory.
    """
    contents, found = pack_memories(design, network), image.by_name(design)
    differences = []
    for memory in tile_memories(design):
        if memory.name not in found:
            raise ValueError(f"memory {memory.name} is missing from the image")
        expected, held = contents[memory.name], found[memory.name]
        if held.shape != expected.shape:
            raise ValueError(f"memory {memory.name} must have shape {expected.shape}, not {held.shape}")
        wrong = np.flatnonzero((held != expected).any(axis=1))
        if len(wrong):
            differences.append(_describe(memory, wrong, expected[wrong], held[wrong]))
    return tuple(differences)


def _describe(
    memory: TileMemory, rows: np.ndarray, expected: np.ndarray, found: np.ndarray
) -> MemoryDifference:
    tile = memory.tile
    bits, signed = {
        **{name: (p.weight_bits, True) for name, p in zip(WEIGHT_MEMORIES, tile.projections, strict=False)},
        "biases": (tile.neuron.bias_bits, True),
        "multipliers": (tile.neuron.multiplier_bits, False),
    }.get(memory.memory, (0, True))
    if bits:
        count = memory.shape.width // bits
        wanted, held = (
            unpack_rows(part, count=count, bits=bits, signed=signed) for part in (expected, found)
        )
    else:
        places = list(tile.constants_fields.items())
        wanted, held = (
            np.concatenate(
                [
                    unpack_rows(part, offset=offset, count=1, bits=width, signed=name == "v0")
                    for name, (offset, width) in places
                ],
                axis=1,
            )
            for part in (expected, found)
        )
    places_differ = np.argwhere(wanted != held)
    if not len(places_differ):  # only padding bits above the last field differ
        return MemoryDifference(tile.name, memory.memory, int(rows[0]), wanted.shape[1], 0, 1, len(rows) - 1)
    row, position = places_differ[0]
    return MemoryDifference(
        stage=tile.name,
        memory=memory.memory,
        row=int(rows[row]),
        field=int(position),
        expected=int(wanted[row, position]),
        found=int(held[row, position]),
        others=len(places_differ) - 1,
        place=_synapse(memory, int(rows[row]), int(position)),
    )


def _synapse(memory: TileMemory, row: int, position: int) -> str:
    """What a field of a weight memory joins."""
    if memory.memory not in WEIGHT_MEMORIES:
        return ""
    tile, number = memory.tile, WEIGHT_MEMORIES.index(memory.memory)
    projection = tile.projections[number]
    tap, lane = divmod(position, tile.lanes)
    row, slot = divmod(row, tile.span(number))
    if not tile.tap_unroll:
        tap, row = divmod(row, projection.input.channels)
    neuron = int(lane_channels(tile, number)[row, slot, lane])
    if neuron < 0:
        return "a lane without a synapse"
    if (tile.height, tile.width) == (1, 1):
        return f"input {tap * projection.input.channels + row} to neuron {neuron}"
    y, x = divmod(tap, projection.kernel[1])
    return f"tap y {y}, x {x} from channel {row} to channel {neuron}"
