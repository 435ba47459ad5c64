"""The integrating part of a tile: weight memories, multipliers, and the banks of accumulators."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.accumulators import (
    FIRST_CYCLE,
    FORWARDED,
    PRODUCT_CYCLE,
    READ_CYCLES,
    WRITTEN_CYCLE,
    AccumulatorBanks,
)
from lmht.rtl.address_generator import FIRST_CYCLES, operation_layout
from lmht.rtl.event_address import column_reach
from lmht.rtl.memory import Ram
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.pipeline import delay
from lmht.rtl.ports import LoadSignature
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters

__all__ = [
    "SynapseLanes",
    "accumulator_row_layout",
    "accumulators_layout",
    "read_port",
    "shifted_weight",
    "weight_ports",
]

WEIGHT_CYCLES = READ_CYCLES + 1
"""Cycles from an operation to its weights at the multipliers. Block RAMs, multipliers and accumulators lie far from
each other in an FPGA: each way between them gets a register of its own."""
PRODUCT_CYCLES = 2
"""Cycles from there to the products at the adders."""
ACCUMULATOR_CYCLE = WEIGHT_CYCLES + PRODUCT_CYCLES - PRODUCT_CYCLE
"""Cycle of an operation in which the read of its accumulators begins, so that operands and products meet."""


def accumulator_row_layout(parameters: TileParameters) -> data.ArrayLayout:
    """One row of a bank: ``A[u]`` of every lane, ``lanes x T_in`` signed fields of ``AB`` bits."""
    return data.ArrayLayout(accumulators_layout(parameters), parameters.lanes)


def accumulators_layout(parameters: TileParameters) -> data.ArrayLayout:
    """``A[u]`` of one neuron: ``T_in`` signed fields of ``AB`` bits."""
    return data.ArrayLayout(signed(parameters.neuron.accumulator_bits), parameters.neuron.input_steps)


def read_port(parameters: TileParameters) -> dict[str, wiring.Member]:
    """Members through which an update reads the banks that it owns (``reading``, one bit each): row ``read_row`` of
    ``read_bank`` is in ``read_data`` 2 cycles later; ``read_enable`` = 0 holds that."""
    rows = MemoryShape(width=accumulator_row_layout(parameters).size, depth=parameters.bank_rows)
    return {
        "reading": In(parameters.banks),
        "read_bank": In(range(parameters.banks)),
        "read_row": In(rows.row_bits),
        "read_enable": In(1),
        "read_data": Out(accumulator_row_layout(parameters)),
    }


def weight_ports(parameters: TileParameters) -> dict[str, wiring.Member]:
    """Members through which the weight memories are loaded, one for each projection."""
    return {
        f"load_{name}": In(LoadSignature(parameters.memories[name]))
        for name in WEIGHT_MEMORIES[: len(parameters.projections)]
    }


def shifted_weight(weight: Value, shift: int) -> Value:
    """A weight of a memory row as a signed number, shifted left."""
    return Cat(Const(0, shift), weight).as_signed()


class SynapseLanes(wiring.Component):
    """``A[u, n] += w[n, c, ky, kx] k[u, c] << shift`` for `lanes` neurons of a pixel and all ``T_in`` steps a cycle
    (NUMERICS.md, step 1).

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``operation``, ``operation_valid`` : in, :func:`~lmht.rtl.address_generator.operation_layout`, one a cycle
    ``first`` : in, ``FIRST_CYCLES`` cycles later: the accumulators start at zero
    ``load_weights``, ``load_residual_weights`` : in, :class:`~lmht.rtl.ports.LoadSignature`, the second one only with a
        second projection
    and those of :func:`read_port`

    A bank is either integrated into or read: while it is ``reading``, and for :attr:`SETTLE_CYCLES` cycles before, no
    operation may touch it. Rows need no clearing: the first operation on one starts at zero.

    Operations may hit the same row in every cycle. Where an event meets one pixel and all its groups, a row returns
    every `groups` cycles at the earliest; for distances that cannot occur nothing is forwarded.
    """

    SETTLE_CYCLES = ACCUMULATOR_CYCLE + WRITTEN_CYCLE
    """Cycles after an operation from which a read of its accumulator row sees the result."""

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                "operation": In(operation_layout(parameters)),
                "operation_valid": In(1),
                "first": In(1),
                **weight_ports(parameters),
                **read_port(parameters),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        m.submodules.accumulators = accumulators = AccumulatorBanks(
            row=accumulator_row_layout(parameters),
            banks=parameters.banks,
            rows=parameters.bank_rows,
            distances=[distance for distance in FORWARDED if self._possible(distance)],
        )
        target = Signal(
            data.StructLayout({"bank": accumulators.bank.shape(), "row": accumulators.row.shape()})
        )
        late = delay(m, target, ACCUMULATOR_CYCLE, name="target_late")
        m.d.comb += [
            target.bank.eq(self.operation.bank),
            target.row.eq(self.operation.row),
            accumulators.bank.eq(late.bank),
            accumulators.row.eq(late.row),
            accumulators.valid.eq(
                delay(m, self.operation_valid, ACCUMULATOR_CYCLE, name="valid_late", reset_less=False)
            ),
            accumulators.first.eq(
                delay(m, self.first, ACCUMULATOR_CYCLE + FIRST_CYCLE - FIRST_CYCLES, name="first_late")
            ),
            accumulators.products.eq(self._products(m)),
            accumulators.reading.eq(self.reading),
            accumulators.read_bank.eq(self.read_bank),
            accumulators.read_row.eq(self.read_row),
            accumulators.read_enable.eq(self.read_enable),
            self.read_data.eq(accumulators.read_data),
        ]
        return m

    def _products(self, m: Module) -> data.View:
        """Weights times levels, ``WEIGHT_CYCLES + PRODUCT_CYCLES`` behind the operation."""
        parameters = self.parameters
        lanes = parameters.lanes
        weight_rows = []
        for index, projection in enumerate(parameters.projections):
            name = WEIGHT_MEMORIES[index]
            ram = Ram(m, name, shape=parameters.memories[name])
            ram.connect_load(m, getattr(self, f"load_{name}"))
            m.d.comb += ram.read_row.eq(self.operation.weight_row)
            weight_rows.append(
                [
                    shifted_weight(ram.read_data.word_select(lane, projection.weight_bits), projection.shift)
                    for lane in range(lanes)
                ]
            )
        weights = weight_rows[0]
        if len(weight_rows) > 1:
            of_residual = delay(m, self.operation.projection, READ_CYCLES, name="of_residual")
            weights = [Mux(of_residual, other, main) for main, other in zip(*weight_rows, strict=True)]
        levels = delay(m, self.operation.levels, WEIGHT_CYCLES, name="levels")
        multiplied_row = Signal(accumulator_row_layout(parameters), reset_less=True)
        for lane in range(lanes):
            weight = delay(m, weights[lane], WEIGHT_CYCLES - READ_CYCLES, name=f"weight_{lane}")
            for step in range(parameters.neuron.input_steps):
                m.d.sync += multiplied_row[lane][step].eq(weight * levels[step])
        return delay(m, multiplied_row, PRODUCT_CYCLES - 1, name="product_row")

    def _possible(self, distance: int) -> bool:
        """Whether two operations `distance` cycles apart can hit the same row."""
        parameters = self.parameters
        one_pixel = all(
            reach == 1
            for index, projection in enumerate(parameters.projections)
            for reach in (projection.open_rows, column_reach(parameters, index))
        )
        return parameters.groups <= distance if one_pixel and not parameters.partial else True
