"""FIFO for a residual branch: a memory that holds what waits until the other branch has caught up."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Shape, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.checks import check_range
from lmht.rtl.memory import Ram
from lmht.rtl.memory_shape import MemoryShape

__all__ = ["EventFifo"]


class EventFifo(wiring.Component):
    """Words in, the same words out in the same order.

    Parameters
    ----------
    payload : shape
        Payload of both streams.
    depth : int
        Words it holds at least, 1 … 2**24 (up to two more wait in the registers of the memory).

    Members
    -------
    ``i`` : in stream
    ``o`` : out stream

    One word a cycle on both sides (every other cycle with `depth` 1), latency 3 cycles. ``i.ready`` comes from a
    register.

    Raises
    ------
    TypeError, ValueError
        If `depth` is no integer or out of range.
    """

    def __init__(self, *, payload: ShapeLike, depth: int):
        check_range("depth", depth, 1, 2**24)
        self._payload = payload
        self._depth = depth
        super().__init__({"i": In(stream.Signature(payload)), "o": Out(stream.Signature(payload))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self._depth
        words = Ram(m, "words", shape=MemoryShape(width=Shape.cast(self._payload).width, depth=depth))
        write = Signal()
        fetch = Signal()
        write_row = Signal(range(depth))
        fetch_row = Signal(range(depth))
        held = Signal(range(depth + 1))  # written and not fetched
        m.d.comb += [
            write.eq(self.i.valid & self.i.ready),
            words.write_enable.eq(write),
            words.write_row.eq(write_row),
            words.write_data.eq(self.i.payload),
        ]
        with m.If(write):
            m.d.sync += write_row.eq(Mux(write_row == depth - 1, 0, write_row + 1))
        with m.If(fetch):
            m.d.sync += fetch_row.eq(Mux(fetch_row == depth - 1, 0, fetch_row + 1))
        m.d.sync += held.eq(held + write - fetch)
        with m.If(write != fetch):
            m.d.sync += self.i.ready.eq(Mux(fetch, 1, held != depth - 1))
        with m.Elif(held != depth):
            m.d.sync += self.i.ready.eq(1)

        # The two registers of the memory move together, in cycles in which the second one is free or taken.
        move = Signal()
        in_memory = Signal()
        m.d.comb += [
            move.eq(~self.o.valid | self.o.ready),
            fetch.eq(move & (held != 0)),
            words.read_enable.eq(move),
            words.read_row.eq(fetch_row),
            self.o.payload.eq(words.read_data),
        ]
        with m.If(move):
            m.d.sync += [in_memory.eq(fetch), self.o.valid.eq(in_memory)]
        return m
