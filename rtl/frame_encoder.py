"""Dense frames of bytes to events: zeros are skipped, row and frame ends become tokens."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.events import EventKind
from lmht.rtl.parameters import FrameParameters
from lmht.rtl.select import first_of, lane_index, one_hot_mux
from lmht.rtl.skid import Skid

__all__ = ["FrameEncoder", "frame_beat_layout"]


def frame_beat_layout(frame: FrameParameters) -> data.StructLayout:
    """Payload of the frame stream: ``data``, first byte in the lowest bits, and ``last``, the frame's last beat."""
    return data.StructLayout({"data": 8 * frame.bytes_per_beat, "last": 1})


class FrameEncoder(wiring.Component):
    """Turn frames of bytes into events and tokens.

    Parameters
    ----------
    frame : FrameParameters

    Members
    -------
    ``i`` : in stream of :func:`frame_beat_layout`
    ``o`` : out stream of ``frame.layout``
    ``pulses`` : out, ``frames``, ``events``, ``stalls`` (output valid, not ready)
    ``errors`` : out, ``truncated``, ``overlong``

    A byte that is not 0 becomes the event ``(y, x, channel, byte)``, the end of a row its token. Coordinates
    and levels of a token mean nothing.

    A beat with ``last`` that leaves the frame incomplete closes it: missing bytes count as 0, the missing
    tokens follow, and ``FRAME_END`` has ``error`` set. A frame that is complete in a beat without ``last``
    ends with ``error`` set, and beats are swallowed up to and including the one with ``last``. Bytes behind
    the frame's end in its last beat are ignored.

    Throughput: call what a beat holds of one row a segment. A segment takes a cycle for each byte that is not
    0 and a cycle for the token if it ends its row, at least one. So an image without a 0 gives an event or a
    token in every cycle. A new frame follows the last one without a gap, except after a malformed one (1
    cycle and the beats swallowed). Latency: :attr:`LATENCY` cycles from a beat's transfer to that of its first event.
    """

    LATENCY = 4
    PULSES = data.StructLayout({"frames": 1, "events": 1, "stalls": 1})
    ERRORS = data.StructLayout({"truncated": 1, "overlong": 1})

    def __init__(self, *, frame: FrameParameters):
        if not isinstance(frame, FrameParameters):
            raise TypeError(f"frame must be FrameParameters, not {frame!r}")
        self.frame = frame
        super().__init__(
            {
                "i": In(stream.Signature(frame_beat_layout(frame))),
                "o": Out(frame.layout.signature),
                "pulses": Out(self.PULSES),
                "errors": Out(self.ERRORS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        frame = self.frame
        lanes = frame.bytes_per_beat

        m.submodules.skid = skid = Skid(payload=frame_beat_layout(frame))
        wiring.connect(m, wiring.flipped(self.i), skid.i)
        beat = skid.o

        # The beat at work; of its bytes, those that are still to be sent.
        busy = Signal()
        pending = Signal(lanes)
        octets = Signal(data.ArrayLayout(8, lanes), reset_less=True)
        last = Signal(reset_less=True)
        y = Signal(range(frame.height))
        last_row = Signal(init=frame.height == 1)
        closing = Signal()  # the beats ended early: the missing tokens are sent
        swallowing = Signal()  # the beats did not end with the frame: the rest is dropped

        accept = Signal()  # the next stage takes a word
        row_done = Signal()
        beat_done = Signal()
        frame_done = Signal()
        in_row, ends_here, ends_beat = self._row_end(m, accept, row_done, beat_done, frame_done)
        x, channel = self._position(m, accept, row_done, beat_done, frame_done)

        first = Signal(lanes)
        any_left = Signal()
        one_left = Signal()
        segment = pending & in_row
        m.d.comb += [
            first.eq(first_of(segment)),
            any_left.eq(segment.any()),
            one_left.eq(~(segment & ~first).any()),
            row_done.eq(closing | (busy & ends_here & ~any_left)),
            frame_done.eq(row_done & last_row),
            beat_done.eq(busy & Mux(ends_here, ~any_left & (ends_beat | last_row), one_left)),
        ]
        well_formed = Signal()
        truncated = Signal()
        overlong = Signal()
        m.d.comb += [
            well_formed.eq(last == frame_done),
            truncated.eq(accept & beat_done & last & ~frame_done),
            overlong.eq(accept & beat_done & ~last & frame_done),
        ]
        m.d.sync += [self.errors.truncated.eq(truncated), self.errors.overlong.eq(overlong)]

        word = data.StructLayout(
            {
                "kind": EventKind,
                "error": 1,
                "y": y.shape(),
                "x": x.shape(),
                "channel": channel.shape(),
                "lane": range(lanes),
                "octet": 8,
            }
        )
        selected = Signal(word, reset_less=True)
        selected_valid = Signal()
        with m.If(accept):
            m.d.sync += [
                selected_valid.eq(closing | (busy & (any_left | ends_here))),
                selected.kind.eq(
                    Mux(frame_done, EventKind.FRAME_END, Mux(row_done, EventKind.ROW_END, EventKind.EVENT))
                ),
                selected.error.eq(closing | ~last),
                selected.y.eq(y),
                selected.x.eq(x),
                selected.channel.eq(channel),
                selected.lane.eq(lane_index(first)),
                selected.octet.eq(one_hot_mux(first, [octets[lane] for lane in range(lanes)])),
                pending.eq(pending & ~first),
            ]
            with m.If(row_done):
                m.d.sync += [y.eq(y + 1), last_row.eq(y == frame.height - 2)]
            with m.If(frame_done):
                m.d.sync += [y.eq(0), last_row.eq(frame.height == 1), closing.eq(0)]
            with m.If(beat_done):
                m.d.sync += busy.eq(0)
        with m.If(truncated):
            m.d.sync += closing.eq(1)

        m.d.comb += beat.ready.eq(swallowing | (~closing & (~busy | (accept & beat_done & well_formed))))
        with m.If(beat.ready & ~swallowing):
            m.d.sync += [
                busy.eq(beat.valid),
                octets.eq(beat.payload.data),
                pending.eq(Cat(beat.payload.data.word_select(lane, 8).any() for lane in range(lanes))),
                last.eq(beat.payload.last),
            ]
        with m.If(overlong):
            m.d.sync += swallowing.eq(1)
        with m.Elif(beat.valid & beat.payload.last):
            m.d.sync += swallowing.eq(0)

        self._send(m, accept, selected, selected_valid)
        return m

    def _row_end(
        self, m: Module, accept: Signal, row_done: Signal, beat_done: Signal, frame_done: Signal
    ) -> tuple[Value, Value, Value]:
        """Which bytes of the beat lie before the row's end; whether that is in the beat; or the beat's end.

        Rows need not align with beats, so the row's end is counted from the first byte of the beat at work.
        """
        lanes = self.frame.bytes_per_beat
        row_bytes = self.frame.width * self.frame.channels
        where = data.StructLayout(
            {"end": range(row_bytes + lanes), "in_row": lanes, "ends_here": 1, "ends_beat": 1}
        )

        def located(name: str, end: Value) -> data.View:
            view = Signal(where, name=name)
            total = Signal(range(row_bytes + lanes), name=f"{name}_sum")
            m.d.comb += [
                total.eq(end),
                view.end.eq(total),
                view.in_row.eq(Cat(total > lane for lane in range(lanes))),
                view.ends_here.eq(total <= lanes),
                view.ends_beat.eq(total == lanes),
            ]
            return view

        fresh = where.const(
            {
                "end": row_bytes,
                "in_row": (1 << min(row_bytes, lanes)) - 1,
                "ends_here": int(row_bytes <= lanes),
                "ends_beat": int(row_bytes == lanes),
            }
        )
        current = Signal(where, name="row_end", init=fresh)
        # What follows is worked out for both cases before it is known which one it is.
        next_row = located("next_row", current.end + row_bytes)
        next_beat = located("next_beat", current.end - lanes)
        with m.If(accept & (row_done | beat_done)):
            with m.If(frame_done | (row_done & beat_done)):
                m.d.sync += current.eq(fresh)
            with m.Elif(row_done):
                m.d.sync += current.eq(next_row)
            with m.Else():
                m.d.sync += current.eq(next_beat)
        return current.in_row, current.ends_here, current.ends_beat

    def _position(
        self, m: Module, accept: Signal, row_done: Signal, beat_done: Signal, frame_done: Signal
    ) -> tuple[Signal, Signal]:
        """``(x, channel)`` of the beat's first byte, as if the row at work had begun early enough.

        ``x`` is exact modulo its width, so a row that begins inside the beat needs no special case.
        """
        frame = self.frame
        x = Signal(range(frame.width), name="beat_x")
        channel = Signal(range(frame.channels), name="beat_channel")
        pixels, rest = divmod(frame.bytes_per_beat, frame.channels)
        wraps = Signal(name="beat_wraps")
        m.d.comb += wraps.eq(channel + rest >= frame.channels)
        with m.If(accept):
            with m.If(frame_done | (row_done & beat_done)):
                m.d.sync += [x.eq(0), channel.eq(0)]
            with m.Elif(row_done):
                m.d.sync += x.eq(x - frame.width)
            with m.Elif(beat_done):
                m.d.sync += [
                    x.eq(x + pixels + wraps),
                    channel.eq(channel + rest - Mux(wraps, frame.channels, 0)),
                ]
        return x, channel

    def _send(self, m: Module, accept: Signal, selected: data.View, selected_valid: Signal) -> None:
        """Last stage: add the lane to the beat's position and offer the event."""
        frame = self.frame
        o = self.o
        advance = Signal()
        m.d.comb += [advance.eq(~o.valid | o.ready), accept.eq(~selected_valid | advance)]
        offset, channel = _lane_position(selected.channel, selected.lane, frame)
        with m.If(advance):
            m.d.sync += [
                o.valid.eq(selected_valid),
                o.payload.kind.eq(selected.kind),
                o.payload.error.eq(selected.error & (selected.kind == EventKind.FRAME_END)),
                o.payload.y.eq(selected.y),
                o.payload.x.eq(selected.x + offset),
                o.payload.channel.eq(channel),
                o.payload.levels[0].eq(selected.octet),
            ]
        sent = o.valid & o.ready
        m.d.sync += [
            self.pulses.frames.eq(sent & (o.payload.kind == EventKind.FRAME_END)),
            self.pulses.events.eq(sent & (o.payload.kind == EventKind.EVENT)),
            self.pulses.stalls.eq(o.valid & ~o.ready),
        ]


def _lane_position(channel: Value, lane: Value, frame: FrameParameters) -> tuple[Value, Value]:
    """Pixels and channel of a lane, counted from a beat that begins at `channel`."""
    channels, lanes = frame.channels, frame.bytes_per_beat
    if channels == 1:
        return lane, Const(0, 0)
    total = channel + lane
    if channels >= lanes:
        wraps = total >= channels
        return wraps, total - Mux(wraps, channels, 0)
    # Several pixels a beat: a table of at most 2 * 16 entries.
    table = [divmod(value, channels) for value in range(channels + lanes - 1)]
    return Array(pixels for pixels, _ in table)[total], Array(rest for _, rest in table)[total]
