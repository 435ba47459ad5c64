"""Configuration bus: loads every memory at run time, reads back status, counters and sticky errors."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from lmht.rtl.counter_bank import CounterBank
from lmht.rtl.error_log import ErrorLog
from lmht.rtl.load_window import LoadWindow
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.ports import BUS_DATA_BITS, ConfigBusSignature, LoadSignature
from lmht.rtl.registers import FIRST_STAGE_ADDRESS, ID_VALUE, VERSION_VALUE, RegisterMap
from lmht.rtl.select import any_of, one_hot_mux
from lmht.rtl.stages import design_stages

__all__ = ["ConfigBus"]

BLOCK_BITS = 3
BLOCK = 1 << BLOCK_BITS
"""Registers that one multiplexer of the read path picks from."""
ANSWER_CYCLES = 4
"""From the start of an access to its answer."""


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

    An access takes 5 or 6 cycles; throughput one in 6. A write to ``COMMAND`` waits for the counters' next ``moment``
    (:class:`~lmht.rtl.counter_bank.CounterBank`), and the access behind a snapshot or a reset until the copies are
    made: each up to 2 cycles more for every register of the stages.

    An access that no register allows (unmapped address, write to a read-only register, read of a command) does nothing
    but answer ``error``; a memory or row that does not exist is not written. All bits of a command act in one cycle.
    Counters are 32 bits and wrap; what they count in that cycle belongs to what is copied or cleared, while an error or
    a cause seen in the cycle of its clear survives it.
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

        m.submodules.counters = counters = self._counters(m)
        # Cycle 0 takes the access, so that 1 looks the counter up. 1 decodes a write and picks a register in each block
        # of addresses. 2 writes. 3 picks the block, or the copy of the counter. 4 answers.
        address = Signal.like(self.bus.address, reset_less=True)
        write_data = Signal.like(self.bus.write_data, reset_less=True)
        is_write = Signal(reset_less=True)
        idle = Signal(init=1)
        start = Signal()
        steps = Signal(ANSWER_CYCLES - 1)
        commanded = Signal()
        act = Signal()
        m.d.comb += [
            start.eq(self.bus.valid & idle & ~counters.lookup & ~counters.copying),
            act.eq(commanded & counters.moment),
        ]
        with m.If(start):
            m.d.sync += [
                address.eq(self.bus.address),
                write_data.eq(self.bus.write_data),
                is_write.eq(self.bus.write),
                idle.eq(0),
            ]
        with m.Elif(self.bus.ready):
            m.d.sync += idle.eq(1)
        m.d.sync += [steps.eq(Cat(start, steps[:-1])), self.bus.ready.eq((steps[-1] & ~commanded) | act)]
        written = {
            register.name: self._written(m, register.name, steps[0] & is_write, address)
            for register in self.map.registers
            if register.writable
        }
        with m.If(written["COMMAND"]):
            m.d.sync += commanded.eq(1)
        with m.Elif(act):
            m.d.sync += commanded.eq(0)

        command = {name: act & write_data[part.offset] for name, part in self.map["COMMAND"].fields.items()}
        with m.If(written["CONTROL"]):
            m.d.sync += self.enable.eq(write_data[self.map["CONTROL"].fields["enable"].offset])
        readable["CONTROL"] = self._fields(m, "CONTROL", enable=self.enable)
        m.d.sync += [self.soft_reset.eq(command["soft_reset"]), self.new_frame.eq(command["new_frame"])]

        cycles = Signal(BUS_DATA_BITS)
        with m.If(command["clear"]):
            m.d.sync += cycles.eq(0)
        with m.Elif(self.enable):
            m.d.sync += cycles.eq(cycles + 1)
        m.d.comb += [counters.clear.eq(command["clear"]), counters.snapshot.eq(command["snapshot"])]

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

        found = self._read(m, address, readable, counters)
        accepted = Signal()
        m.d.sync += [
            accepted.eq(~start & (accepted | any_of(written.values()))),
            self.bus.error.eq(~Mux(is_write, accepted, found)),
        ]
        return m

    def _counters(self, m: Module) -> CounterBank:
        """Counters of all stages, each at its address; ``CYCLES`` takes the place of the first stage's errors."""
        most = [0] * (self.map.registers[-1].address - FIRST_STAGE_ADDRESS + 1)
        amounts: dict[int, Value] = {0: self.enable}
        most[0] = 1
        for name, stage in self._stages.items():
            for pulse in stage.pulses.members:
                place = self.map.address(f"{name}_{pulse}") - FIRST_STAGE_ADDRESS
                most[place] = stage.most(pulse)
                amounts[place] = getattr(self, f"{name}_pulses")[pulse]
        counters = CounterBank(most=most, bits=BUS_DATA_BITS)
        for place, amount in amounts.items():
            m.d.comb += getattr(counters, f"amount_{place}").eq(amount)
        return counters

    def _fields(self, m: Module, register: str, **values: Value) -> Signal:
        """The register's value, every field where it is declared to be."""
        word = Signal(BUS_DATA_BITS, name=f"{register.lower()}_value")
        for name, value in values.items():
            part = self.map[register].fields[name]
            m.d.comb += word[part.offset : part.offset + part.width].eq(value)
        return word

    def _read(self, m: Module, address: Signal, readable: dict[str, Value], counters: CounterBank) -> Value:
        """Registered steps: one of `BLOCK` registers in every block, then one of the blocks; among the addresses of
        the stages, what is in no block is a counter.

        Returns whether a register was found, with the last step's input.
        """
        blocks: dict[int, dict[int, Value]] = {}
        for name, value in readable.items():
            block, position = divmod(self.map.address(name), BLOCK)
            blocks.setdefault(block, {})[position] = value
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
        is_cycles = address == self.map.address("CYCLES")
        is_place = Signal(reset_less=True)
        is_counter = Signal(reset_less=True)
        of_stages = address >= FIRST_STAGE_ADDRESS
        m.d.comb += counters.index.eq(Mux(of_stages, address - FIRST_STAGE_ADDRESS, 0))
        m.d.sync += [
            is_place.eq(is_cycles | (of_stages & (address <= self.map.registers[-1].address))),
            is_counter.eq(is_place & ~any_of(selects)),
            self.bus.read_data.eq(one_hot_mux([*selects, is_counter], [*picked, counters.copy])),
        ]
        return is_counter | any_of(selects)

    def _written(self, m: Module, name: str, write: Value, address: Signal) -> Signal:
        """1 in the cycle after `write` with this register's address."""
        strobe = Signal(name=f"write_{name.lower()}")
        m.d.sync += strobe.eq(write & (address == self.map.address(name)))
        return strobe

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
