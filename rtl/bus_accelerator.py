"""A design with the ports that a system has: registers on AXI4-Lite or Wishbone, frames and results on AXI4-Stream."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Instance, Module, ResetInserter, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from lmht.rtl.accelerator import Accelerator
from lmht.rtl.axi_lite import AxiLite
from lmht.rtl.axi_stream import AxiStreamFrames, AxiStreamResults
from lmht.rtl.checks import check_choice
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.wishbone import Wishbone

__all__ = ["BUSES", "BusAccelerator"]

BUSES = ("axi", "wishbone")
"""What the registers can be on."""


class BusAccelerator(wiring.Component):
    """The design's own module (:class:`~lmht.rtl.accelerator.Accelerator`) behind standard buses.

    Parameters
    ----------
    parameters : DesignParameters
        Its ``frame.bytes_per_beat``, 4 or 8, is the width of both streams.
    bus : {"axi", "wishbone"}
        Of the registers.

    Members
    -------
    ``s_axi_<signal>`` : :class:`~lmht.rtl.axi_lite.AxiLiteSignature`, or
        ``wb_<signal>`` : :class:`~lmht.rtl.wishbone.WishboneSignature`
    ``s_axis_<signal>`` : frames, :class:`~lmht.rtl.axi_stream.AxiStreamFrames`
    ``m_axis_<signal>`` : results, :class:`~lmht.rtl.axi_stream.AxiStreamResults`
    ``interrupt_request`` : out, level

    ``rst`` is synchronous and high-active: the inverse of ``ARESETn``. The design itself is instantiated by its name,
    so that its Verilog is the one that was verified.

    Raises
    ------
    ValueError
        If `bus` is another one, or the beats have another width.
    """

    def __init__(self, *, parameters: DesignParameters, bus: str = "axi"):
        check_choice("bus", bus, BUSES)
        self.parameters = parameters
        frame = parameters.frame
        registers = ("s_axi", "axi", AxiLite()) if bus == "axi" else ("wb", "wishbone", Wishbone())
        self._slave = registers[2]
        self._frames = AxiStreamFrames(frame=frame)
        self._results = AxiStreamResults(layout=parameters.logit_layout, data_bytes=frame.bytes_per_beat)
        # Prefix of the ports, interface, and the component it belongs to.
        self._buses = [registers, ("s_axis", "axi", self._frames), ("m_axis", "axi", self._results)]
        members = {"interrupt_request": Out(1)}
        for prefix, interface, component in self._buses:
            for name, member in getattr(component, interface).signature.members.items():
                members[f"{prefix}_{name}"] = member.flow(member.shape)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core = Accelerator.ports(self.parameters).create()
        m.submodules.core = self._core(core)
        m.submodules.slave = self._slave
        # The rest of a packet that its source has given up must not stay here either.
        m.submodules.frames = ResetInserter(core.frame_restart)(self._frames)
        m.submodules.results = self._results
        connect(m, self._slave.bus, core.bus)
        connect(m, self._frames.o, core.frames)
        connect(m, core.results, self._results.i)
        m.d.comb += self.interrupt_request.eq(core.interrupt_request)
        for prefix, interface, component in self._buses:
            inside = getattr(component, interface)
            for name, member in inside.signature.members.items():
                port, signal = getattr(self, f"{prefix}_{name}"), getattr(inside, name)
                m.d.comb += signal.eq(port) if member.flow is In else port.eq(signal)
        return m

    def _core(self, core: wiring.PureInterface) -> Instance:
        """The design's module; its ports are those of `core`."""
        ports = {
            ("i_" if member.flow is In else "o_") + "__".join(map(str, path)): value
            for path, member, value in core.signature.flatten(core)
        }
        return Instance(self.parameters.name, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
