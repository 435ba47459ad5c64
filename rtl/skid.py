"""Two-word stream buffer: cuts the paths of valid, ready and payload at full rate."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Skid"]


class Skid(wiring.Component):
    """Stream register with both directions registered.

    Parameters
    ----------
    payload : shape
        Payload of both streams.

    Members
    -------
    ``i`` : in stream
    ``o`` : out stream, the same words in the same order

    Every output, ``i.ready`` included, comes straight from a register. Latency 1 cycle, one word a cycle, two
    words of storage.
    """

    def __init__(self, *, payload: ShapeLike):
        self._payload = payload
        super().__init__({"i": In(stream.Signature(payload)), "o": Out(stream.Signature(payload))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Filled only by a word that arrives while `o` is held back.
        waiting = Signal(self._payload, reset_less=True)
        has_waiting = Signal()
        payload = Signal(self._payload, reset_less=True)
        free = Signal()
        m.d.comb += [
            self.i.ready.eq(~has_waiting),
            self.o.payload.eq(payload),
            free.eq(~self.o.valid | self.o.ready),
        ]
        # Written as functions of what is there: cases of their own would have become resets of the registers.
        m.d.sync += [
            self.o.valid.eq(~free | has_waiting | self.i.valid),
            has_waiting.eq(~free & (has_waiting | self.i.valid)),
        ]
        with m.If(~has_waiting):
            m.d.sync += waiting.eq(self.i.payload)
        with m.If(free):
            m.d.sync += payload.eq(Mux(has_waiting, waiting, self.i.payload))
        return m
