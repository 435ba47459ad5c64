"""One memory for all accumulators that an adder row works on: read, add, write back, one row a cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lmht.rtl.memory import Ram
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.pipeline import delay

__all__ = ["PRODUCT_CYCLE", "WRITTEN_CYCLE", "AccumulatorMemory"]

PRODUCT_CYCLE = 2
"""Cycle of an operation, counted from the read of its row, in which its products are added."""
WRITTEN_CYCLE = 4
"""Cycle from which a read sees the result."""
FEW_ROWS = 16
"""Up to such a depth the memory is made of look-up tables (``lmht_rows``), beyond of block RAM."""


class AccumulatorMemory(wiring.Component):
    """Add a row of products to a row of the memory in every cycle, or show a row.

    Parameters
    ----------
    row : ArrayLayout
        Accumulators of a row: an array over lanes of arrays over steps of signed numbers.
    banks, rows : int
        Rows of the memory: ``bank * 2**n + row`` with the fewest bits ``n`` that hold ``rows - 1``.
    least_distance : int
        Fewest cycles between two operations on the same row. Results that are not in the memory by then are forwarded.

    Members
    -------
    ``valid``, ``bank``, ``row`` : in, an operation; without ``valid`` a row to be shown
    ``first`` : in, :attr:`first_cycle` cycles later: the row of this operation starts at zero
    ``products`` : in, like `row`, :data:`PRODUCT_CYCLE` cycles later
    ``read_data`` : out, `row`, in the same cycle: what the memory held, for a row to be shown

    A row may be shown from :data:`WRITTEN_CYCLE` cycles after its last operation on. Throughput: one operation or row
    to be shown a cycle. Rows need no clearing: the first operation on one starts at zero. A block RAM keeps a row of
    zeros for that, written in the second cycle behind a reset, when no operation can be there yet; look-up tables have
    a clear.
    """

    def __init__(self, *, row: data.ArrayLayout, banks: int, rows: int, least_distance: int = 1):
        self._layout = row
        self._row_bits = row_bits = bits_for(rows - 1) if rows > 1 else 0
        self._bank_bits = bits_for(banks - 1) if banks > 1 else 0
        self._address_bits = max(1, row_bits + self._bank_bits)
        self._few = 1 << self._address_bits <= FEW_ROWS
        self._zero_row = ((banks - 1) << row_bits) + rows
        self.first_cycle = 1 if self._few else 0
        # Look-up tables are read a cycle later than block RAM: they know a result that is written in that cycle.
        self.distances = range(least_distance, WRITTEN_CYCLE - self.first_cycle)
        super().__init__(
            {
                "valid": In(1),
                "bank": In(max(1, self._bank_bits)),
                "row": In(max(1, row_bits)),
                "first": In(1),
                "products": In(row),
                "read_data": Out(row),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid: list[Value] = [self.valid]
        place = Signal(self._address_bits)
        m.d.comb += place.eq(Cat(self.row[: self._row_bits], self.bank[: self._bank_bits]))
        where: list[Value] = [place]
        for cycle in range(1, WRITTEN_CYCLE + 1):
            valid.append(delay(m, valid[-1], 1, name=f"valid_{cycle}", reset_less=False))
            where.append(delay(m, where[-1], 1, name=f"where_{cycle}"))
        # Of the operation in cycle 3, to be written.
        sum_row = Signal(self._layout, reset_less=True)
        write = WRITTEN_CYCLE - 1
        starts_at_zero = self.first & valid[self.first_cycle]
        if self._few:
            m.submodules.memory = Instance(
                "lmht_rows",
                p_WIDTH=self._layout.size,
                p_DEPTH=1 << self._address_bits,
                p_ADDRESS_BITS=self._address_bits,
                i_clk=ClockSignal(),
                i_write_enable=valid[write],
                i_write_address=where[write],
                i_write_data=sum_row.as_value(),
                i_read_address=where[0],
                i_clear=starts_at_zero,
                o_read_data=self.read_data.as_value(),
            )
        else:
            memory = Ram(m, "memory", shape=MemoryShape(width=self._layout.size, depth=self._zero_row + 1))
            zero = Const(self._zero_row, len(memory.read_row))
            started = Signal()
            zeroed = Signal()
            m.d.sync += [started.eq(1), zeroed.eq(started)]
            m.d.comb += [
                memory.read_row.eq(Mux(starts_at_zero, zero, where[0])),
                memory.write_enable.eq(valid[write] | ~zeroed),
                memory.write_row.eq(Mux(zeroed, where[write], zero)),
                memory.write_data.eq(sum_row),
                self.read_data.eq(memory.read_data),
            ]
        self._add(m, sum_row, self._operand(m, sum_row, valid, where))
        if not self._few:
            with m.If(~started):
                m.d.sync += sum_row.eq(0)
        return m

    def _operand(self, m: Module, sum_row: data.View, valid: list[Value], where: list[Value]) -> Value:
        """What the products of the operation in cycle 2 are added to: the youngest result of its row."""
        operand: Value = self.read_data.as_value()
        older_sums: dict[int, Value] = {1: sum_row.as_value()}
        for distance in range(2, self.distances.stop):
            older_sums[distance] = delay(m, older_sums[distance - 1], 1, name=f"sum_row_{distance}")
        for distance in reversed(self.distances):
            operand = Mux(self._hit(m, valid, where, distance), older_sums[distance], operand)
        return operand

    def _hit(self, m: Module, valid: list[Value], where: list[Value], distance: int) -> Value:
        """The operation `distance` cycles before that in cycle 2 works on the same row.

        Found a cycle ahead, since it steers a whole row.
        """
        hit = valid[1 + distance] & (where[1 + distance] == where[1])
        found: Value = delay(m, hit, 1, name=f"hit_{distance}")
        return found

    def _add(self, m: Module, sum_row: data.View, operand: Value) -> None:
        terms = Signal(self._layout)
        m.d.comb += terms.eq(operand)
        for lane in range(self._layout.length):
            for step in range(self._layout.elem_shape.length):
                m.d.sync += sum_row[lane][step].eq(terms[lane][step] + self.products[lane][step])
