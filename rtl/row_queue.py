"""Keeps accumulator rows that were asked for, with what belongs to them, until they are taken."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lmht.rtl.pipeline import delay

__all__ = ["RowQueue", "queued_layout"]

PAIR_CYCLES = 8
"""A row every so many cycles passes through a pair of registers, where only one is on its way at a time."""
ROUND_CYCLES = 10
"""From a request to the next one that the place of its row allows, in a queue whose row leaves at once."""
TRANSIT = 2
"""Places a buffered FIFO may not offer while a row moves to its output register."""


def queued_layout(*, row: data.Layout, tag: data.Layout) -> data.StructLayout:
    """A row and its tag."""
    return data.StructLayout({"tag": tag, "row": row})


class RowQueue(wiring.Component):
    """Pair answers with the tags of their requests.

    Parameters
    ----------
    row, tag : Layout
    answer_cycles : int
        From a request to its answer.
    interval : int
        Cycles that a row is needed for at least: enough rows are kept that one leaves in every `interval` cycles.

    Members
    -------
    ``request`` : in, a row is asked for in this cycle; only with ``room``
    ``tag`` : in, with ``request``
    ``answered`` : in, with ``request``: there will be an answer; otherwise the row means nothing
    ``room`` : out, a request may be made
    ``answer`` : in, `answer_cycles` after the request
    ``o`` : out stream of :func:`queued_layout`, in the order of the requests

    Rows that are needed for long wait in two registers, others in a FIFO of look-up tables: that holds more rows, and
    takes about as many look-up tables as a row has bits.
    """

    def __init__(self, *, row: data.Layout, tag: data.Layout, answer_cycles: int, interval: int):
        self.answer_cycles = answer_cycles
        self.interval = interval
        self._layout = queued_layout(row=row, tag=tag)
        super().__init__(
            {
                "request": In(1),
                "tag": In(tag),
                "answered": In(1),
                "room": Out(1),
                "answer": In(row),
                "o": Out(stream.Signature(self._layout)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.interval >= PAIR_CYCLES:
            self._pair(m)
        else:
            self._fifo(m)
        return m

    def _pair(self, m: Module) -> None:
        """One row on its way or next, one on the output."""
        arrives = delay(m, self.request & self.answered, self.answer_cycles, name="arrives", reset_less=False)
        following = Signal(self._layout, reset_less=True)
        has_following = Signal()
        pending = Signal()  # a row is on its way, or following
        move = Signal()
        m.d.comb += [
            self.room.eq(~pending),
            move.eq(has_following & (~self.o.valid | self.o.ready)),
        ]
        with m.If(self.request):
            m.d.sync += [following.tag.eq(self.tag), pending.eq(1), has_following.eq(~self.answered)]
        with m.If(arrives):
            m.d.sync += [following.row.eq(self.answer), has_following.eq(1)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(move):
            m.d.sync += [
                self.o.payload.eq(following),
                self.o.valid.eq(1),
                has_following.eq(0),
                pending.eq(0),
            ]

    def _fifo(self, m: Module) -> None:
        """A place for every row that is on its way, or has no answer and waits for those before it."""
        arrives = delay(m, self.request, self.answer_cycles, name="arrives", reset_less=False)
        places = -(-ROUND_CYCLES // self.interval) + 1
        tag = delay(m, self.tag, self.answer_cycles, name="tag_late")
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=self._layout.size, depth=places + TRANSIT)
        free = Signal(range(places + 1), init=places)
        has_free = Signal(init=1)
        following_free = Signal.like(free)
        taken = Signal()
        m.d.comb += [
            self.room.eq(has_free),
            following_free.eq(free - self.request + taken),
            fifo.w_en.eq(arrives),
            fifo.w_data.eq(Cat(tag, self.answer)),
            self.o.payload.as_value().eq(fifo.r_data),
            self.o.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.o.ready),
        ]
        m.d.sync += [
            taken.eq(fifo.r_rdy & fifo.r_en),
            free.eq(following_free),
            has_free.eq(following_free != 0),
        ]
