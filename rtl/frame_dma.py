"""Frames from a memory to AXI4-Stream, and results from AXI4-Stream to words that a processor reads."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lmht.rtl.axi_stream import AxiStreamSignature
from lmht.rtl.result_words import WORD_BITS

__all__ = ["FrameDma", "ResultBuffer"]

_WORD_BYTES = WORD_BITS // 8
_FETCHED_WORDS = 8  # held between memory and stream: more than the memory's latency
_RESULT_WORDS = 64


class FrameDma(wiring.Component):
    """Reads bytes from a memory of 32-bit words and sends them as one packet.

    Parameters
    ----------
    data_bytes : int
        Width of the stream, 4 or 8.

    Members
    -------
    ``start`` : in
        In a cycle in which ``busy`` is 0: send ``length`` bytes from ``address`` (in words) on.
    ``address``, ``length`` : in, 30 and 32 bits
    ``busy`` : out
        The packet's last beat has not been taken.
    ``read_address`` : out, 30 bits; ``reading`` : out, 1 in a cycle in which the address counts
    ``read_data`` : in, 32 bits, one cycle after the address
    ``axi`` : out, :class:`~lmht.rtl.axi_stream.AxiStreamSignature`
        First byte lowest; ``tkeep`` has the bytes of the packet, ``tlast`` its end.

    Throughput one word a cycle.
    """

    def __init__(self, *, data_bytes: int):
        super().__init__(
            {
                "start": In(1),
                "address": In(30),
                "length": In(32),
                "busy": Out(1),
                "read_address": Out(30),
                "reading": Out(1),
                "read_data": In(WORD_BITS),
                "axi": Out(AxiStreamSignature(data_bytes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        size = axi.signature.data_bytes
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=WORD_BITS, depth=_FETCHED_WORDS)

        words = Signal(31)  # still to read
        reads = Signal()  # a word was asked for in the last cycle
        m.d.comb += [
            self.reading.eq((words != 0) & (fifo.level + reads < _FETCHED_WORDS)),
            fifo.w_en.eq(reads),
            fifo.w_data.eq(self.read_data),
        ]
        m.d.sync += reads.eq(self.reading)
        with m.If(self.reading):
            m.d.sync += [self.read_address.eq(self.read_address + 1), words.eq(words - 1)]

        left = Signal(32)  # bytes still to send
        low = Signal(WORD_BITS)  # first word of a beat of two
        has_low = Signal()
        incomplete = Signal()
        m.d.comb += [
            self.busy.eq(left != 0),
            incomplete.eq((size > _WORD_BYTES) & ~has_low & (left > _WORD_BYTES)),
            axi.tvalid.eq(fifo.r_rdy & ~incomplete),
            axi.tdata.eq(Mux(has_low, Cat(low, fifo.r_data), fifo.r_data)),
            axi.tkeep.eq(Cat(left > byte for byte in range(size))),
            axi.tlast.eq(left <= size),
            fifo.r_en.eq(axi.tready | incomplete),
        ]
        with m.If(fifo.r_rdy & incomplete):
            m.d.sync += [low.eq(fifo.r_data), has_low.eq(1)]
        with m.Elif(axi.tvalid & axi.tready):
            m.d.sync += [has_low.eq(0), left.eq(Mux(axi.tlast, 0, left - size))]

        with m.If(self.start & ~self.busy):
            m.d.sync += [
                left.eq(self.length),
                words.eq((self.length + _WORD_BYTES - 1) >> 2),
                self.read_address.eq(self.address),
            ]
        return m


class ResultBuffer(wiring.Component):
    """Words of packets, held until they are taken one by one.

    Parameters
    ----------
    data_bytes : int
        Width of the stream, 4 or 8.

    Members
    -------
    ``axi`` : in, :class:`~lmht.rtl.axi_stream.AxiStreamSignature`
        Of a beat of two words the upper one counts if ``tkeep`` has it.
    ``count`` : out, words held
    ``word`` : out, 32 bits, the oldest of them; 0 where there is none
    ``take`` : in, the word leaves
    ``ended`` : out, 1 in the cycle in which a packet's last word comes in

    Holds 64 words; a packet that is longer waits at ``tready``.
    """

    def __init__(self, *, data_bytes: int):
        super().__init__(
            {
                "axi": In(AxiStreamSignature(data_bytes)),
                "count": Out(range(_RESULT_WORDS + 1)),
                "word": Out(WORD_BITS),
                "take": In(1),
                "ended": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        m.submodules.fifo = fifo = SyncFIFO(width=WORD_BITS, depth=_RESULT_WORDS)
        upper = Signal()  # the upper word of the beat is next
        more = Signal()
        m.d.comb += [
            more.eq(axi.tkeep[_WORD_BYTES:].any() & ~upper),
            fifo.w_en.eq(axi.tvalid),
            fifo.w_data.eq(Mux(upper, axi.tdata[WORD_BITS:], axi.tdata[:WORD_BITS])),
            axi.tready.eq(fifo.w_rdy & ~more),
            self.ended.eq(axi.tvalid & axi.tready & axi.tlast),
            self.count.eq(fifo.r_level),
            self.word.eq(Mux(fifo.r_rdy, fifo.r_data, 0)),
            fifo.r_en.eq(self.take),
        ]
        with m.If(axi.tvalid & fifo.w_rdy):
            m.d.sync += upper.eq(more)
        return m
