"""An emitted design in a LiteX SoC: registers on the SoC's bus, frames and results by DMA.

Compile a design with AXI ports, and add it to a SoC of yours:

    lmht compile runs/mnist --bus axi --out build/mnist

    from litex_core import add_lmht
    add_lmht(soc, "build/mnist", origin=0x30000000)

Software reaches the registers at `origin`, four bytes each, and the two DMA channels through the CSRs `lmht_reader_*`
and `lmht_writer_*`: base address and length in bytes, enable, done. The build's `lmht.c` needs four functions for that:
read and write a register, start the reader on a frame, and take the words that the writer has written.
"""

import json
from pathlib import Path

from litex.gen import LiteXModule
from litex.soc.cores.dma import WishboneDMAReader, WishboneDMAWriter
from litex.soc.integration.soc import SoCRegion
from litex.soc.interconnect import axi, wishbone
from litex.soc.interconnect.csr_eventmanager import EventManager, EventSourceLevel
from migen import ClockSignal, Instance, ResetSignal, Signal


class LmhtCore(LiteXModule):
    """The design's top module; its port list comes from the build's manifest.

    `bus` is AXI4-Lite, `frames` and `results` are AXI4-Streams; `interrupt` is a level, on `ev` for the processor.
    """

    def __init__(self, platform, build):
        build = Path(build)
        manifest = json.loads((build / "manifest.json").read_text())
        ports = {port["name"]: port for port in manifest["ports"]}
        if "s_axi_awaddr" not in ports:
            raise ValueError(f"{build} has no AXI ports: compile it with --bus axi")
        self.address_bits = ports["s_axi_awaddr"]["width"]
        self.data_bits = ports["s_axis_tdata"]["width"]
        self.bus = axi.AXILiteInterface(data_width=32, address_width=32)
        self.frames = axi.AXIStreamInterface(data_width=self.data_bits)
        self.results = axi.AXIStreamInterface(data_width=self.data_bits)
        self.interrupt = Signal()
        self.ev = EventManager()
        self.ev.core = EventSourceLevel(description="A cause in INTERRUPT_CAUSE is set.")
        self.ev.finalize()
        self.comb += self.ev.core.trigger.eq(self.interrupt)

        connections = {}
        for name, port in ports.items():
            # The SoC's addresses are wider than the core's.
            signal = self._signal(name)[: port["width"]] if name.endswith("addr") else self._signal(name)
            connections[f"{port['direction'][0]}_{name}"] = signal
        self.specials += Instance(manifest["top"], **connections)
        for file in manifest["files"]:
            if file.endswith(".v"):
                platform.add_source(build / file)

    def _signal(self, port):
        """What belongs to a port: `s_axi_awvalid` to `bus.aw.valid`, `m_axis_tdata` to `results.data`."""
        single = {"clk": ClockSignal("sys"), "rst": ResetSignal("sys"), "interrupt_request": self.interrupt}
        if port in single:
            return single[port]
        bus, member = port.rsplit("_", 1)
        if bus == "s_axi":
            channel = member[:2] if member.startswith(("aw", "ar")) else member[:1]
            return getattr(getattr(self.bus, channel), member[len(channel) :])
        return getattr({"s_axis": self.frames, "m_axis": self.results}[bus], member[1:])


def add_lmht(soc, build, origin, name="lmht"):
    """Add a design to a SoC: registers at `origin`, a DMA reader for frames and a writer for results."""
    core = LmhtCore(soc.platform, build)
    region = SoCRegion(origin=origin, size=2**core.address_bits, cached=False)
    # "big" is LiteX's word for bytes left in their order, the first one lowest, as AXI4-Stream has them.
    reader, writer = (
        channel(
            wishbone.Interface(data_width=core.data_bits, address_width=32), endianness="big", with_csr=True
        )
        for channel in (WishboneDMAReader, WishboneDMAWriter)
    )
    soc.add_module(name, core)
    soc.add_module(f"{name}_reader", reader)
    soc.add_module(f"{name}_writer", writer)
    soc.bus.add_slave(name, core.bus, region)
    soc.bus.add_master(f"{name}_reader", reader.bus)
    soc.bus.add_master(f"{name}_writer", writer.bus)
    soc.comb += [
        reader.source.connect(core.frames, keep={"valid", "ready", "last", "data"}),
        # What lies behind the frame in its last beat is not looked at.
        core.frames.keep.eq(2 ** (core.data_bits // 8) - 1),
        # The writer goes on behind the last word of a result: its length is that of all results to come.
        core.results.connect(writer.sink, keep={"valid", "ready", "data"}),
    ]
    if soc.irq.enabled:
        soc.irq.add(name, use_loc_if_exists=True)
    return core
