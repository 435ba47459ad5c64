"""A UART that sends: 8 data bits, no parity, one stop bit."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.checks import check_range

__all__ = ["UartTransmitter"]


class UartTransmitter(wiring.Component):
    """Characters to a serial line.

    Parameters
    ----------
    clocks_per_bit : int
        Clock cycles of a bit, 2 to 65536.

    Members
    -------
    ``i`` : in stream of 8 bits
    ``tx`` : out, 1 at rest; a start bit of 0, the bits from the lowest on, a stop bit of 1

    A character takes ``10 * clocks_per_bit`` cycles; the next one is taken in the cycle after.

    Raises
    ------
    TypeError, ValueError
        If `clocks_per_bit` is no integer or out of range.
    """

    def __init__(self, *, clocks_per_bit: int):
        check_range("clocks_per_bit", clocks_per_bit, 2, 65536)
        self.clocks_per_bit = clocks_per_bit
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        frame = Signal(
            10
        )  # bits still to send, the present one lowest; 0 at rest, since the stop bit is the last 1
        clock = Signal(range(self.clocks_per_bit))
        m.d.comb += [self.i.ready.eq(~frame.any()), self.tx.eq(frame[0] | ~frame.any())]
        m.d.sync += clock.eq(Mux(self.i.ready | (clock == 0), self.clocks_per_bit - 1, clock - 1))
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += frame.eq(Cat(Const(0, 1), self.i.payload, Const(1, 1)))
        with m.Elif(clock == 0):
            m.d.sync += frame.eq(frame >> 1)
        return m
