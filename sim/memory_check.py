"""Is what a memory image holds what the integer network says? Field by field, named as a designer would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmht.gen.images import Image
from lmht.gen.integer import IntegerNetwork
from lmht.gen.memory_contents import TileMemory, pack_memories, tile_memories
from lmht.gen.pack import unpack_rows
from lmht.rtl.parameters import DesignParameters

__all__ = ["MemoryDifference", "memory_differences"]

_FIELDS = {"weights": "lane", "biases": "update lane", "multipliers": "multiplier", "constants": "constant"}


@dataclass(frozen=True)
class MemoryDifference:
    """One field of a memory image that is not the network's.

    Parameters
    ----------
    stage, memory : str
        Tile, and its memory.
    row, field : int
        Row of the memory and position in the row: lane, update lane or multiplier.
    expected, found : int
    others : int
        Further differences in the same memory.
    place : str
        For a weight: the input and the neuron that it joins.
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
        "weights": (tile.weight_bits, True),
        "biases": (tile.neuron.accumulator_bits, True),
        "multipliers": (tile.neuron.multiplier_bits, False),
    }.get(memory.memory, (0, True))
    if bits:
        count = memory.shape.width // bits
        wanted, held = (
            unpack_rows(part, count=count, bits=bits, signed=signed) for part in (expected, found)
        )
    else:
        places = list(tile.neuron.constants_fields.items())
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


def _synapse(memory: TileMemory, row: int, lane: int) -> str:
    if memory.memory != "weights":
        return ""
    tile = memory.tile
    source, group = divmod(row, tile.groups)
    neuron = group * tile.lanes + lane
    if neuron >= tile.channels:
        return "a lane without a neuron"
    return f"input {source} to neuron {tile.channel_offset + neuron}"
