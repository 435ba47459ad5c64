"""A frame's result as 32-bit words in a fixed order, whole frames at a time."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.events import EventLayout
from lmht.rtl.memory import Ram
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.readout import result_layout

__all__ = ["TRAILER", "WORD_BITS", "ResultWords", "words_per_logit"]

WORD_BITS = 32

TRAILER = data.StructLayout({"winner": 16, "unused": 15, "error": 1})
"""Last word of a result: the class, and whether something of the frame was dropped or malformed."""


def words_per_logit(layout: EventLayout) -> int:
    """1 if the logits fit 32 bits, else 2."""
    return -(-layout.level_bits // WORD_BITS)


class ResultWords(wiring.Component):
    """Collect a frame's logits, then send them by class.

    Parameters
    ----------
    layout : EventLayout
        Link of logits; its `channels` are the classes.

    Members
    -------
    ``i`` : in stream of :func:`~lmht.rtl.readout.result_layout`
    ``o`` : out stream of ``data`` (32 bits) and ``last``

    A result is :func:`words_per_logit` words for each class from 0 on, the logit in two's complement, its low word
    first, then one word :data:`TRAILER` with ``last``. A logit that did not come is 0 (the frame has its error flag).

    Two results have room: one is sent while the next one comes. So the last word of a result is taken although nobody
    fetches it, as long as the one before was fetched.

    Latency 2 cycles from a result's last word to its first one here; one word a cycle either way.
    """

    def __init__(self, *, layout: EventLayout):
        self.layout = layout
        super().__init__(
            {
                "i": In(stream.Signature(result_layout(layout))),
                "o": Out(stream.Signature(data.StructLayout({"data": WORD_BITS, "last": 1}))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout, i, o = self.layout, self.i, self.o
        classes = layout.channels
        channel_bits = len(i.payload.channel)
        ram = Ram(
            m,
            "logits",
            shape=MemoryShape(width=layout.level_bits, depth=2 << channel_bits),
            output_register=False,
        )
        trailers = [Signal(TRAILER, name=f"trailer_{bank}", reset_less=True) for bank in range(2)]
        present = [Signal(classes, name=f"present_{bank}") for bank in range(2)]
        full = Signal(2)

        filling = Signal()  # the bank that fills
        m.d.comb += [
            i.ready.eq(~full.bit_select(filling, 1)),
            ram.write_enable.eq(i.valid & i.ready & ~i.payload.last),
            ram.write_row.eq(Cat(i.payload.channel, filling)),
            ram.write_data.eq(i.payload.value),
        ]
        with m.If(i.valid & i.ready & i.payload.last):
            m.d.sync += filling.eq(~filling)

        sending = Signal()  # the bank that is sent
        index = Signal(range(classes))
        part = Signal(range(words_per_logit(layout)))
        at_trailer = Signal()
        advance = Signal()
        issue = Signal()
        m.d.comb += [
            advance.eq(~o.valid | o.ready),
            issue.eq(advance & full.bit_select(sending, 1)),
            ram.read_enable.eq(advance),
            ram.read_row.eq(Cat(index, sending) if channel_bits else sending),
        ]
        with m.If(issue):
            last_part = part == words_per_logit(layout) - 1
            with m.If(at_trailer):
                m.d.sync += [at_trailer.eq(0), sending.eq(~sending)]
            with m.Elif(last_part):
                m.d.sync += [part.eq(0), index.eq(index + 1)]
                with m.If(index == classes - 1):
                    m.d.sync += [index.eq(0), at_trailer.eq(1)]
            with m.Else():
                m.d.sync += part.eq(part + 1)

        for bank in range(2):
            with m.If(i.valid & i.ready & (filling == bank)):
                with m.If(i.payload.last):
                    m.d.sync += [
                        full[bank].eq(1),
                        trailers[bank].winner.eq(i.payload.channel),
                        trailers[bank].error.eq(i.payload.error),
                    ]
                with m.Else():
                    m.d.sync += present[bank].bit_select(i.payload.channel, 1).eq(1)
            with m.If(issue & at_trailer & (sending == bank)):
                m.d.sync += [full[bank].eq(0), present[bank].eq(0)]

        # What the memory's output is, in the cycle it comes.
        trailer = Signal(TRAILER, reset_less=True)
        is_present = Signal(reset_less=True)
        read_part = Signal.like(part, reset_less=True)
        with m.If(advance):
            m.d.sync += [
                o.valid.eq(issue),
                o.payload.last.eq(at_trailer),
                trailer.eq(Mux(sending, trailers[1], trailers[0])),
                is_present.eq(Mux(sending, present[1], present[0]).bit_select(index, 1)),
                read_part.eq(part),
            ]
        logit = Signal(layout.level_shape)
        wide = Signal(_wide(layout))
        words = [wide[start : start + WORD_BITS] for start in range(0, len(wide), WORD_BITS)]
        m.d.comb += [
            logit.eq(ram.read_data),
            wide.eq(Mux(is_present, logit, 0)),
            o.payload.data.eq(Mux(o.payload.last, trailer.as_value(), Array(words)[read_part])),
        ]
        return m


def _wide(layout: EventLayout) -> Shape:
    """Shape of a logit extended to whole words."""
    bits = WORD_BITS * words_per_logit(layout)
    return signed(bits) if layout.signed else unsigned(bits)
