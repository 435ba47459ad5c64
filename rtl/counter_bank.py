"""Counters of all pulses: a short one at each pulse, and one adder that moves their counts to a memory in turn."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lmht.rtl.memory import Ram
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.select import one_hot_mux

__all__ = ["CounterBank"]

SLOT = 2
"""Cycles of a sweep for each index: the memory's ports serve the counter in the first, the copy in the second."""
FEWEST_SLOTS = 3
"""A sum is written 4 cycles after it was read, and must be there when the next sweep reads it."""
BLOCK = 8
"""Short counters that one multiplexer picks from."""


class CounterBank(wiring.Component):
    """Counters that wrap, and a copy of each as it was at one moment.

    Parameters
    ----------
    most : sequence of int
        Largest amount of each index in a cycle; 0 for an index without a counter, whose copy means nothing.
    bits : int
        Of a counter.

    Members
    -------
    ``amount_<index>`` : in, counted in every cycle
    ``moment`` : out, 1 in the last of every :attr:`sweep_cycles` cycles
    ``snapshot``, ``clear`` : in, heeded in a cycle with ``moment`` only
    ``copying`` : out, copies are being written and read as anything
    ``lookup`` : out, 1 in every other cycle: ``index`` is looked at
    ``index`` : in
    ``copy`` : out, the copy of that index, 2 cycles later

    In a cycle with ``moment`` all short counters hand over what they have counted, that cycle included, and begin at 0
    again; in the sweep that follows, one index after the other is read, added to and written. So a snapshot copies all
    counters as they are at the end of the cycle with ``moment``, and a clear drops what came up to there: both together
    count everything exactly once, as do a snapshot and the next one. A command cannot come while another is carried
    out, since the next ``moment`` is at the sweep's end. ``copying`` is 1 for :attr:`sweep_cycles` + 2 cycles after a
    snapshot and after a reset, which clears counters and copies. Until then copies are those of the last snapshot.

    A short counter is wide enough for :attr:`sweep_cycles` times its largest amount, which is all that it can count
    before it hands over.
    """

    def __init__(self, *, most: Sequence[int], bits: int):
        self.most = tuple(most)
        self.bits = bits
        self._slots = max(FEWEST_SLOTS, len(self.most))
        self.sweep_cycles = SLOT * self._slots
        amounts = {f"amount_{index}": In(range(most + 1)) for index, most in enumerate(self.most) if most}
        super().__init__(
            {
                **amounts,
                "moment": Out(1),
                "snapshot": In(1),
                "clear": In(1),
                "copying": Out(1),
                "lookup": Out(1),
                "index": In(range(self._slots)),
                "copy": Out(bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        at = Signal(range(self._slots))
        turns = Signal(self._slots, init=1)  # a bit for each value of `at`
        second = Signal()  # cycle of the slot
        m.d.sync += [second.eq(~second), self.moment.eq(turns[-1] & ~second)]
        with m.If(second):
            m.d.sync += [at.eq(Mux(turns[-1], 0, at + 1)), turns.eq(turns.rotate_left(1))]
        m.d.comb += self.lookup.eq(second)

        # An index whose slot is cycles 0 and 1 is read in 0; its sum is there in 3, is written as copy in 3 and as
        # counter in 4.
        share = self._pick(m, turns)
        order = self._order(m, turns[0] & second)
        memory = Ram(m, "memory", shape=MemoryShape(width=self.bits, depth=2 << len(at)))
        total = Signal(self.bits)
        previous = Signal.like(at)
        row = Signal.like(at)
        with m.If(second):
            m.d.sync += previous.eq(at)
            with m.If(order.clear):
                m.d.sync += total.eq(0)  # the copy has been written
        with m.Else():
            m.d.sync += [row.eq(previous), total.eq(memory.read_data + share)]
        with m.If(order.reset):
            m.d.sync += total.eq(0)
        m.d.comb += [
            memory.read_row.eq(Mux(second, self._copy_row(self.index), Cat(at, Const(0, 1)))),
            memory.write_enable.eq(~second | order.copy),
            memory.write_row.eq(Cat(row, second)),
            memory.write_data.eq(total),
            self.copy.eq(memory.read_data),
        ]
        return m

    def _order(self, m: Module, previous_written: Value) -> data.View:
        """What is to be done with the sums: as the command of the last ``moment`` has it, but from where all of the
        sweep before are written."""
        layout = data.StructLayout({"reset": 1, "clear": 1, "copy": 1})
        given = Signal(layout, init={"reset": 1, "copy": 1})
        order = Signal(layout, init={"reset": 1, "copy": 1})
        m.d.comb += self.copying.eq(given.copy | order.copy)
        with m.If(self.moment):
            m.d.sync += [given.reset.eq(0), given.clear.eq(self.clear), given.copy.eq(self.snapshot)]
        with m.If(previous_written):
            m.d.sync += order.eq(given)
        return order

    def _copy_row(self, index: Value) -> Value:
        """Of the memory's halves the second one holds the copies."""
        return Cat(index, Const(1, 1))

    def _pick(self, m: Module, turns: Signal) -> Value:
        """What the index whose turn it was 2 cycles ago has counted in the sweep before."""
        shares = [
            (turns[index], self._count(m, index, self._short_bits(most)))
            for index, most in enumerate(self.most)
            if most
        ]
        blocks = []
        for start in range(0, len(shares), BLOCK):
            mine, values = zip(*shares[start : start + BLOCK], strict=True)
            block = Signal(max(map(len, values)), name=f"block_{start}", reset_less=True)
            m.d.sync += block.eq(one_hot_mux(mine, values))
            blocks.append(block)
        picked = Signal(max(map(len, blocks)), reset_less=True)
        m.d.sync += picked.eq(reduce(operator.or_, blocks))
        return picked

    def _short_bits(self, most: int) -> int:
        return bits_for(self.sweep_cycles * most)

    def _count(self, m: Module, index: int, bits: int) -> Signal:
        """Count the amounts of an index; returns what was counted up to the last ``moment``."""
        count = Signal(bits, name=f"count_{index}")
        share = Signal(bits, name=f"share_{index}", reset_less=True)
        following = Signal(bits, name=f"following_{index}")
        m.d.comb += following.eq(count + getattr(self, f"amount_{index}"))
        with m.If(self.moment):
            m.d.sync += [share.eq(following), count.eq(0)]
        with m.Else():
            m.d.sync += count.eq(following)
        return share
