"""The memory of all designs: a module of its own, so that an ASIC flow can put SRAM macros in its place."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Instance, Module, Signal

from lmht.rtl.memory_shape import MemoryShape

__all__ = ["Ram"]


class Ram:
    """An ``lmht_ram`` with one write and one read port, added to module `m` as submodule `name`.

    Parameters
    ----------
    m : Module
    name : str
    shape : MemoryShape
    output_register : bool
        Register the output once more. A block RAM's bare output is too slow for the clock target.

    Attributes
    ----------
    write_enable, write_row, write_data, read_enable, read_row : Signal
        To be driven by the owner; ``read_enable`` is 1 if left alone.
    read_data : Signal
        Latency 1 cycle (2 with `output_register`), counting cycles with ``read_enable``, which freezes the read
        pipeline when 0; one read and one write a cycle. Reading a row while it is written gives either value.
    """

    def __init__(self, m: Module, name: str, *, shape: MemoryShape, output_register: bool = True):
        self.latency = 2 if output_register else 1
        self.write_enable = Signal(name=f"{name}_write_enable")
        self.write_row = Signal(shape.row_bits, name=f"{name}_write_row")
        self.write_data = Signal(shape.width, name=f"{name}_write_data")
        self.read_enable = Signal(name=f"{name}_read_enable", init=1)
        self.read_row = Signal(shape.row_bits, name=f"{name}_read_row")
        self.read_data = Signal(shape.width, name=f"{name}_read_data")
        m.submodules[name] = Instance(
            "lmht_ram",
            p_WIDTH=shape.width,
            p_DEPTH=shape.depth,
            p_ADDRESS_BITS=shape.row_bits,
            p_OUTPUT_REGISTER=int(output_register),
            i_clk=ClockSignal(),
            i_write_enable=self.write_enable,
            i_write_address=self.write_row,
            i_write_data=self.write_data,
            i_read_enable=self.read_enable,
            i_read_address=self.read_row,
            o_read_data=self.read_data,
        )

    def connect_load(self, m: Module, load: object) -> None:
        """Drive the write port from a :class:`~lmht.rtl.ports.LoadSignature` port."""
        m.d.comb += [
            self.write_enable.eq(load.enable),  # type: ignore[attr-defined]
            self.write_row.eq(load.row),  # type: ignore[attr-defined]
            self.write_data.eq(load.data),  # type: ignore[attr-defined]
        ]
