"""A RISC-V system around a design: PicoRV32, memories, UART, and the streams of the core."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Const, Instance, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from lmht.rtl.axi_lite_master import AxiLiteMaster
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.soc_devices import SocDevices
from lmht.rtl.soc_map import (
    CORE,
    CORE_INTERRUPT,
    DEVICES,
    FLASH,
    INTERRUPT_VECTOR,
    RAM,
    REGIONS,
    SELECT_BITS,
    Region,
)

__all__ = ["Soc"]

_INTERRUPTS = 32


class Soc(wiring.Component):
    """System in which a processor uses a design as a peripheral; :mod:`~lmht.rtl.soc_map` has its addresses.

    Parameters
    ----------
    parameters : DesignParameters
        Its ``frame.bytes_per_beat``, 4 or 8, is the width of both streams.
    core : str
        Module of the design behind AXI, :class:`~lmht.rtl.bus_accelerator.BusAccelerator`.

    Members
    -------
    ``uart_tx`` : out, serial line
    ``exited``, ``exit_status`` : out
        The program has ended, and with what.
    ``trapped`` : out
        The processor met an instruction that it cannot execute, or a misaligned address.
    ``faulted``, ``fault_address`` : out
        An address without memory or register was accessed, flash was written, or a register was not written as a
        whole word; the processor waits for ever.

    Instantiates the modules ``picorv32`` (RV32IM with interrupts of its own kind), ``soc_memory`` and `core`.
    Memories and devices answer in the cycle after, the core when its AXI4-Lite slave does.

    Raises
    ------
    ValueError
        If the beats have another width.
    """

    def __init__(self, *, parameters: DesignParameters, core: str):
        self._core_module = core
        self._devices = SocDevices(data_bytes=parameters.frame.bytes_per_beat)
        super().__init__(
            {
                "uart_tx": Out(1, init=1),
                "exited": Out(1),
                "exit_status": Out(8),
                "trapped": Out(1),
                "faulted": Out(1),
                "fault_address": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bridge = bridge = AxiLiteMaster()
        m.submodules.devices = devices = self._devices
        interrupt = self._core(m, bridge)

        valid, ready, writes = Signal(), Signal(), Signal()
        address, write_data, read_data = Signal(32), Signal(32), Signal(32)
        strobe = Signal(4)
        m.submodules.cpu = Instance(
            "picorv32",
            p_ENABLE_FAST_MUL=1,
            p_ENABLE_DIV=1,
            p_BARREL_SHIFTER=1,
            p_ENABLE_IRQ=1,
            p_ENABLE_IRQ_TIMER=0,
            # The core holds its interrupt until its cause is cleared: it is not latched here.
            p_LATCHED_IRQ=Const((1 << _INTERRUPTS) - 1 - (1 << CORE_INTERRUPT), _INTERRUPTS),
            p_PROGADDR_RESET=Const(RAM.base, 32),
            p_PROGADDR_IRQ=Const(RAM.base + INTERRUPT_VECTOR, 32),
            i_clk=ClockSignal(),
            i_resetn=~ResetSignal(),
            o_trap=self.trapped,
            o_mem_valid=valid,
            i_mem_ready=ready,
            o_mem_addr=address,
            o_mem_wdata=write_data,
            o_mem_wstrb=strobe,
            i_mem_rdata=read_data,
            i_irq=(interrupt << CORE_INTERRUPT) | Const(0, _INTERRUPTS),
            i_pcpi_wr=Const(0),
            i_pcpi_rd=Const(0, 32),
            i_pcpi_wait=Const(0),
            i_pcpi_ready=Const(0),
        )

        asked, register_access = Signal(), Signal()
        selected = {region: Signal(name=f"{region.name}_selected") for region in REGIONS}
        m.d.comb += [
            writes.eq(strobe.any()),
            asked.eq(valid & ~ready & ~self.faulted),
            register_access.eq(asked & (strobe.all() | ~writes)),
            *(signal.eq(_lies_in(address, region)) for region, signal in selected.items()),
            devices.access.eq(register_access & selected[DEVICES]),
            devices.write.eq(writes),
            devices.address.eq(address[2:]),
            devices.write_data.eq(write_data),
            devices.refused.eq(bridge.bus.ready & bridge.bus.error),
            bridge.bus.valid.eq(register_access & selected[CORE]),
            bridge.bus.write.eq(writes),
            bridge.bus.address.eq(address[2:]),
            bridge.bus.write_data.eq(write_data),
            self.uart_tx.eq(devices.uart_tx),
            self.exited.eq(devices.exited),
            self.exit_status.eq(devices.exit_status),
        ]

        core_data = Signal(32)
        fault = Signal()
        with m.If(bridge.bus.valid):
            m.d.sync += [ready.eq(bridge.bus.ready), core_data.eq(bridge.bus.read_data)]
        with m.Else():
            answered = selected[RAM] | (selected[FLASH] & ~writes) | (devices.access & ~devices.unknown)
            m.d.sync += ready.eq(asked & answered)
            m.d.comb += fault.eq(asked & ~answered)

        ram_data, ram_dma_data = self._memory(
            m, RAM, address, Mux(asked & selected[RAM], strobe, 0), write_data
        )
        flash_data, flash_dma_data = self._memory(m, FLASH, address, Const(0, 4), write_data)
        with m.If(selected[RAM]):
            m.d.comb += read_data.eq(ram_data)
        with m.Elif(selected[FLASH]):
            m.d.comb += read_data.eq(flash_data)
        with m.Elif(selected[CORE]):
            m.d.comb += read_data.eq(core_data)
        with m.Else():
            m.d.comb += read_data.eq(devices.read_data)

        dma_address = Signal(32)
        from_flash = Signal()  # the word that the DMA asked for in the last cycle
        dma_fault = Signal()
        m.d.comb += [
            dma_address[2:].eq(devices.read_address),
            dma_fault.eq(devices.reading & ~_lies_in(dma_address, RAM) & ~_lies_in(dma_address, FLASH)),
            devices.read_data_dma.eq(Mux(from_flash, flash_dma_data, ram_dma_data)),
        ]
        m.d.sync += from_flash.eq(_lies_in(dma_address, FLASH))

        with m.If((fault | dma_fault) & ~self.faulted):
            m.d.sync += [self.faulted.eq(1), self.fault_address.eq(Mux(fault, address, dma_address))]
        return m

    def _core(self, m: Module, bridge: AxiLiteMaster) -> Signal:
        """The design behind AXI; returns its interrupt."""
        interrupt = Signal()
        ports: dict[str, Value] = {}
        # Every interface is seen from this side: what it drives is an input of the core.
        for prefix, interface in (
            ("s_axi", bridge.axi),
            ("s_axis", self._devices.frames),
            ("m_axis", self._devices.results),
        ):
            for name, member in interface.signature.members.items():
                direction = "i" if member.flow is Out else "o"
                ports[f"{direction}_{prefix}_{name}"] = Value.cast(getattr(interface, name))
        m.submodules.core = Instance(
            self._core_module,
            i_clk=ClockSignal(),
            i_rst=ResetSignal(),
            o_interrupt_request=interrupt,
            **ports,
        )
        return interrupt

    def _memory(
        self, m: Module, region: Region, address: Signal, strobe: Value, write_data: Signal
    ) -> tuple[Signal, Signal]:
        """The memory of a region; returns what the processor and the DMA read."""
        read_data = Signal(32, name=f"{region.name}_data")
        second_read_data = Signal(32, name=f"{region.name}_dma_data")
        address_bits = (region.words - 1).bit_length()
        m.submodules[region.name] = Instance(
            "soc_memory",
            p_ADDRESS_BITS=address_bits,
            p_ARGUMENT=f"{region.name}=%s",
            i_clk=ClockSignal(),
            i_address=address[2 : 2 + address_bits],
            i_write_strobe=strobe,
            i_write_data=write_data,
            o_read_data=read_data,
            i_second_address=self._devices.read_address[:address_bits],
            o_second_read_data=second_read_data,
        )
        return read_data, second_read_data


def _lies_in(address: Value, region: Region) -> Value:
    """Whether a byte address belongs to the region."""
    select = 32 - SELECT_BITS
    return (address[select:] == region.base >> select) & (address[:select] < region.size)
