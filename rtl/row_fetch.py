"""Reads the memory rows of pixels, one a cycle, through the registered outputs of banks of block RAM."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.pipeline import times
from lmht.rtl.pixel_walk import pixel_layout

__all__ = ["RowFetch", "fetched_layout"]


def fetched_layout(*, width: int, banks: int, parts: int) -> data.StructLayout:
    """What belongs to the row that a memory shows.

    ``bank``, ``x``, ``part``, ``untouched`` (the row counts as zeros), ``last_part`` (of its pixel), ``last`` (of the
    pixels' row), ``frame``, ``error``, ``empty`` as in :func:`~lmht.rtl.pixel_walk.pixel_layout`.
    """
    return data.StructLayout(
        {
            "bank": range(banks),
            "x": range(width),
            "part": range(parts),
            "untouched": 1,
            "quiet": 1,
            "last_part": 1,
            "last": 1,
            "frame": 1,
            "error": 1,
            "empty": 1,
        }
    )


class RowFetch(wiring.Component):
    """Fetch ``parts`` memory rows for every pixel.

    Parameters
    ----------
    width, banks : int
        Pixels of a row, and banks, each of ``width * parts`` memory rows.
    parts : int
        Memory rows of a pixel.
    partial : bool
        Parts of a pixel are touched one by one.

    Members
    -------
    ``i`` : in stream of :func:`~lmht.rtl.pixel_walk.pixel_layout`
    ``reading``, ``read_bank`` : out, the fetch owns this bank's read port
    ``read_row``, ``read_enable`` : out, that port: data are there 2 cycles later, not counting cycles without
        ``read_enable``, which hold them
    ``o`` : out stream of :func:`fetched_layout`; the memory shows the row while it is offered
    ``freed`` : out, one bit a bank: its last row has been taken

    Throughput: one memory row a cycle; 2 cycles are lost from one bank to another. A word with ``empty`` reads
    nothing. Latency: 3 cycles.
    """

    def __init__(self, *, width: int, banks: int, parts: int, partial: bool = False):
        self.parts = parts
        self.partial = partial
        touched = parts if partial else 1
        super().__init__(
            {
                "i": In(stream.Signature(pixel_layout(width=width, banks=banks, parts=touched))),
                "reading": Out(1),
                "read_bank": Out(range(banks)),
                "read_row": Out(range(width * parts)),
                "read_enable": Out(1),
                "o": Out(stream.Signature(fetched_layout(width=width, banks=banks, parts=parts))),
                "freed": Out(banks),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pixel = self.i.payload
        part = Signal(range(self.parts))

        # The tags travel with the address: offered to the memory, in its array, at its output.
        layout = self.o.payload.shape()
        tags = [Signal(layout, name=f"tag_{stage}", reset_less=True) for stage in range(3)]
        valid = [Signal(name=f"valid_{stage}") for stage in range(3)]
        reads = [flag & ~tag.empty for flag, tag in zip(valid, tags, strict=True)]
        advance = Signal()
        last_part = Signal()
        enter = Signal()
        m.d.comb += [
            self.o.valid.eq(valid[2]),
            self.o.payload.eq(tags[2]),
            advance.eq(~valid[2] | self.o.ready),
            self.read_enable.eq(advance),
            self.reading.eq(reads[0] | reads[1] | reads[2]),
            last_part.eq((part == self.parts - 1) | pixel.empty),
            # All rows on their way lie in one bank; that at the output leaves in this cycle.
            enter.eq(
                self.i.valid
                & advance
                & (pixel.empty | (pixel.bank == self.read_bank) | ~(reads[0] | reads[1]))
            ),
            self.i.ready.eq(enter & last_part),
        ]
        with m.If(advance):
            m.d.sync += [valid[0].eq(enter), valid[1].eq(valid[0]), valid[2].eq(valid[1])]
            m.d.sync += [tags[1].eq(tags[0]), tags[2].eq(tags[1])]
        with m.If(enter):
            m.d.sync += [
                tags[0].bank.eq(pixel.bank),
                tags[0].x.eq(pixel.x),
                tags[0].part.eq(part),
                tags[0].untouched.eq(~(pixel.touched.bit_select(part, 1) if self.partial else pixel.touched)),
                tags[0].quiet.eq(~pixel.touched.any() & ~pixel.empty),
                tags[0].last_part.eq(last_part),
                tags[0].last.eq(pixel.last & last_part),
                tags[0].frame.eq(pixel.frame),
                tags[0].error.eq(pixel.error),
                tags[0].empty.eq(pixel.empty),
                part.eq(part + 1),
            ]
            with m.If(last_part):
                m.d.sync += part.eq(0)
            with m.If(~pixel.empty):
                m.d.sync += [self.read_bank.eq(pixel.bank), self.read_row.eq(self.read_row + 1)]
                with m.If(part == 0):
                    m.d.sync += self.read_row.eq(times(pixel.x, self.parts))
        with m.If(self.o.valid & self.o.ready & tags[2].last & ~tags[2].empty):
            m.d.comb += self.freed.bit_select(tags[2].bank, 1).eq(1)
        return m
