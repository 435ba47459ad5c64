"""The memory of all designs: a module of its own, so that an ASIC flow can put SRAM macros in its place."""

from __future__ import annotations

from pathlib import Path

from amaranth.hdl import ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.parameters import MemoryShape

__all__ = ["Ram", "memory_source"]


def memory_source() -> Path:
    """Verilog file that defines ``lmht_ram``; it belongs beside every emitted design."""
    return Path(__file__).with_name("lmht_ram.v")


class Ram(wiring.Component):
    """Memory with one write and one read port.

    Parameters
    ----------
    shape : MemoryShape
    output_register : bool
        Register the output once more. A block RAM's bare output is too slow for the clock target.

    Members
    -------
    ``write_enable``, ``write_row``, ``write_data`` (in), ``read_enable``, ``read_row`` (in), ``read_data`` (out).

    Latency 1 cycle (2 with `output_register`) in cycles with ``read_enable``, which freezes the read pipeline
    when 0; throughput one read and one write a cycle. Reading a row while it is written gives either value.
    """

    def __init__(self, *, shape: MemoryShape, output_register: bool = True):
        self.shape = shape
        self.output_register = output_register
        super().__init__(
            {
                "write_enable": In(1),
                "write_row": In(shape.row_bits),
                "write_data": In(shape.width),
                "read_enable": In(1, init=1),
                "read_row": In(shape.row_bits),
                "read_data": Out(shape.width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = Instance(
            "lmht_ram",
            p_WIDTH=self.shape.width,
            p_DEPTH=self.shape.depth,
            p_ADDRESS_BITS=self.shape.row_bits,
            p_OUTPUT_REGISTER=int(self.output_register),
            i_clk=ClockSignal(),
            i_write_enable=self.write_enable,
            i_write_address=self.write_row,
            i_write_data=self.write_data,
            i_read_enable=self.read_enable,
            i_read_address=self.read_row,
            o_read_data=self.read_data,
        )
        return m
