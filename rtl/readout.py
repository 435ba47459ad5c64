"""Logits and class of every frame."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.events import EventKind, EventLayout
from lmht.rtl.skid import Skid

__all__ = ["Readout", "result_layout"]


def result_layout(layout: EventLayout) -> data.StructLayout:
    """Payload of the result stream behind a link of logits.

    ``last`` (the frame's class, not one of its logits), ``error`` (with ``last`` only), ``channel`` and
    ``value``.
    """
    return data.StructLayout(
        {"last": 1, "error": 1, "channel": range(layout.channels), "value": layout.level_shape}
    )


class Readout(wiring.Component):
    """Pass a frame's logits on and close it with its class.

    Parameters
    ----------
    layout : EventLayout
        Link of logits: 1 x 1 pixels, 1 step; its `channels` are the classes.

    Members
    -------
    ``i`` : in stream of `layout`
    ``o`` : out stream of :func:`result_layout`
    ``pulses`` : out, ``frames``, ``dropped``
    ``errors`` : out, ``channels`` (channel out of range), ``count`` (a frame with other than `channels`
    logits)

    One word per logit in the order of arrival, then one with ``last``: ``channel`` is that of the largest
    logit (the lowest one on ties) and ``value`` that logit; both are 0 for a frame without logits. Its
    ``error`` is that of
    ``FRAME_END``, or set by one of this component's own errors. A logit whose channel is out of range is
    dropped. Row tokens do not occur in a map of one row and are ignored.

    Latency :attr:`LATENCY` cycles, one word a cycle.

    Raises
    ------
    ValueError
        If `layout` is no link of logits.
    """

    LATENCY = 2
    PULSES = data.StructLayout({"frames": 1, "dropped": 1})
    ERRORS = data.StructLayout({"channels": 1, "count": 1})

    def __init__(self, *, layout: EventLayout):
        if not isinstance(layout, EventLayout):
            raise TypeError(f"layout must be an EventLayout, not {layout!r}")
        for name in ("height", "width", "steps"):
            if getattr(layout, name) != 1:
                raise ValueError(f"{name} of a link of logits must be 1, not {getattr(layout, name)}")
        self.layout = layout
        super().__init__(
            {
                "i": In(layout.signature),
                "o": Out(stream.Signature(result_layout(layout))),
                "pulses": Out(self.PULSES),
                "errors": Out(self.ERRORS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        classes = self.layout.channels
        m.submodules.skid = skid = Skid(payload=self.layout.payload)
        wiring.connect(m, wiring.flipped(self.i), skid.i)
        word, o = skid.o, self.o

        logit = Signal(self.layout.level_shape)
        channel = word.payload.channel
        in_range = Signal(init=1)
        is_event = Signal()
        is_end = Signal()
        advance = Signal()
        taken = Signal()
        m.d.comb += [
            logit.eq(word.payload.levels[0]),
            is_event.eq(word.payload.kind == EventKind.EVENT),
            is_end.eq(word.payload.kind == EventKind.FRAME_END),
            advance.eq(~o.valid | o.ready),
            word.ready.eq(advance),
            taken.eq(advance & word.valid),
        ]
        if classes < 1 << len(channel):
            m.d.comb += in_range.eq(channel < classes)
        else:
            m.d.comb += in_range.eq(1)

        best = Signal(self.layout.level_shape)
        best_channel = Signal.like(channel)
        # Saturates above the number of classes.
        count = Signal(range(classes + 2))
        flagged = Signal()
        miscounted = Signal()
        wins = Signal()
        m.d.comb += [
            miscounted.eq(count != classes),
            wins.eq((count == 0) | self._beats(logit, channel, best, best_channel)),
        ]
        with m.If(taken & is_event & in_range):
            m.d.sync += count.eq(Mux(count > classes, count, count + 1))
            with m.If(wins):
                m.d.sync += [best.eq(logit), best_channel.eq(channel)]
        with m.If(taken & is_event & ~in_range):
            m.d.sync += flagged.eq(1)
        with m.If(taken & is_end):
            m.d.sync += [count.eq(0), best.eq(0), best_channel.eq(0), flagged.eq(0)]

        with m.If(advance):
            m.d.sync += [
                o.valid.eq(word.valid & ((is_event & in_range) | is_end)),
                o.payload.last.eq(is_end),
                o.payload.error.eq(is_end & (word.payload.error | flagged | miscounted)),
                o.payload.channel.eq(Mux(is_end, best_channel, channel)),
                o.payload.value.eq(Mux(is_end, best, logit)),
            ]
        m.d.sync += [
            self.pulses.frames.eq(o.valid & o.ready & o.payload.last),
            self.pulses.dropped.eq(taken & is_event & ~in_range),
            self.errors.channels.eq(taken & is_event & ~in_range),
            self.errors.count.eq(taken & is_end & miscounted),
        ]
        return m

    def _beats(self, logit: Value, channel: Value, best: Value, best_channel: Value) -> Value:
        """The logit takes the place of the best one so far."""
        return (logit > best) | ((logit == best) & (channel < best_channel))
