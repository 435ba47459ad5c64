"""The integrating part of a tile: weight memories, multipliers, and the banks of accumulators."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.address_generator import FIRST_CYCLES, operation_layout
from lmht.rtl.memory import Ram
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.pipeline import delay
from lmht.rtl.ports import LoadSignature
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters

__all__ = ["SynapseLanes", "accumulator_row_layout", "accumulators_layout", "bank_shape"]

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
FORWARDED = (1, 2, 3, 4)
"""Distances of operations on one row at which the memory does not have the older result yet."""


def accumulator_row_layout(parameters: TileParameters) -> data.ArrayLayout:
    """One row of a bank: ``A[u]`` of every lane, ``lanes x T_in`` signed fields of ``AB`` bits."""
    return data.ArrayLayout(accumulators_layout(parameters), parameters.lanes)


def accumulators_layout(parameters: TileParameters) -> data.ArrayLayout:
    """``A[u]`` of one neuron: ``T_in`` signed fields of ``AB`` bits."""
    return data.ArrayLayout(signed(parameters.neuron.accumulator_bits), parameters.neuron.input_steps)


def bank_shape(parameters: TileParameters) -> MemoryShape:
    """The memory of one bank."""
    return MemoryShape(width=accumulator_row_layout(parameters).size, depth=parameters.bank_rows)


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
    ``reading``, ``read_bank`` : in, an update owns this bank
    ``read_row``, ``read_enable`` : in, its read port; ``read_enable`` = 0 holds ``read_data``
    ``read_data`` : out, :func:`accumulator_row_layout`, 2 cycles (with ``read_enable``) after ``read_row``

    A bank is either integrated into or read: while ``reading``, ``read_bank`` must name a bank that no operation of
    the last ``SETTLE_CYCLES`` cycles touched. Rows need no clearing: the first operation on one starts at zero.

    Results of operations on the same row that are still on their way are forwarded, so operations may hit the
    same row in every cycle. Where an event meets one pixel and all its groups, a row returns every `groups` cycles
    at the earliest; distances that cannot occur are not built.
    """

    def __init__(self, *, parameters: TileParameters):
        self.parameters = parameters
        super().__init__(
            {
                "operation": In(operation_layout(parameters)),
                "operation_valid": In(1),
                "first": In(1),
                **{
                    f"load_{name}": In(LoadSignature(parameters.memories[name]))
                    for name in WEIGHT_MEMORIES[: len(parameters.projections)]
                },
                "reading": In(1),
                "read_bank": In(range(parameters.banks)),
                "read_row": In(bank_shape(parameters).row_bits),
                "read_enable": In(1),
                "read_data": Out(accumulator_row_layout(parameters)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        row_layout = accumulator_row_layout(parameters)
        product_row = self._products(m)

        # Counted from the read of the accumulators. Cycle 2: they are there. Cycle 3: product and operand.
        # Cycle 4: sum, to be written. Forwarding looks back two cycles further.
        distances = [distance for distance in FORWARDED if self._possible(distance)]
        target = Signal(
            data.StructLayout({"bank": range(parameters.banks), "row": range(parameters.bank_rows)})
        )
        m.d.comb += [target.bank.eq(self.operation.bank), target.row.eq(self.operation.row)]
        valid = [delay(m, self.operation_valid, ACCUMULATOR_CYCLE, name="valid_late", reset_less=False)]
        where = [delay(m, target, ACCUMULATOR_CYCLE, name="target_late")]
        for cycle in range(1, max(4, READ_CYCLES - 1 + max(distances, default=0)) + 1):
            valid.append(delay(m, valid[-1], 1, name=f"valid_{cycle}", reset_less=False))
            where.append(delay(m, where[-1], 1, name=f"target_{cycle}"))
        first = delay(m, self.first, ACCUMULATOR_CYCLE - FIRST_CYCLES + READ_CYCLES, name="first_late")

        sum_row = Signal(row_layout, reset_less=True)
        banks = []
        for bank in range(parameters.banks):
            ram = Ram(m, f"accumulators_{bank}", shape=bank_shape(parameters))
            owned = Signal(name=f"owned_{bank}")
            m.d.comb += [
                owned.eq(self.reading & (self.read_bank == bank)),
                ram.read_row.eq(Mux(owned, self.read_row, where[0].row)),
                # An integrating bank's read pipeline runs freely, a bank in its update holds its row.
                ram.read_enable.eq(Mux(owned, self.read_enable, 1)),
                ram.write_enable.eq(valid[4] & (where[4].bank == bank)),
                ram.write_row.eq(where[4].row),
                ram.write_data.eq(sum_row),
            ]
            banks.append(ram)
        stored_rows = Array(ram.read_data for ram in banks)
        m.d.comb += self.read_data.eq(stored_rows[self.read_bank])

        # Operand for the operation in cycle 2. Distance d: the older operation is in its cycle 2 + d, and its sum is
        # d - 2 cycles old. The hits are found a cycle ahead: they steer whole rows.
        hits = {
            distance: delay(
                m,
                valid[READ_CYCLES - 1 + distance]
                & (where[READ_CYCLES - 1 + distance] == where[READ_CYCLES - 1]),
                1,
                name=f"hit_{distance}",
            )
            for distance in distances
        }
        older_sums = {2: sum_row.as_value()}
        for distance in (3, 4) if 4 in distances else ():
            older_sums[distance] = delay(m, older_sums[distance - 1], 1, name=f"sum_row_{distance}")
        value: Value = stored_rows[where[READ_CYCLES].bank]
        for distance in sorted(set(distances) - {1}, reverse=True):  # the youngest result wins
            value = Mux(hits[distance], older_sums[distance], value)
        operand_row = Signal(row_layout, reset_less=True)
        m.d.sync += operand_row.as_value().eq(Mux(first, 0, value))

        operand = Signal(row_layout)
        m.d.comb += operand.eq(operand_row)
        if 1 in distances:
            # The sum of the last cycle is this one's operand.
            from_sum = delay(m, hits[1] & ~first, 1, name="from_sum")
            with m.If(from_sum):
                m.d.comb += operand.eq(sum_row)
        for lane in range(parameters.lanes):
            for step in range(parameters.neuron.input_steps):
                m.d.sync += sum_row[lane][step].eq(operand[lane][step] + product_row[lane][step])
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
            zeros = Const(0, projection.shift)
            bits = projection.weight_bits
            weight_rows.append(
                [_signed(zeros, ram.read_data[lane * bits : (lane + 1) * bits]) for lane in range(lanes)]
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
            for projection in parameters.projections
            for reach in (
                projection.open_rows,
                min(-(-projection.kernel[1] // projection.stride[1]), parameters.width),
            )
        )
        return parameters.groups <= distance if one_pixel and not parameters.partial else True


def _signed(zeros: Const, weight: Value) -> Value:
    """A weight with zeros below it."""
    return Cat(zeros, weight).as_signed()
