"""Logits and class of every frame."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.events import EventKind, EventLayout
from lmht.rtl.pipeline import delay
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


SLICE_BITS = 12
"""Bits of a logit and its channel that are compared in one cycle."""


@dataclass
class _Word:
    """A word on its way from slice to slice.

    A ``logit``, or the ``end`` of a frame with its ``error``; ``key``: logit and channel; ``above``, ``equal``: what
    the slices so far say about the key and the best one.
    """

    logit: Value
    end: Value
    error: Value
    key: Value
    above: Value
    equal: Value


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

    A logit and its channel are one key, the larger the better. The best key is kept in slices of :data:`SLICE_BITS`,
    and a word meets one of them a cycle, the highest first: there it takes the best one's place if it was above in a
    slice before, or was equal in all of them and is above now. So a comparison is as long as a slice, and yet no word
    waits for the one before.

    Latency ``latency``: 1 cycle and one for each slice; one word a cycle.

    Raises
    ------
    ValueError
        If `layout` is no link of logits.
    """

    PULSES = data.StructLayout({"frames": 1, "dropped": 1})
    ERRORS = data.StructLayout({"channels": 1, "count": 1})

    def __init__(self, *, layout: EventLayout):
        if not isinstance(layout, EventLayout):
            raise TypeError(f"layout must be an EventLayout, not {layout!r}")
        for name in ("height", "width", "steps"):
            if getattr(layout, name) != 1:
                raise ValueError(f"{name} of a link of logits must be 1, not {getattr(layout, name)}")
        self.layout = layout
        self._channel_bits = Shape.cast(range(layout.channels)).width
        bits = self._channel_bits + layout.level_bits
        self._slices = [(max(0, end - SLICE_BITS), end) for end in range(bits, 0, -SLICE_BITS)]
        self.latency = 1 + len(self._slices)
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

        channel = word.payload.channel
        advance = Signal()
        logit = Signal()
        end = Signal()
        outside = Signal()
        is_event = word.payload.kind == EventKind.EVENT
        in_range = channel < classes if classes < 1 << len(channel) else Const(1, 1)
        m.d.comb += [
            advance.eq(~o.valid | o.ready),
            word.ready.eq(advance),
            logit.eq(word.valid & is_event & in_range),
            outside.eq(word.valid & is_event & ~in_range),
            end.eq(word.valid & (word.payload.kind == EventKind.FRAME_END)),
        ]

        fresh = Signal(init=1)  # no logit of this frame yet
        count = Signal(range(classes + 2))  # saturates above the number of classes
        flagged = Signal()
        miscounted = Signal()
        m.d.comb += miscounted.eq(count != classes)
        with m.If(advance & logit):
            m.d.sync += [fresh.eq(0), count.eq(Mux(count > classes, count, count + 1))]
        with m.If(advance & outside):
            m.d.sync += flagged.eq(1)
        with m.If(advance & end):
            m.d.sync += [fresh.eq(1), count.eq(0), flagged.eq(0)]

        judged = _Word(
            logit=logit,
            end=end,
            error=end & (word.payload.error | flagged | miscounted),
            key=Cat(channel, word.payload.levels[0]) ^ self._inverted,
            above=fresh,
            equal=Const(1, 1),
        )
        for number in range(len(self._slices)):
            judged = self._meet(m, advance, number, judged)
        m.d.comb += [
            o.valid.eq(judged.logit | judged.end),
            o.payload.last.eq(judged.end),
            o.payload.error.eq(judged.error),
            Cat(o.payload.channel, o.payload.value).eq(judged.key ^ self._inverted),
        ]
        m.d.sync += [
            self.pulses.frames.eq(o.valid & o.ready & o.payload.last),
            self.pulses.dropped.eq(advance & outside),
            self.errors.channels.eq(advance & outside),
            self.errors.count.eq(advance & end & miscounted),
        ]
        return m

    @property
    def _inverted(self) -> int:
        """Bits of a key that are inverted: those of the channel, for the lowest one wins, and the sign."""
        sign = int(self.layout.signed) << self._channel_bits + self.layout.level_bits - 1
        return sign | (1 << self._channel_bits) - 1

    def _meet(self, m: Module, advance: Value, number: int, word: _Word) -> _Word:
        """The word a cycle later: compared with the best key in one slice more; a frame's end takes that slice."""
        low, high = self._slices[number]
        own = word.key[low:high]
        nothing = self._inverted >> low & (1 << high - low) - 1  # channel 0 and logit 0
        best = Signal(high - low, name=f"best_{number}", init=nothing)
        above = Signal(name=f"above_{number}")
        m.d.comb += above.eq(word.above | (word.equal & self._above(number, own, best)))
        with m.If(advance & word.logit & above):
            m.d.sync += best.eq(own)
        with m.If(advance & word.end):
            m.d.sync += best.eq(nothing)

        def late(name: str, value: Value, *, reset_less: bool = True) -> Signal:
            return delay(m, value, 1, name=f"{name}_{number}", enable=advance, reset_less=reset_less)

        return _Word(
            logit=late("logit", word.logit, reset_less=False),
            end=late("end", word.end, reset_less=False),
            error=late("error", word.error),
            key=late("key", Cat(word.key[:low], Mux(word.end, best, own), word.key[high:])),
            above=late("above_before", above),
            equal=late("equal", word.equal & (own == best)),
        )

    def _above(self, number: int, own: Value, best: Value) -> Value:
        return own > best
