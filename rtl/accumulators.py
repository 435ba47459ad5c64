"""Banks of accumulators: read, add, write back, one row a cycle, with results on their way forwarded."""

from __future__ import annotations

from collections.abc import Collection

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lmht.rtl.memory import Ram
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.pipeline import delay

__all__ = ["FIRST_CYCLE", "FORWARDED", "PRODUCT_CYCLE", "READ_CYCLES", "WRITTEN_CYCLE", "AccumulatorBanks"]

READ_CYCLES = 2
"""Cycles a read takes, through the registered output of its memory."""
FIRST_CYCLE = READ_CYCLES
"""Cycle of an operation, counted from the read of its row, in which its operand is chosen."""
PRODUCT_CYCLE = READ_CYCLES + 1
"""Cycle in which its products are added."""
WRITTEN_CYCLE = PRODUCT_CYCLE + 2
"""Cycle from which a read sees the result."""
FORWARDED = (1, 2, 3, 4)
"""Distances of operations on one row at which the memory does not have the older result yet."""


class AccumulatorBanks(wiring.Component):
    """Add a row of products to a row of a bank in every cycle.

    Parameters
    ----------
    row : ArrayLayout
        Accumulators of a row: an array over lanes of arrays over steps of signed numbers.
    banks, rows : int
        Memories and their depth.
    distances : collection of int
        Distances, of :data:`FORWARDED`, at which operations may hit the same row.

    Members
    -------
    ``valid``, ``bank``, ``row`` : in, an operation
    ``first`` : in, :data:`FIRST_CYCLE` cycles later: the row starts at zero
    ``products`` : in, like `row`, :data:`PRODUCT_CYCLE` cycles later
    ``reading`` : in, one bit a bank: someone else owns its read port
    ``read_bank``, ``read_row``, ``read_enable`` : in, that port; ``read_enable`` = 0 holds ``read_data``
    ``read_data`` : out, `row`, 2 cycles (with ``read_enable``) after ``read_row``

    While a bank is ``reading`` no operation may hit it, nor may one of the :data:`WRITTEN_CYCLE` cycles before.
    """

    def __init__(
        self, *, row: data.ArrayLayout, banks: int, rows: int, distances: Collection[int] = FORWARDED
    ):
        self._layout = row
        self._shape = MemoryShape(width=row.size, depth=rows)
        self._banks = banks
        self._distances = sorted(distances)
        row_bits = max(1, bits_for(rows - 1))
        super().__init__(
            {
                "valid": In(1),
                "bank": In(range(banks)),
                "row": In(row_bits),
                "first": In(1),
                "products": In(row),
                "reading": In(banks),
                "read_bank": In(range(banks)),
                "read_row": In(row_bits),
                "read_enable": In(1),
                "read_data": Out(row),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        distances = self._distances

        # Cycle 2: the row is there. Cycle 3: product and operand. Cycle 4: sum, to be written.
        target = Signal(data.StructLayout({"bank": self.bank.shape(), "row": self.row.shape()}))
        m.d.comb += [target.bank.eq(self.bank), target.row.eq(self.row)]
        valid, where = [self.valid], [target]
        for cycle in range(1, max(4, READ_CYCLES - 1 + max(distances, default=0)) + 1):
            valid.append(delay(m, valid[-1], 1, name=f"valid_{cycle}", reset_less=False))
            where.append(delay(m, where[-1], 1, name=f"target_{cycle}"))

        sum_row = Signal(self._layout, reset_less=True)
        banks = []
        for bank in range(self._banks):
            ram = Ram(m, f"bank_{bank}", shape=self._shape)
            owned = self.reading[bank]
            m.d.comb += [
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
        now = READ_CYCLES - 1
        hits = {
            distance: delay(
                m, valid[now + distance] & (where[now + distance] == where[now]), 1, name=f"hit_{distance}"
            )
            for distance in distances
        }
        older_sums = {2: sum_row.as_value()}
        for distance in range(3, max(distances, default=0) + 1):
            older_sums[distance] = delay(m, older_sums[distance - 1], 1, name=f"sum_row_{distance}")
        value: Value = stored_rows[where[READ_CYCLES].bank]
        for distance in sorted(set(distances) - {1}, reverse=True):  # the youngest result wins
            value = Mux(hits[distance], older_sums[distance], value)
        operand_row = Signal(self._layout, reset_less=True)
        m.d.sync += operand_row.as_value().eq(Mux(self.first, 0, value))

        operand = Signal(self._layout)
        m.d.comb += operand.eq(operand_row)
        if 1 in distances:
            # The sum of the last cycle is this one's operand.
            from_sum = delay(m, hits[1] & ~self.first, 1, name="from_sum")
            with m.If(from_sum):
                m.d.comb += operand.eq(sum_row)
        for lane in range(self._layout.length):
            for step in range(self._layout.elem_shape.length):
                m.d.sync += sum_row[lane][step].eq(operand[lane][step] + self.products[lane][step])
        return m
