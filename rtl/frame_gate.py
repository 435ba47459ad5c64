"""The way in: frames pass while they are accepted, and the rest of one that a soft reset gave up is swallowed."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.frame_encoder import frame_beat_layout
from lmht.rtl.parameters import FrameParameters

__all__ = ["FrameGate"]


class FrameGate(wiring.Component):
    """Keep frames whole over soft resets, which it does not share.

    Parameters
    ----------
    frame : FrameParameters

    Members
    -------
    ``i``, ``o`` : in and out stream of :func:`~lmht.rtl.frame_encoder.frame_beat_layout`
    ``enable`` : in, beats pass
    ``soft_reset`` : in, what is behind ``o`` forgets everything in this cycle
    ``new_frame`` : in, with ``soft_reset``: the source forgets the frame it has begun as well
    ``swallowing`` : out, beats are taken and dropped, up to and including the one with ``last``

    A soft reset between the first and the last beat of a frame makes it swallow the rest, so that the next frame
    begins with its own first beat. No latency, one beat a cycle.
    """

    def __init__(self, *, frame: FrameParameters):
        beats = stream.Signature(frame_beat_layout(frame))
        super().__init__(
            {
                "i": In(beats),
                "o": Out(beats),
                "enable": In(1),
                "soft_reset": In(1),
                "new_frame": In(1),
                "swallowing": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, o = self.i, self.o
        open_frame = Signal()  # begun, its last beat has not come
        passing = Signal()
        m.d.comb += [
            passing.eq(self.enable & ~self.swallowing & ~self.soft_reset),
            o.payload.eq(i.payload),
            o.valid.eq(i.valid & passing),
            i.ready.eq((o.ready & passing) | (self.swallowing & ~self.soft_reset)),
        ]
        with m.If(i.valid & i.ready):
            m.d.sync += open_frame.eq(~i.payload.last)
            with m.If(i.payload.last):
                m.d.sync += self.swallowing.eq(0)
        with m.If(self.soft_reset):
            m.d.sync += self.swallowing.eq(open_frame & ~self.new_frame)
            with m.If(self.new_frame):
                m.d.sync += open_frame.eq(0)
        return m
