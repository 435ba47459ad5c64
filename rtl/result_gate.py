"""The way out: results stay whole words and whole frames over soft resets."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.events import EventLayout
from lmht.rtl.readout import result_layout
from lmht.rtl.skid import Skid

__all__ = ["ResultGate"]


class ResultGate(wiring.Component):
    """Close the result that a soft reset cuts off; it does not share the reset.

    Parameters
    ----------
    layout : EventLayout
        Link of logits.

    Members
    -------
    ``i``, ``o`` : in and out stream of :func:`~lmht.rtl.readout.result_layout`
    ``soft_reset`` : in, what is in front of ``i`` forgets everything in this cycle
    ``frame_done`` : out, 1 in the cycle after the last word of a frame was taken

    A word once offered stays until it is taken. If some words of a frame have come when the reset does, a word with
    ``last`` and ``error`` (``channel`` and ``value`` 0) follows them; a frame without any leaves none. Latency 1
    cycle, one word a cycle.
    """

    def __init__(self, *, layout: EventLayout):
        self._payload = result_layout(layout)
        results = stream.Signature(self._payload)
        super().__init__({"i": In(results), "o": Out(results), "soft_reset": In(1), "frame_done": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.skid = skid = Skid(payload=self._payload)
        wiring.connect(m, skid.o, wiring.flipped(self.o))
        open_frame = Signal()
        closing = Signal()
        closing_word = self._payload.const({"last": 1, "error": 1})
        m.d.comb += [
            skid.i.valid.eq(closing | (self.i.valid & ~self.soft_reset)),
            skid.i.payload.eq(Mux(closing, closing_word, self.i.payload)),
            self.i.ready.eq(skid.i.ready & ~closing & ~self.soft_reset),
        ]
        with m.If(skid.i.valid & skid.i.ready):
            m.d.sync += [open_frame.eq(~skid.i.payload.last), closing.eq(0)]
        with m.Elif(self.soft_reset & open_frame):
            m.d.sync += closing.eq(1)
        m.d.sync += self.frame_done.eq(self.o.valid & self.o.ready & self.o.payload.last)
        return m
