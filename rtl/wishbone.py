"""Wishbone slave in front of the configuration bus."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.ports import BUS_ADDRESS_BITS, BUS_DATA_BITS, ConfigBusSignature

__all__ = ["Wishbone", "WishboneSignature"]


class WishboneSignature(wiring.Signature):
    """Wishbone B4, standard cycles, 32 bits, seen from the master; ``adr`` counts words, ``sel`` has a bit a byte."""

    def __init__(self) -> None:
        super().__init__(
            {
                "cyc": Out(1),
                "stb": Out(1),
                "we": Out(1),
                "adr": Out(BUS_ADDRESS_BITS),
                "sel": Out(BUS_DATA_BITS // 8),
                "dat_w": Out(BUS_DATA_BITS),
                "dat_r": In(BUS_DATA_BITS),
                "ack": In(1),
                "err": In(1),
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WishboneSignature)


class Wishbone(wiring.Component):
    """Registers as a Wishbone slave (B4, standard cycles).

    Members
    -------
    ``wishbone`` : in, :class:`WishboneSignature`, seen from the slave
    ``bus`` : out, :class:`~lmht.rtl.ports.ConfigBusSignature`

    ``err`` instead of ``ack`` for what the registers refuse, and, without any access, for one that does not select all
    bytes. Both come from registers and for one cycle. A master that ends its cycle before the answer gets none; the
    access may have been made. Latency a cycle and those of the access (:class:`~lmht.rtl.config_bus.ConfigBus`),
    throughput one access in 8 cycles.
    """

    def __init__(self) -> None:
        super().__init__({"wishbone": In(WishboneSignature()), "bus": Out(ConfigBusSignature())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wishbone, bus = self.wishbone, self.bus
        asked = Signal()
        given_up = Signal()
        m.d.comb += asked.eq(wishbone.cyc & wishbone.stb)
        m.d.sync += [wishbone.ack.eq(0), wishbone.err.eq(0)]
        with m.If(bus.valid):
            with m.If(~asked):
                m.d.sync += given_up.eq(1)
            with m.If(bus.ready):
                m.d.sync += bus.valid.eq(0)
                with m.If(asked & ~given_up):
                    m.d.sync += [
                        wishbone.ack.eq(~bus.error),
                        wishbone.err.eq(bus.error),
                        wishbone.dat_r.eq(bus.read_data),
                    ]
        with m.Elif(asked & ~wishbone.ack & ~wishbone.err):
            complete = wishbone.sel.all()
            m.d.sync += [
                bus.valid.eq(complete),
                wishbone.err.eq(~complete),
                given_up.eq(0),
                bus.write.eq(wishbone.we),
                bus.address.eq(wishbone.adr),
                bus.write_data.eq(wishbone.dat_w),
            ]
        return m
