"""Finds the pixels of a closed row that have to be visited, one a cycle, and none of the others."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import bits_for

from lmht.rtl.select import first_of, lane_index, one_hot_mux
from lmht.rtl.skid import Skid

__all__ = ["PixelWalk", "closed_layout", "pixel_layout", "touched_layout"]

WORD = 8
"""Pixels looked at in one cycle, or more in a row of more than ``WORD**2``: see :func:`word_pixels`."""
SKIPPED_BITS = 17
"""Holds the pixels of any row."""


def closed_layout(banks: int) -> data.StructLayout:
    """A row that has closed: its `bank`; with the ``last`` row of a frame, the frame's ``error``."""
    return data.StructLayout({"bank": range(banks), "last": 1, "error": 1})


def touched_layout(*, width: int, banks: int, parts: int) -> data.ArrayLayout:
    """A bit for each memory row of each bank: bit ``x * parts + part`` is 1 if an event has been there."""
    return data.ArrayLayout(unsigned(width * parts), banks)


def pixel_layout(*, width: int, banks: int, parts: int) -> data.StructLayout:
    """A pixel to visit.

    ``bank``, ``x``, ``touched`` (a bit for each part), ``last`` (of its row), ``frame`` (the row is the frame's last),
    ``error`` (with ``frame``), ``empty`` (with ``last``: the row has no pixel to visit, `x` means nothing).
    """
    return data.StructLayout(
        {
            "bank": range(banks),
            "x": range(width),
            "touched": parts,
            "last": 1,
            "frame": 1,
            "error": 1,
            "empty": 1,
        }
    )


