"""Frames in and results out as AXI4-Stream."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from lmht.rtl.checks import check_choice
from lmht.rtl.events import EventLayout
from lmht.rtl.frame_encoder import frame_beat_layout
from lmht.rtl.parameters import FrameParameters
from lmht.rtl.result_words import WORD_BITS, ResultWords
from lmht.rtl.skid import Skid

__all__ = ["STREAM_BYTES", "AxiStreamFrames", "AxiStreamResults", "AxiStreamSignature"]

STREAM_BYTES = (4, 8)
"""Widths of the streams in bytes."""


class AxiStreamSignature(wiring.Signature):
    """AXI4-Stream, seen from its source, by the names of the specification (ARM IHI 0051).

    Parameters
    ----------
    data_bytes : int
        Width of ``tdata``; ``tkeep`` has a bit for each byte, the first byte is the lowest.
    """

    def __init__(self, data_bytes: int):
        check_choice("data_bytes", data_bytes, STREAM_BYTES)
        self.data_bytes = data_bytes
        super().__init__(
            {
                "tvalid": Out(1),
                "tready": In(1),
                "tdata": Out(8 * data_bytes),
                "tkeep": Out(data_bytes),
                "tlast": Out(1),
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AxiStreamSignature) and self.data_bytes == other.data_bytes


def _beat_layout(data_bytes: int) -> data.StructLayout:
    return data.StructLayout({"data": 8 * data_bytes, "keep": data_bytes, "last": 1})


class AxiStreamFrames(wiring.Component):
    """Packets to frames: one frame of bytes in the order (y, x, channel) is one packet.

    Parameters
    ----------
    frame : FrameParameters
        Its ``bytes_per_beat`` is the width of the stream.

    Members
    -------
    ``axi`` : in, :class:`AxiStreamSignature`
    ``o`` : out stream of :func:`~lmht.rtl.frame_encoder.frame_beat_layout`

    All bytes of a beat must be there (``TKEEP``) but in the frame's last beat, where those behind the frame's end are
    not looked at. A byte that is not there counts as 0, and its frame reaches the encoder malformed, so that its
    result carries the error flag: a packet that would look complete gets one beat more. A packet that ends early or
    late is the encoder's business.

    Latency 1 cycle, one beat a cycle; ``tready`` comes from a register.

    Raises
    ------
    ValueError
        If ``bytes_per_beat`` is none of :data:`STREAM_BYTES`.
    """

    def __init__(self, *, frame: FrameParameters):
        check_choice("bytes_per_beat of an AXI4-Stream", frame.bytes_per_beat, STREAM_BYTES)
        self.frame = frame
        super().__init__(
            {
                "axi": In(AxiStreamSignature(frame.bytes_per_beat)),
                "o": Out(stream.Signature(frame_beat_layout(frame))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        frame, axi, o = self.frame, self.axi, self.o
        size = frame.bytes_per_beat
        m.submodules.skid = skid = Skid(payload=_beat_layout(size))
        m.d.comb += [
            skid.i.valid.eq(axi.tvalid),
            axi.tready.eq(skid.i.ready),
            skid.i.payload.data.eq(axi.tdata),
            skid.i.payload.keep.eq(axi.tkeep),
            skid.i.payload.last.eq(axi.tlast),
        ]
        beat = skid.o

        index = Signal(range(frame.beats + 1))  # of the beat in its frame; stays behind the frame's end
        at_end = Signal()
        lacking = Signal()  # a byte of this beat is not there
        lacked = Signal()  # a byte of the frame was not there
        closing = Signal()  # the beat more, which shows the encoder that the frame is malformed
        used = frame.frame_bytes - (frame.beats - 1) * size
        keep = beat.payload.keep
        m.d.comb += [
            at_end.eq(index == frame.beats - 1),
            lacking.eq(Mux(at_end, ~keep[:used].all(), ~keep.all())),
        ]
        withheld = Signal()
        octets = [
            byte & (there & ~closing).replicate(8)
            for byte, there in zip(_octets(beat.payload.data), keep, strict=True)
        ]
        m.d.comb += [
            withheld.eq(beat.payload.last & at_end & (lacking | lacked)),
            o.valid.eq(closing | beat.valid),
            beat.ready.eq(o.ready & ~closing),
            o.payload.last.eq(closing | (beat.payload.last & ~withheld)),
            o.payload.data.eq(Cat(octets)),
        ]
        with m.If(o.ready):
            m.d.sync += closing.eq(0)
        with m.If(beat.valid & beat.ready):
            m.d.sync += closing.eq(withheld)
            with m.If(beat.payload.last):
                m.d.sync += [index.eq(0), lacked.eq(0)]
            with m.Else():
                m.d.sync += [
                    index.eq(Mux(index == frame.beats, index, index + 1)),
                    lacked.eq(lacked | lacking),
                ]
        return m


def _octets(value: Signal) -> list:
    return [value[start : start + 8] for start in range(0, len(value), 8)]


class AxiStreamResults(wiring.Component):
    """Results to packets of 32-bit words (:class:`~lmht.rtl.result_words.ResultWords`).

    Parameters
    ----------
    layout : EventLayout
        Link of logits.
    data_bytes : int
        Width of the stream: 4, or 8 for two words a beat, the first in the low half; a last beat that holds one word
        only has ``TKEEP`` 0x0F.

    Members
    -------
    ``i`` : in stream of :func:`~lmht.rtl.readout.result_layout`
    ``axi`` : out, :class:`AxiStreamSignature`; ``TLAST`` ends a frame's result

    Every output comes from a register. One word a cycle.
    """

    def __init__(self, *, layout: EventLayout, data_bytes: int):
        self._words = ResultWords(layout=layout)
        super().__init__(
            {"i": In(self._words.i.signature.flip()), "axi": Out(AxiStreamSignature(data_bytes))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        size = axi.signature.data_bytes
        m.submodules.words = words = self._words
        m.submodules.skid = skid = Skid(payload=_beat_layout(size))
        connect(m, flipped(self.i), words.i)
        word, beat = words.o, skid.i
        if size * 8 == WORD_BITS:
            m.d.comb += [
                beat.valid.eq(word.valid),
                word.ready.eq(beat.ready),
                beat.payload.data.eq(word.payload.data),
                beat.payload.keep.eq(~0),
            ]
        else:
            first = Signal(WORD_BITS, reset_less=True)
            has_first = Signal()
            complete = Signal()
            m.d.comb += [
                complete.eq(has_first | word.payload.last),
                beat.valid.eq(word.valid & complete),
                word.ready.eq(beat.ready | ~complete),
                beat.payload.data.eq(Mux(has_first, Cat(first, word.payload.data), word.payload.data)),
                beat.payload.keep.eq(Mux(has_first, 0xFF, 0x0F)),
            ]
            with m.If(word.valid & word.ready):
                m.d.sync += [has_first.eq(~complete), first.eq(word.payload.data)]
        m.d.comb += [
            beat.payload.last.eq(word.payload.last),
            axi.tvalid.eq(skid.o.valid),
            skid.o.ready.eq(axi.tready),
            axi.tdata.eq(skid.o.payload.data),
            axi.tkeep.eq(skid.o.payload.keep),
            axi.tlast.eq(skid.o.payload.last),
        ]
        return m
