"""Configuration bus: loads every memory at run time, reads back status, counters and sticky errors."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from lmht.rtl.error_log import ErrorLog
from lmht.rtl.load_window import LoadWindow
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.ports import BUS_DATA_BITS, ConfigBusSignature, LoadSignature
from lmht.rtl.registers import ID_VALUE, VERSION_VALUE, RegisterMap
from lmht.rtl.select import any_of, one_hot_mux
from lmht.rtl.stages import design_stages

__all__ = ["ConfigBus"]

BLOCK_BITS = 3
BLOCK = 1 << BLOCK_BITS
"""Registers that one multiplexer of the read path picks from."""


class ConfigBus(wiring.Component):
    """Registers of a design (:class:`~lmht.rtl.registers.RegisterMap`).

    Parameters
    ----------
    parameters : DesignParameters

    Members
    -------
    ``bus`` : in, :class:`~lmht.rtl.ports.ConfigBusSignature`, seen from the target
    ``enable`` : out, frames are accepted
    ``soft_reset`` : out, 1 in the one cycle in which all stages are reset; ``new_frame`` : out, with it
    ``swallowing`` : in, shown in ``STATUS``
    ``frame_done`` : in, 1 in a cycle in which the last result word of a frame is taken
    ``interrupt_request`` : out, an enabled cause is set
    ``load_<stage>_<memory>`` : out, :class:`~lmht.rtl.ports.LoadSignature` for every loadable memory
    ``<stage>_pulses``, ``<stage>_errors`` : in, of every stage

    An access takes 4 cycles. One that no register allows (unmapped address, write to a read-only register, read of a
    command) does nothing but answer ``error``; a memory or row that does not exist is not written. Counters are 32
    bits and wrap. A pulse, an error or a cause seen in the cycle of its clear survives that, so a snapshot and a
    clear in one command count everything exactly once.
    """

    def __init__(self, *, parameters: DesignParameters):
        self.parameters = parameters
        self.map = RegisterMap.for_design(parameters)
        members = {
            "bus": In(ConfigBusSignature()),
            "enable": Out(1),
            "soft_reset": Out(1),
            "new_frame": Out(1),
            "swallowing": In(1),
            "frame_done": In(1),
            "interrupt_request": Out(1),
        }
        self._stages = design_stages(parameters)
        for name, stage in self._stages.items():
            members[f"{name}_pulses"] = In(stage.pulses)
            members[f"{name}_errors"] = In(stage.errors)
        for memory in self.map.memories:
            members[f"load_{memory.name}"] = Out(LoadSignature(memory.shape))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        number = int(self.parameters.design_hash, 16)
        readable: dict[str, Value] = {
            "ID": Const(ID_VALUE, BUS_DATA_BITS),
            "VERSION": Const(VERSION_VALUE),
            "DESIGN_HASH_LOW": Const(number & 0xFFFFFFFF, BUS_DATA_BITS),
            "DESIGN_HASH_HIGH": Const(number >> 32, BUS_DATA_BITS),
            "FRAME_BYTES": Const(self.parameters.frame.frame_bytes),
            "CLASSES": Const(self.parameters.classes),
        }

        # Cycle 1 latches the access. Cycle 2 writes, or picks a register in each block of addresses.
        # Cycle 3 picks the block.
        address = Signal.like(self.bus.address, reset_less=True)
        write_data = Signal.like(self.bus.write_data, reset_less=True)
        write = Signal()
        was_write = Signal(reset_less=True)
        busy = Signal(2)
        start = Signal()
        m.d.comb += start.eq(self.bus.valid & ~busy.any() & ~self.bus.ready)
        m.d.sync += [
            address.eq(self.bus.address),
            write_data.eq(self.bus.write_data),
            busy.eq(Cat(start, busy[0])),
            write.eq(start & self.bus.write),
            self.bus.ready.eq(busy[1]),
        ]
        written = {
            register.name: self._written(m, register.name, write, address)
            for register in self.map.registers
            if register.writable
        }

        command = {
            name: written["COMMAND"] & write_data[part.offset]
            for name, part in self.map["COMMAND"].fields.items()
        }
        with m.If(written["CONTROL"]):
            m.d.sync += self.enable.eq(write_data[self.map["CONTROL"].fields["enable"].offset])
        readable["CONTROL"] = self._fields(m, "CONTROL", enable=self.enable)
        m.d.sync += [self.soft_reset.eq(command["soft_reset"]), self.new_frame.eq(command["new_frame"])]

        cycles = Signal(BUS_DATA_BITS)
        readable["CYCLES"] = self._counter(m, "cycles", cycles, self.enable, command)
        for stage, declared in self._stages.items():
            for pulse in declared.pulses.members:
                name = f"{stage}_{pulse}"
                counter = Signal(BUS_DATA_BITS, name=f"{name}_count")
                amount = getattr(self, f"{stage}_pulses")[pulse]
                readable[name] = self._counter(m, name, counter, amount, command)

        m.submodules.errors = log = ErrorLog(
            errors={stage: declared.errors for stage, declared in self._stages.items()}
        )
        m.d.comb += [log.clear.eq(command["clear"]), log.cycles.eq(cycles)]
        for stage in self._stages:
            m.d.comb += getattr(log, f"{stage}_errors").eq(getattr(self, f"{stage}_errors"))
            readable[f"{stage}_errors"] = getattr(log, f"{stage}_sticky")
        readable["STATUS"] = self._fields(m, "STATUS", error=log.any, swallowing=self.swallowing)
        readable["FIRST_ERROR"] = self._fields(
            m, "FIRST_ERROR", errors=log.first.errors, stage=log.first.stage, valid=log.first.valid
        )
        readable["FIRST_ERROR_CYCLE"] = log.first.cycle

        events = {"frame_done": self.frame_done, "error": log.reported}
        self._interrupt(m, written, write_data, readable, events)

        m.submodules.load_window = window = LoadWindow(memories=self.map.memories)
        m.d.comb += [
            window.select_write.eq(written["LOAD_SELECT"]),
            window.row_write.eq(written["LOAD_ROW"]),
            window.data_write.eq(written["LOAD_DATA"]),
            window.write_data.eq(write_data),
        ]
        readable["LOAD_SELECT"] = window.select
        readable["LOAD_ROW"] = window.row
        for memory in self.map.memories:
            connect(m, getattr(window, f"load_{memory.name}"), flipped(getattr(self, f"load_{memory.name}")))

        found = self._read(m, address, readable)
        accepted = Signal()
        m.d.sync += [
            was_write.eq(write),
            accepted.eq(any_of(written.values())),
            self.bus.error.eq(~(accepted | (found & ~was_write))),
        ]
        return m

    def _fields(self, m: Module, register: str, **values: Value) -> Signal:
        """The register's value, every field where it is declared to be."""
        word = Signal(BUS_DATA_BITS, name=f"{register.lower()}_value")
        for name, value in values.items():
            part = self.map[register].fields[name]
            m.d.comb += word[part.offset : part.offset + part.width].eq(value)
        return word

    def _read(self, m: Module, address: Signal, readable: dict[str, Value]) -> Value:
        """Two registered steps: one of `BLOCK` registers in every block, then one of the blocks.

        Returns whether a register was found, with the second step's input.
        """
        blocks: dict[int, dict[int, Value]] = {}
        for register in self.map.registers:
            if register.readable:
                block, position = divmod(register.address, BLOCK)
                blocks.setdefault(block, {})[position] = readable[register.name]
        selects, picked = [], []
        for block, values in blocks.items():
            data_here = Signal(BUS_DATA_BITS, name=f"block_{block}", reset_less=True)
            found_here = Signal(name=f"found_{block}", reset_less=True)
            m.d.sync += [data_here.eq(0), found_here.eq(0)]
            with m.Switch(address[:BLOCK_BITS]):
                for position, value in values.items():
                    with m.Case(position):
                        m.d.sync += [data_here.eq(value), found_here.eq(address[BLOCK_BITS:] == block)]
            selects.append(found_here)
            picked.append(data_here)
        m.d.sync += self.bus.read_data.eq(one_hot_mux(selects, picked))
        return any_of(selects)

    def _written(self, m: Module, name: str, write: Signal, address: Signal) -> Signal:
        strobe = Signal(name=f"write_{name.lower()}")
        m.d.comb += strobe.eq(write & (address == self.map.address(name)))
        return strobe

    def _counter(
        self,
        m: Module,
        name: str,
        counter: Signal,
        amount: data.View | Signal,
        command: dict[str, Value],
    ) -> Signal:
        """Count `amount` in `counter`; returns the copy that the last snapshot made."""
        self._count(m, counter, amount, command["clear"])
        copy = Signal(BUS_DATA_BITS, name=f"{name}_copy")
        with m.If(command["snapshot"]):
            m.d.sync += copy.eq(counter)
        return copy

    @staticmethod
    def _count(m: Module, counter: Signal, amount: data.View | Signal, clear: Value) -> None:
        with m.If(clear):
            m.d.sync += counter.eq(amount)
        with m.Else():
            m.d.sync += counter.eq(counter + amount)

    def _interrupt(
        self,
        m: Module,
        written: dict[str, Signal],
        write_data: Signal,
        readable: dict[str, Value],
        events: dict[str, Value],
    ) -> None:
        """Cause and enable bits; an event in the cycle in which its cause is cleared sets it again."""
        cause_fields = self.map["INTERRUPT_CAUSE"].fields
        enabled = Signal(len(cause_fields), name="interrupt_enabled")
        cause = Signal(len(cause_fields), name="interrupt_cause")
        asked = Signal(len(cause_fields), name="interrupt_written")
        m.d.comb += asked.eq(Cat(write_data[part.offset] for part in cause_fields.values()))
        with m.If(written["INTERRUPT_ENABLE"]):
            m.d.sync += enabled.eq(asked)
        cleared = asked & written["INTERRUPT_CAUSE"].replicate(len(cause))
        m.d.sync += [
            cause.eq((cause & ~cleared) | Cat(events[name] for name in cause_fields)),
            self.interrupt_request.eq((cause & enabled).any()),
        ]
        for register, bits in (("INTERRUPT_ENABLE", enabled), ("INTERRUPT_CAUSE", cause)):
            values = dict(zip(cause_fields, bits, strict=True))
            readable[register] = self._fields(m, register, **values)
