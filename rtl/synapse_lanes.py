"""The integrating part of a tile: weight memory, multipliers, and two banks of accumulators."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.address_generator import operation_layout
from lmht.rtl.memory import Ram
from lmht.rtl.parameters import MemoryShape, TileParameters
from lmht.rtl.pipeline import delay
from lmht.rtl.ports import LoadSignature

__all__ = ["SynapseLanes", "accumulator_row_layout"]

READ_CYCLES = 2
"""Cycles a read takes, through the registered output of its memory."""
WEIGHT_CYCLES = READ_CYCLES + 1
"""Cycles from an operation to its weights at the multipliers. Block RAMs, multipliers and accumulators lie far from
each other in an FPGA: each way between them gets a register of its own."""
PRODUCT_CYCLES = 2
"""Cycles from there to the products at the adders."""
ACCUMULATOR_CYCLE = WEIGHT_CYCLES + PRODUCT_CYCLES - READ_CYCLES - 1
"""Cycle of an operation in which the read of its accumulators begins, so that operands and products meet."""
SETTLE_CYCLES = ACCUMULATOR_CYCLE + READ_CYCLES + 3
"""Cycles after an operation from which a read of its accumulator row sees the result."""


def accumulator_row_layout(parameters: TileParameters) -> data.ArrayLayout:
    """One row of a bank: ``A[u]`` of every lane, ``lanes x T_in`` signed fields of ``AB`` bits."""
    return data.ArrayLayout(accumulators_layout(parameters), parameters.lanes)


def accumulators_layout(parameters: TileParameters) -> data.ArrayLayout:
    """``A[u]`` of one neuron: ``T_in`` signed fields of ``AB`` bits."""
    return data.ArrayLayout(signed(parameters.neuron.accumulator_bits), parameters.neuron.input_steps)


class SynapseLanes(wiring.Component):
    """``A[u, n] += w[n, j] k[u, j]`` for `lanes` neurons and all ``T_in`` steps a cycle (NUMERICS.md, step 1).

    Parameters
    ----------
    parameters : TileParameters

    Members
    -------
    ``operation``, ``operation_valid`` : in, :func:`~lmht.rtl.address_generator.operation_layout`, one a cycle
    ``load_weights`` : in, :class:`~lmht.rtl.ports.LoadSignature`
    ``reading``, ``read_bank`` : in, an update owns this bank
    ``read_group``, ``read_enable`` : in, its read port; ``read_enable`` = 0 holds ``read_data``
    ``read_data`` : out, :func:`accumulator_row_layout`, 2 cycles (with ``read_enable``) after ``read_group``

    A bank is either integrated into or read: while ``reading``, ``read_bank`` must name a bank that no operation of
    the last ``SETTLE_CYCLES`` cycles touched. Rows need no clearing: a frame's first operation on one starts at zero.

    Results of operations on the same row that are still on their way are forwarded, so operations may hit the
    same row in every cycle. A row returns every `groups` cycles at the earliest; where that is more than four
    cycles no forwarding is built.
    """

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                "operation": In(operation_layout(parameters)),
                "operation_valid": In(1),
                "load_weights": In(LoadSignature(parameters.memories["weights"])),
                "reading": In(1),
                "read_bank": In(1),
                "read_group": In(range(parameters.groups)),
                "read_enable": In(1),
                "read_data": Out(accumulator_row_layout(parameters)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        row_layout = accumulator_row_layout(parameters)

        weights = Ram(m, "weights", shape=parameters.memories["weights"])
        weights.connect_load(m, self.load_weights)
        m.d.comb += weights.read_row.eq(self.operation.weight_row)

        # Counted from the read of the accumulators. Cycle 2: they are there. Cycle 3: product and operand.
        # Cycle 4: sum, to be written. Forwarding looks back two cycles further.
        valid = [delay(m, self.operation_valid, ACCUMULATOR_CYCLE, name="valid_late", reset_less=False)]
        target = Signal(data.StructLayout({"bank": 1, "first": 1, "group": range(parameters.groups)}))
        m.d.comb += [
            target.bank.eq(self.operation.bank),
            target.first.eq(self.operation.first),
            target.group.eq(self.operation.group),
        ]
        where = [delay(m, target, ACCUMULATOR_CYCLE, name="target_late")]
        for cycle in range(1, READ_CYCLES + (5 if self._possible(4) else 3)):
            valid.append(delay(m, valid[-1], 1, name=f"valid_{cycle}", reset_less=False))
            where.append(delay(m, where[-1], 1, name=f"target_{cycle}"))
        levels = delay(m, self.operation.levels, WEIGHT_CYCLES, name="levels")
        weight_row = delay(m, weights.read_data, WEIGHT_CYCLES - READ_CYCLES, name="weight_row")

        multiplied_row = Signal(row_layout, reset_less=True)
        for lane in range(parameters.lanes):
            weight = weight_row.word_select(lane, parameters.weight_bits).as_signed()
            for step in range(parameters.neuron.input_steps):
                m.d.sync += multiplied_row[lane][step].eq(weight * levels[step])
        product_row = delay(m, multiplied_row, PRODUCT_CYCLES - 1, name="product_row")

        sum_row = Signal(row_layout, reset_less=True)
        banks = []
        for bank in range(2):
            ram = Ram(
                m,
                f"accumulators_{bank}",
                shape=MemoryShape(width=row_layout.size, depth=parameters.groups),
            )
            owned = Signal(name=f"owned_{bank}")
            m.d.comb += [
                owned.eq(self.reading & (self.read_bank == bank)),
                ram.read_row.eq(Mux(owned, self.read_group, where[0].group)),
                # An integrating bank's read pipeline runs freely, a bank in its update holds its row.
                ram.read_enable.eq(Mux(owned, self.read_enable, 1)),
                ram.write_enable.eq(valid[4] & (where[4].bank == bank)),
                ram.write_row.eq(where[4].group),
                ram.write_data.eq(sum_row),
            ]
            banks.append(ram)
        m.d.comb += self.read_data.eq(Mux(self.read_bank, banks[1].read_data, banks[0].read_data))

        operand_row = Signal(row_layout, reset_less=True)
        stored = Mux(where[READ_CYCLES].bank, banks[1].read_data, banks[0].read_data)
        m.d.sync += operand_row.as_value().eq(self._forward(m, stored, sum_row, valid, where))

        operand = Signal(row_layout)
        m.d.comb += operand.eq(operand_row)
        if self._possible(1):
            # Distance 1: the sum of the last cycle is this one's operand.
            from_sum = Signal()
            m.d.sync += from_sum.eq(valid[3] & self._same_row(where[3], where[2]) & ~where[2].first)
            with m.If(from_sum):
                m.d.comb += operand.eq(sum_row)
        for lane in range(parameters.lanes):
            for step in range(parameters.neuron.input_steps):
                m.d.sync += sum_row[lane][step].eq(operand[lane][step] + product_row[lane][step])
        return m

    def _possible(self, distance: int) -> bool:
        """Whether two operations `distance` cycles apart can hit the same row."""
        return self.parameters.groups <= distance

    @staticmethod
    def _same_row(a: data.View, b: data.View) -> Value:
        return (a.group == b.group) & (a.bank == b.bank)

    def _forward(
        self, m: Module, stored: Value, sum_row: data.View, valid: list[Signal], where: list[data.View]
    ) -> Value:
        """Operand for the operation in cycle 2: zero, a result that the memory did not have yet, or the stored row.

        Distance ``d`` in 2 … 4: the older operation is in its cycle ``2 + d``; its sum is ``d - 2`` cycles old.
        """
        now = where[READ_CYCLES]
        value: Value = stored
        older_sum: Value = sum_row.as_value()
        candidates = []
        for distance in (2, 3, 4):
            if self._possible(distance):
                cycle = READ_CYCLES + distance
                candidates.append((valid[cycle] & self._same_row(where[cycle], now), older_sum))
            if self._possible(4) and distance < 4:
                older_sum = delay(m, older_sum, 1, name=f"sum_row_{distance - 1}_old")
        for hit, older in reversed(candidates):  # the youngest result wins
            value = Mux(hit, older, value)
        return Mux(now.first, 0, value)
