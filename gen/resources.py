"""Logic, memories and multipliers that a design takes, before any synthesis: what the planner fills a device by.

The model counts what the architecture says: multipliers and adders of the lanes and the neuron array, registers on the
way, memories in blocks. Its factors are fitted to Yosys (``synth_ecp5``) on tiles of different shapes; it is for
choosing a size, not for reporting one: ``lmht bench --place`` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmht.rtl.accumulators import AccumulatorMemory
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.operation_distance import least_distance
from lmht.rtl.ports import BUS_DATA_BITS
from lmht.rtl.projection import open_rows
from lmht.rtl.row_queue import PAIR_CYCLES
from lmht.rtl.synapse_lanes import accumulator_row_layout
from lmht.rtl.tile_parameters import TileParameters
from lmht.rtl.update_sequencer import row_interval

__all__ = [
    "DEVICES",
    "Device",
    "Resources",
    "design_resources",
    "memory_blocks",
    "tile_features",
    "tile_resources",
]

USABLE = 0.85
"""Part of the logic that place and route can use without losing the clock."""


@dataclass(frozen=True)
class Resources:
    """Amounts of a device's parts."""

    lut4: float = 0
    flip_flops: float = 0
    block_rams: float = 0
    multipliers: float = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.lut4 + other.lut4,
            self.flip_flops + other.flip_flops,
            self.block_rams + other.block_rams,
            self.multipliers + other.multipliers,
        )


@dataclass(frozen=True)
class Device:
    """What a device has; `block_shapes` are the shapes that one of its memory blocks can take."""

    name: str
    has: Resources
    block_shapes: tuple[MemoryShape, ...]

    @property
    def usable(self) -> Resources:
        """What a design may take of it."""
        has = self.has
        return Resources(has.lut4 * USABLE, has.flip_flops * USABLE, has.block_rams, has.multipliers)


def _shapes(*shapes: tuple[int, int]) -> tuple[MemoryShape, ...]:
    return tuple(MemoryShape(width=width, depth=depth) for width, depth in shapes)