def word_pixels(width: int) -> int:
    """Pixels of a word. A longer row is cut into words, of which there are no more than pixels in one: then neither
    the search for a word nor that for a pixel is longer than it has to be. A power of two, or the whole row."""
    return min(width, max(WORD, 1 << (bits_for(width - 1) + 1) // 2))


@dataclass
class _Row:
    """What is known of the row at the head of the queue."""

    valid: Value
    bank: Signal
    frame: Value
    error: Value
    touched: Value
    taken: Signal


class PixelWalk(wiring.Component):
    """Turn closed rows into their pixels in ascending order.

    Parameters
    ----------
    width : int
        Pixels of a row.
    banks : int
        Rows that can wait. They close in turn: 0, 1, …, 0, …
    parts : int
        Memory rows of a pixel that are touched one by one; 1 if a pixel is touched as a whole.
    skips : bool
        Untouched pixels are passed over while ``silent`` is 1; otherwise every pixel is visited in any case.

    Members
    -------
    ``closed``, ``closed_valid`` : in, :func:`closed_layout`, one row a cycle
    ``touched`` : in, :func:`touched_layout`; that of a bank stays as it is from its closing until it is freed
    ``silent`` : in, constant while frames run
    ``freed`` : out, one bit a bank: the row had no pixel to visit
    ``o`` : out stream of :func:`pixel_layout`: the pixels of a row, or one word with ``empty``
    ``pulses`` : out, ``skipped``: pixels of a row that were passed over, in one cycle

    Throughput: a pixel a cycle, a row without one takes a cycle. Latency: from ``closed_valid`` to ``o`` 1 cycle for a
    single pixel, 3 for rows of one word, 4 beyond.
    """

    PULSES = data.StructLayout({"skipped": SKIPPED_BITS})

    def __init__(self, *, width: int, banks: int, parts: int = 1, skips: bool = True):
        self.width = width
        self.banks = banks
        self.parts = parts
        self.skips = skips
        super().__init__(
            {
                "closed": In(closed_layout(banks)),
                "closed_valid": In(1),
                "touched": In(touched_layout(width=width, banks=banks, parts=parts)),
                "silent": In(1),
                "freed": Out(banks),
                "o": Out(stream.Signature(pixel_layout(width=width, banks=banks, parts=parts))),
                "pulses": Out(self.PULSES),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        every = ~self.silent if self.skips else Const(1)
        row = self._queue(m)
        pixel = Signal(self.o.payload.shape())
        pixel_valid = Signal()
        pixel_ready = Signal()
        if self.width == 1:
            m.d.comb += [
                pixel.bank.eq(row.bank),
                pixel.touched.eq(row.touched),
                pixel.last.eq(1),
                pixel.frame.eq(row.frame),
                pixel.error.eq(row.error),
                pixel.empty.eq(~(row.touched.any() | every)),
                pixel_valid.eq(row.valid),
                row.taken.eq(row.valid & pixel_ready),
                # What follows has registers enough for a single bit.
                self.o.valid.eq(pixel_valid),
                self.o.payload.eq(pixel),
                pixel_ready.eq(self.o.ready),
            ]
        else:
            self._walk_words(m, row, every, pixel, pixel_valid, pixel_ready)
            m.submodules.skid = skid = Skid(payload=pixel.shape())
            m.d.comb += [
                skid.i.valid.eq(pixel_valid),
                skid.i.payload.eq(pixel),
                pixel_ready.eq(skid.i.ready),
            ]
            connect(m, skid.o, wiring.flipped(self.o))
        taken = Signal()
        m.d.comb += taken.eq(pixel_valid & pixel_ready)
        with m.If(taken & pixel.empty):
            m.d.comb += self.freed.bit_select(pixel.bank, 1).eq(1)
        self._count_skipped(m, taken, pixel)
        return m

    def _queue(self, m: Module) -> _Row:
        """Rows from their closing until the walk takes them, in the order of the banks."""
        banks = self.banks
        pending = Signal(banks)
        notes = Signal(data.ArrayLayout(data.StructLayout({"last": 1, "error": 1}), banks), reset_less=True)
        head = Signal(range(banks))
        row = _Row(
            valid=pending.bit_select(head, 1),
            bank=head,
            frame=notes[head].last,
            error=notes[head].error,
            touched=Array(self.touched[bank] for bank in range(banks))[head],
            taken=Signal(name="row_taken"),
        )
        with m.If(row.taken):
            m.d.sync += [
                pending.bit_select(head, 1).eq(0),
                head.eq(Mux(head == banks - 1, 0, head + 1)),
            ]
        for bank in range(banks):
            with m.If(self.closed_valid & (self.closed.bank == bank)):
                m.d.sync += [
                    pending[bank].eq(1),
                    notes[bank].last.eq(self.closed.last),
                    notes[bank].error.eq(self.closed.error),
                ]
        return row

    def _walk_words(
        self, m: Module, row: _Row, every: Value, pixel: data.View, pixel_valid: Signal, pixel_ready: Signal
    ) -> None:
        """A word of pixels at a time is looked at; the first one left in it leaves."""
        parts = self.parts
        size = word_pixels(self.width)
        starts = range(0, self.width, size)
        word = Signal(
            data.StructLayout(
                {
                    "bank": range(self.banks),
                    "frame": 1,
                    "error": 1,
                    "number": range(len(starts)),
                    "last": 1,
                    "touched": size * parts,
                    "left": size,
                }
            )
        )
        word_valid = Signal()
        next_word = Signal.like(word)
        next_valid = Signal()
        load = Signal()
        (self._whole_row if len(starts) == 1 else self._choose_word)(
            m, row, every, next_word, next_valid, load
        )

        first = Signal(size)
        rest = Signal(size)
        done = Signal()
        m.d.comb += [
            first.eq(first_of(word.left)),
            rest.eq(word.left & ~first),
            done.eq(pixel_ready & ~rest.any()),
            load.eq(~word_valid | done),
            pixel_valid.eq(word_valid),
            pixel.bank.eq(word.bank),
            pixel.x.eq(Cat(lane_index(first), word.number)),
            pixel.touched.eq(one_hot_mux(first, _split(word.touched, parts))),
            pixel.last.eq(word.last & ~rest.any()),
            pixel.frame.eq(word.frame),
            pixel.error.eq(word.error),
            pixel.empty.eq(~word.left.any()),
        ]
        with m.If(pixel_ready):
            m.d.sync += word.left.eq(rest)
        with m.If(load):
            m.d.sync += [word.eq(next_word), word_valid.eq(next_valid)]

    def _whole_row(
        self, m: Module, row: _Row, every: Value, word: data.View, valid: Signal, load: Signal
    ) -> None:
        """The row is one word."""
        m.d.comb += [
            word.bank.eq(row.bank),
            word.frame.eq(row.frame),
            word.error.eq(row.error),
            word.last.eq(1),
            word.touched.eq(row.touched),
            word.left.eq(self._to_visit(row.touched, every)),
            valid.eq(row.valid),
            row.taken.eq(valid & load),
        ]

    def _choose_word(
        self, m: Module, row: _Row, every: Value, word: data.View, valid: Signal, load: Signal
    ) -> None:
        """The row at work, and the first of its words that still holds a pixel to visit."""
        parts, size = self.parts, word_pixels(self.width)
        words = _split(row.touched, size * parts)
        bank = Signal.like(row.bank, name="row_bank")
        frame = Signal(name="row_frame")
        error = Signal(name="row_error")
        touched = Signal(len(row.touched), name="row_touched")
        words_left = Signal(len(words))
        free = Signal()

        chosen = Signal(len(words))
        rest = Signal(len(words))
        bits = Signal(size * parts)
        m.d.comb += [
            chosen.eq(first_of(words_left)),
            rest.eq(words_left & ~chosen),
            bits.eq(one_hot_mux(chosen, _split(touched, size * parts))),
            word.bank.eq(bank),
            word.frame.eq(frame),
            word.error.eq(error),
            word.number.eq(lane_index(chosen)),
            word.last.eq(~rest.any()),
            word.touched.eq(bits),
            # Without any word chosen, this one has no pixel: that is how an untouched row leaves.
            word.left.eq(self._to_visit(bits, every)),
            free.eq(~valid | (load & word.last)),
            row.taken.eq(row.valid & free),
        ]
        surplus = -self.width % size
        if surplus:
            with m.If(chosen[-1]):
                m.d.comb += word.left[size - surplus :].eq(0)
        with m.If(load):
            m.d.sync += words_left.eq(rest)
        with m.If(free):
            m.d.sync += [
                valid.eq(row.valid),
                bank.eq(row.bank),
                frame.eq(row.frame),
                error.eq(row.error),
                touched.eq(row.touched),
                words_left.eq(Cat(part.any() for part in words) | every.replicate(len(words))),
            ]

    def _to_visit(self, touched: Value, every: Value) -> Value:
        """A bit for each pixel."""
        return Cat(pixel.any() | every for pixel in _split(touched, self.parts))

    def _count_skipped(self, m: Module, taken: Signal, pixel: data.View) -> None:
        """What is left of the row's pixels when its last one has left."""
        if not self.skips:
            return
        # A cycle later: the search before is long enough.
        seen = Signal()
        last = Signal()
        unseen = Signal(range(self.width + 1), init=self.width)
        now = Signal.like(unseen)
        m.d.comb += now.eq(unseen - seen)
        m.d.sync += [
            seen.eq(taken & ~pixel.empty),
            last.eq(taken & pixel.last),
            unseen.eq(Mux(last, self.width, now)),
            self.pulses.skipped.eq(Mux(last, now, 0)),
        ]


def _split(bits: Value, size: int) -> list[Value]:
    """Slices of `size` bits, the last one filled up with zeros."""
    return [
        Cat(bits[start : start + size], Const(0, max(0, start + size - len(bits))))
        for start in range(0, len(bits), size)
    ]
