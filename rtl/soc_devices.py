"""Devices of the RISC-V system: UART, streams to and from the core, end of the simulation."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from lmht.rtl.axi_stream import AxiStreamSignature
from lmht.rtl.frame_dma import FrameDma, ResultBuffer
from lmht.rtl.soc_map import CLOCKS_PER_BIT, DEVICE_REGISTERS, DEVICES, device_register
from lmht.rtl.uart_transmitter import UartTransmitter

__all__ = ["SocDevices"]


class SocDevices(wiring.Component):
    """The registers of :data:`~lmht.rtl.soc_map.DEVICE_REGISTERS` and what is behind them.

    Parameters
    ----------
    data_bytes : int
        Width of the streams, 4 or 8.

    Members
    -------
    ``access``, ``write``, ``address`` (in words), ``write_data`` : in
        One access in each cycle in which ``access`` is 1.
    ``read_data`` : out, in the cycle after
    ``unknown`` : out, 1 in the cycle of an access to an address without a register
    ``refused`` : in, 1 in a cycle in which the core answers with an error
    ``read_address``, ``reading``, ``read_data_dma`` : the memory, :class:`~lmht.rtl.frame_dma.FrameDma`
    ``frames`` : out, ``results`` : in, :class:`~lmht.rtl.axi_stream.AxiStreamSignature`
    ``uart_tx``, ``exited``, ``exit_status`` : out
    """

    def __init__(self, *, data_bytes: int):
        self._data_bytes = data_bytes
        super().__init__(
            {
                "access": In(1),
                "write": In(1),
                "address": In(range(DEVICES.words)),
                "write_data": In(32),
                "read_data": Out(32),
                "unknown": Out(1),
                "refused": In(1),
                "read_address": Out(30),
                "reading": Out(1),
                "read_data_dma": In(32),
                "frames": Out(AxiStreamSignature(data_bytes)),
                "results": In(AxiStreamSignature(data_bytes)),
                "uart_tx": Out(1, init=1),
                "exited": Out(1),
                "exit_status": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.uart = uart = UartTransmitter(clocks_per_bit=CLOCKS_PER_BIT)
        m.submodules.dma = dma = FrameDma(data_bytes=self._data_bytes)
        m.submodules.buffer = buffer = ResultBuffer(data_bytes=self._data_bytes)
        connect(m, dma.axi, flipped(self.frames))
        connect(m, flipped(self.results), buffer.axi)
        m.d.comb += [
            self.uart_tx.eq(uart.tx),
            self.read_address.eq(dma.read_address),
            self.reading.eq(dma.reading),
            dma.read_data.eq(self.read_data_dma),
        ]

        was_refused = Signal()
        with m.If(self.refused):
            m.d.sync += was_refused.eq(1)

        readable: dict[str, Value] = {
            "UART_STATUS": Cat(uart.i.valid, uart.i.valid | ~uart.i.ready),
            "FRAME_STATUS": dma.busy,
            "RESULT_COUNT": buffer.count,
            "RESULT_DATA": buffer.word,
            "FRAME_CYCLES": self._frame_cycles(m, buffer.ended),
            "CORE_REFUSED": was_refused,
        }
        chosen = Signal(len(DEVICE_REGISTERS))
        with m.If(self.access), m.Switch(self.address):
            for register in DEVICE_REGISTERS:
                with m.Case(register.address):
                    m.d.comb += chosen[register.address].eq(1)
                    m.d.sync += self.read_data.eq(readable.get(register.name, 0))
            with m.Default():
                m.d.comb += self.unknown.eq(1)

        def is_written(name: str) -> Value:
            return chosen[device_register(name).address] & self.write

        with m.If(uart.i.ready):
            m.d.sync += uart.i.valid.eq(0)
        with m.If(is_written("UART_DATA") & ~uart.i.valid):
            m.d.sync += [uart.i.valid.eq(1), uart.i.payload.eq(self.write_data)]
        with m.If(is_written("FRAME_ADDRESS")):
            m.d.sync += dma.address.eq(self.write_data[2:])
        m.d.comb += [
            dma.start.eq(is_written("FRAME_LENGTH")),
            dma.length.eq(self.write_data),
            buffer.take.eq(chosen[device_register("RESULT_DATA").address] & ~self.write),
        ]
        with m.If(is_written("CORE_REFUSED") & self.write_data[0]):
            m.d.sync += was_refused.eq(0)
        with m.If(is_written("EXIT")):
            m.d.sync += [self.exited.eq(1), self.exit_status.eq(self.write_data)]
        return m

    def _frame_cycles(self, m: Module, result_ended: Value) -> Signal:
        """Cycles from a frame's first beat to the last word of its result, both included."""
        cycles = Signal(32)
        counting = Signal()
        begins = Signal(init=1)  # the next beat is a frame's first one
        with m.If(counting):
            m.d.sync += cycles.eq(cycles + 1)
        with m.If(result_ended):
            m.d.sync += counting.eq(0)
        with m.If(self.frames.tvalid & self.frames.tready):
            m.d.sync += begins.eq(self.frames.tlast)
            with m.If(begins):
                m.d.sync += [counting.eq(1), cycles.eq(1)]
        return cycles