_ECP5_BLOCKS = _shapes((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
_ICE40_BLOCKS = _shapes((16, 256), (8, 512), (4, 1024), (2, 2048))

DEVICES = {
    device.name: device
    for device in (
        Device("ecp5-25k", Resources(24288, 24288, 56, 28), _ECP5_BLOCKS),
        Device("ecp5-45k", Resources(43848, 43848, 108, 72), _ECP5_BLOCKS),
        Device("ecp5-85k", Resources(83640, 83640, 208, 156), _ECP5_BLOCKS),
        Device("ice40up5k", Resources(5280, 5280, 30, 8), _ICE40_BLOCKS),
    )
}
"""Devices by name, from their data sheets."""

SMALL_DEPTH, SMALL_BITS = 32, 1024
"""Up to such a depth or size a memory goes into look-up tables: 4 of them for 16 rows of 4 bits."""
MULTIPLIER_BITS = 18

# LUT4 and flip-flops of a tile for each of its features; see :func:`tile_features`. Fitted to six tiles of 4 to 32
# lanes: within 11 % of Yosys' look-up tables, and within 9 % of its flip-flops.
_LUT4 = (0.0, 1.638, 572.0, 2.831, 381.0)
_FLIP_FLOPS = (1.286, 0.0, 737.0, 3.808, 266.0)
# Frame encoder, readout, configuration bus; and for each tile its router, its counters and the enables of its loads.
# Fitted to what Yosys makes of these parts in four designs of 2 to 6 tiles: within 4 % and 7 %.
_FRAME = Resources(lut4=1220, flip_flops=1080)
_PER_TILE = Resources(lut4=220, flip_flops=285)
_COUNTERS = MemoryShape(width=BUS_DATA_BITS, depth=256)
"""Sums and copies of the counters, for up to 128 registers of stages."""


def tile_features(tile: TileParameters) -> tuple[float, ...]:
    """What the logic of a tile grows with.

    Bits of registers as wide as an accumulator row: sums, those that are forwarded, rows that wait for the neurons;
    bits of adders and of the choice among forwarded sums; 1 for a map of several rows; bits of mixing sums and
    membranes; and 1 for what every tile has.
    """
    neuron = tile.neuron
    copies = _adder_rows(tile)
    memory = AccumulatorMemory(
        row=accumulator_row_layout(tile),
        banks=1 if tile.tap_unroll else tile.banks,
        rows=tile.bank_rows,
        least_distance=least_distance(tile),
    )
    forwarded = memory.distances
    waiting = 2 if row_interval(tile) >= PAIR_CYCLES else 1
    registers = copies * (1 + memory.first_cycle + max(forwarded.stop - 2, 0) * bool(forwarded)) + waiting
    sums = tile.mix_multipliers * neuron.mix_bits + neuron.steps * neuron.membrane_bits
    row = tile.lanes * neuron.input_steps * neuron.accumulator_bits
    return (
        float(row * registers),
        float(row * copies * (1 + len(forwarded))),
        float(tile.height > 1),
        float(tile.update_lanes * sums),
        1.0,
    )


def tap_columns(tile: TileParameters) -> int:
    """Memories that a bank of accumulators is made of: with `tap_unroll`, one for each column that an event reaches."""
    if not tile.tap_unroll:
        return 1
    return max(
        open_rows(projection.kernel[1], projection.stride[1], tile.width) for projection in tile.projections
    )


def _adder_rows(tile: TileParameters) -> int:
    """Rows of adders, each with an accumulator memory of its own."""
    return tile.banks * tap_columns(tile) if tile.tap_unroll else 1


def memory_blocks(shape: MemoryShape, device: Device) -> int:
    """Memory blocks of a device that a memory takes; 0 if it is small."""
    if _is_small(shape):
        return 0
    # Blocks are not stacked: a deep memory is stored in columns (`lmht_ram.v`).
    deepest = max(block.depth for block in device.block_shapes)
    deep = [block for block in device.block_shapes if block.depth >= min(shape.depth, deepest)]
    return min(-(-shape.width // block.width) * -(-shape.depth // block.depth) for block in deep)


def tile_resources(tile: TileParameters, device: Device) -> Resources:
    """What a tile takes."""
    memories = _memories(tile)
    small = sum(-(-shape.width // 4) * -(-shape.depth // 16) * 4 for shape in memories if _is_small(shape))
    features = tile_features(tile)
    return Resources(
        lut4=sum(map(float.__mul__, _LUT4, features)) + small,
        flip_flops=sum(map(float.__mul__, _FLIP_FLOPS, features)),
        block_rams=sum(memory_blocks(shape, device) for shape in memories),
        multipliers=_multipliers(tile),
    )


def design_resources(tiles: Sequence[TileParameters], device: Device) -> Resources:
    """What all tiles and what is around them take."""
    counters = Resources(block_rams=memory_blocks(_COUNTERS, device))
    around = [_FRAME, counters, *(_PER_TILE for _ in tiles)]
    return sum((*around, *(tile_resources(tile, device) for tile in tiles)), Resources())


def _is_small(shape: MemoryShape) -> bool:
    return shape.depth <= SMALL_DEPTH or shape.width * shape.depth <= SMALL_BITS


def _memories(tile: TileParameters) -> list[MemoryShape]:
    """All memories of a tile, loadable or not."""
    lane_bits = tile.lanes * tile.neuron.input_steps * tile.neuron.accumulator_bits
    memories = [shape for name, shape in tile.memories.items() if name != "constants"]
    columns = tap_columns(tile)
    if tile.tap_unroll:
        bank = MemoryShape(width=lane_bits, depth=-(-tile.width // columns) * tile.groups)
        memories += [bank] * _adder_rows(tile)
    else:
        memories.append(MemoryShape(width=lane_bits, depth=tile.banks << (tile.bank_rows - 1).bit_length()))
    memories += [
        MemoryShape(width=projection.input.payload_bits, depth=projection.fifo)
        for projection in tile.projections
        if projection.fifo
    ]
    if tile.pooling is not None:
        bits = tile.update_lanes * tile.neuron.steps * tile.output.level_bits
        rows = tile.output.width * tile.update_rows
        memories += [MemoryShape(width=bits, depth=rows)] * 2
    return memories


def _multipliers(tile: TileParameters) -> int:
    """Of 18 x 18 bits: for products of the lanes that are not selected, for the mixing and for the leak."""
    neuron = tile.neuron
    products = 0 if tile.selects_products else tile.lanes * neuron.input_steps * _adder_rows(tile)
    mixing = _multiplier_blocks(neuron.accumulator_bits, neuron.multiplier_bits + 1) * tile.mix_multipliers
    leaking = (
        _multiplier_blocks(neuron.membrane_bits, neuron.leak_bits + 2) * neuron.steps if neuron.leak else 0
    )
    return products + tile.update_lanes * (mixing + leaking)


def _multiplier_blocks(first: int, second: int) -> int:
    return -(-first // MULTIPLIER_BITS) * -(-second // MULTIPLIER_BITS)
