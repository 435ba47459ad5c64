"""AXI4-Lite slave in front of the configuration bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.ports import BUS_ADDRESS_BITS, BUS_DATA_BITS, ConfigBusSignature

if TYPE_CHECKING:
    from enum import Enum  # what Amaranth's is, but for the shape
else:
    from amaranth.lib.enum import Enum

__all__ = ["AxiLite", "AxiLiteSignature", "AxiResponse"]

_BYTES = BUS_DATA_BITS // 8
_OFFSET_BITS = (_BYTES - 1).bit_length()


class AxiResponse(Enum, shape=2):
    """``BRESP`` and ``RRESP``: what this slave answers."""

    OKAY = 0
    SLVERR = 2


class AxiLiteSignature(wiring.Signature):
    """AXI4-Lite with 32 bits of data, seen from the master, by the names of the specification (ARM IHI 0022).

    Addresses are in bytes and just wide enough for the registers.
    """

    def __init__(self) -> None:
        address_bits = BUS_ADDRESS_BITS + _OFFSET_BITS
        super().__init__(
            {
                "awvalid": Out(1),
                "awready": In(1),
                "awaddr": Out(address_bits),
                "awprot": Out(3),
                "wvalid": Out(1),
                "wready": In(1),
                "wdata": Out(BUS_DATA_BITS),
                "wstrb": Out(_BYTES),
                "bvalid": In(1),
                "bready": Out(1),
                "bresp": In(AxiResponse),
                "arvalid": Out(1),
                "arready": In(1),
                "araddr": Out(address_bits),
                "arprot": Out(3),
                "rvalid": In(1),
                "rready": Out(1),
                "rdata": In(BUS_DATA_BITS),
                "rresp": In(AxiResponse),
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AxiLiteSignature)


class AxiLite(wiring.Component):
    """Registers as an AXI4-Lite slave.

    Members
    -------
    ``axi`` : in, :class:`AxiLiteSignature`, seen from the slave
    ``bus`` : out, :class:`~lmht.rtl.ports.ConfigBusSignature`

    The five channels are independent: address and data of a write come in any order, a read passes a write that lacks
    one of them, and each channel holds one transfer, so that the next one is taken while the last waits for its
    response. Where both wait, reads and writes take turns. Every output comes from registers: none depends on an
    input in the same cycle. ``AWPROT`` and ``ARPROT`` are ignored.

    SLVERR, without any access, for an address that is no multiple of 4 and for a write that does not have all bytes
    (``WSTRB``); SLVERR for what the registers refuse.

    Latency: 2 cycles and those of the access (:class:`~lmht.rtl.config_bus.ConfigBus`) from a read's address to its
    data, as many from the later of a write's two halves to its response; throughput one access in 8 cycles.
    """

    def __init__(self) -> None:
        super().__init__({"axi": In(AxiLiteSignature()), "bus": Out(ConfigBusSignature())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, bus = self.axi, self.bus

        write_address = Signal.like(axi.awaddr, reset_less=True)
        write_strobe = Signal.like(axi.wstrb, reset_less=True)
        read_address = Signal.like(axi.araddr, reset_less=True)
        has_write_address = Signal()
        has_write_data = Signal()
        has_read_address = Signal()
        for valid, ready, taken, stored in (
            (axi.awvalid, axi.awready, has_write_address, [(write_address, axi.awaddr)]),
            (
                axi.wvalid,
                axi.wready,
                has_write_data,
                [(bus.write_data, axi.wdata), (write_strobe, axi.wstrb)],
            ),
            (axi.arvalid, axi.arready, has_read_address, [(read_address, axi.araddr)]),
        ):
            m.d.comb += ready.eq(~taken)
            with m.If(~taken):
                m.d.sync += [taken.eq(valid), *(register.eq(value) for register, value in stored)]

        may_write = Signal()
        may_read = Signal()
        m.d.comb += [
            may_write.eq(has_write_address & has_write_data & ~axi.bvalid),
            may_read.eq(has_read_address & ~axi.rvalid),
        ]
        write_next = Signal()  # whose turn it is where both wait

        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(axi.rready):
            m.d.sync += axi.rvalid.eq(0)

        done = Signal()
        error = Signal()
        with m.FSM():
            with m.State("CHOOSE"):
                refused = Signal()
                with m.If(may_write & (write_next | ~may_read)):
                    m.d.comb += refused.eq(write_address[:_OFFSET_BITS].any() | ~write_strobe.all())
                    m.d.sync += [bus.write.eq(1), bus.address.eq(write_address[_OFFSET_BITS:])]
                    m.d.sync += bus.valid.eq(~refused)
                    m.next = "ANSWER"
                with m.Elif(may_read):
                    m.d.comb += refused.eq(read_address[:_OFFSET_BITS].any())
                    m.d.sync += [bus.write.eq(0), bus.address.eq(read_address[_OFFSET_BITS:])]
                    m.d.sync += bus.valid.eq(~refused)
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [done.eq(bus.ready | ~bus.valid), error.eq(bus.error | ~bus.valid)]
                with m.If(done):
                    m.d.sync += [bus.valid.eq(0), write_next.eq(~bus.write)]
                    m.next = "CHOOSE"

        response = Mux(error, AxiResponse.SLVERR, AxiResponse.OKAY)
        with m.If(done & bus.write):
            m.d.sync += [
                axi.bvalid.eq(1),
                axi.bresp.eq(response),
                has_write_address.eq(0),
                has_write_data.eq(0),
            ]
        with m.If(done & ~bus.write):
            m.d.sync += [
                axi.rvalid.eq(1),
                axi.rresp.eq(response),
                axi.rdata.eq(Mux(error, 0, bus.read_data)),
                has_read_address.eq(0),
            ]
        return m
