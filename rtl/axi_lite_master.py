"""AXI4-Lite master, one access at a time."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.axi_lite import AxiLiteSignature, AxiResponse
from lmht.rtl.ports import ConfigBusSignature

__all__ = ["AxiLiteMaster"]


class AxiLiteMaster(wiring.Component):
    """Register accesses of a processor as AXI4-Lite transfers.

    Members
    -------
    ``bus`` : in, :class:`~lmht.rtl.ports.ConfigBusSignature`
        ``error``: the slave answered anything but OKAY; ``read_data`` is then what came with it.
    ``axi`` : out, :class:`~lmht.rtl.axi_lite.AxiLiteSignature`

    Address and data of a write are offered together and taken in any order. Every ``valid`` comes from a register.
    Latency: 2 cycles more than the slave's.
    """

    def __init__(self) -> None:
        super().__init__({"bus": In(ConfigBusSignature()), "axi": Out(AxiLiteSignature())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus, axi = self.bus, self.axi
        m.d.comb += [
            axi.awaddr[-len(bus.address) :].eq(bus.address),
            axi.araddr[-len(bus.address) :].eq(bus.address),
            axi.wdata.eq(bus.write_data),
            axi.wstrb.eq(~0),
        ]
        for valid, ready in (
            (axi.awvalid, axi.awready),
            (axi.wvalid, axi.wready),
            (axi.arvalid, axi.arready),
        ):
            with m.If(ready):
                m.d.sync += valid.eq(0)
        with m.FSM():
            with m.State("IDLE"), m.If(bus.valid):
                m.d.sync += [
                    axi.awvalid.eq(bus.write),
                    axi.wvalid.eq(bus.write),
                    axi.arvalid.eq(~bus.write),
                ]
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += [
                    axi.bready.eq(1),
                    axi.rready.eq(1),
                    bus.ready.eq(axi.bvalid | axi.rvalid),
                    bus.read_data.eq(axi.rdata),
                ]
                with m.If(axi.bvalid):
                    m.d.comb += bus.error.eq(axi.bresp != AxiResponse.OKAY)
                with m.Else():
                    m.d.comb += bus.error.eq(axi.rresp != AxiResponse.OKAY)
                with m.If(bus.ready):
                    m.next = "IDLE"
        return m
