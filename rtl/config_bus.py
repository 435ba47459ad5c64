"""Configuration bus: loads every memory at run time, reads back status, counters and sticky errors."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.parameters import DesignParameters
from lmht.rtl.ports import BUS_DATA_BITS, ConfigBusSignature, LoadSignature
from lmht.rtl.registers import CONTROL_CLEAR, CONTROL_ENABLE, ID_VALUE, VERSION_VALUE, RegisterMap
from lmht.rtl.select import one_hot_mux
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
    ``load_<stage>_<memory>`` : out, :class:`~lmht.rtl.ports.LoadSignature` for every loadable memory
    ``<stage>_pulses``, ``<stage>_errors`` : in, of every stage

    An access takes 4 cycles. A read of an unmapped address gives 0, a write there, to a read-only register or
    to a memory or row that does not exist does nothing. Counters are 32 bits and wrap. An error seen in the cycle of a
    clear survives it.
    """

    def __init__(self, *, parameters: DesignParameters):
        self.parameters = parameters
        self.map = RegisterMap.for_design(parameters)
        members = {"bus": In(ConfigBusSignature()), "enable": Out(1)}
        self._stages = design_stages(parameters)
        for name, stage in self._stages.items():
            members[f"{name}_pulses"] = In(stage.pulses)
            members[f"{name}_errors"] = In(stage.errors)
        for memory in self.map.memories:
            members[f"load_{memory.name}"] = Out(LoadSignature(memory.shape))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # Cycle 1 latches the access. Cycle 2 writes, or picks a register in each block of addresses.
        # Cycle 3 picks the block.
        address = Signal.like(self.bus.address, reset_less=True)
        write_data = Signal.like(self.bus.write_data, reset_less=True)
        write = Signal()
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

        readable: dict[str, Signal | Const] = {
            "ID": Const(ID_VALUE, BUS_DATA_BITS),
            "VERSION": Const(VERSION_VALUE),
            "DESIGN_HASH_LOW": Const(int(self.parameters.design_hash, 16) & 0xFFFFFFFF, BUS_DATA_BITS),
            "DESIGN_HASH_HIGH": Const(int(self.parameters.design_hash, 16) >> 32, BUS_DATA_BITS),
        }
        written = {
            name: self._written(m, name, write, address)
            for name in ("CONTROL", "LOAD_SELECT", "LOAD_ROW", "LOAD_DATA")
        }

        clear = Signal()
        m.d.comb += clear.eq(written["CONTROL"] & write_data[CONTROL_CLEAR])
        with m.If(written["CONTROL"]):
            m.d.sync += self.enable.eq(write_data[CONTROL_ENABLE])
        readable["CONTROL"] = self.enable
        cycles = readable["CYCLES"] = Signal(BUS_DATA_BITS, name="cycles")
        self._count(m, cycles, self.enable, clear)

        any_error = Signal()
        sticky = []
        for stage, declared in self._stages.items():
            seen = Signal(declared.errors.size, name=f"{stage}_sticky")
            now = getattr(self, f"{stage}_errors").as_value()
            with m.If(clear):
                m.d.sync += seen.eq(now)
            with m.Else():
                m.d.sync += seen.eq(seen | now)
            sticky.append(seen.any())
            readable[f"{stage}_errors"] = seen
            for pulse in declared.pulses.members:
                counter = Signal(BUS_DATA_BITS, name=f"{stage}_{pulse}_count")
                self._count(m, counter, getattr(self, f"{stage}_pulses")[pulse], clear)
                readable[f"{stage}_{pulse}"] = counter
        m.d.sync += any_error.eq(Cat(sticky).any())
        readable["STATUS"] = any_error

        self._load(m, written, write_data, readable)

        self._read(m, address, readable)
        return m

    def _read(self, m: Module, address: Signal, readable: dict[str, Signal | Const]) -> None:
        """Two registered steps: one of `BLOCK` registers in every block, then one of the blocks."""
        blocks: dict[int, dict[int, Signal | Const]] = {}
        for register in self.map.registers:
            if register.name in readable:
                block, position = divmod(register.address, BLOCK)
                blocks.setdefault(block, {})[position] = readable[register.name]
        selects, picked = [], []
        for block, values in blocks.items():
            data_here = Signal(BUS_DATA_BITS, name=f"block_{block}", reset_less=True)
            selected = Signal(name=f"select_{block}", reset_less=True)
            m.d.sync += [selected.eq(address[BLOCK_BITS:] == block), data_here.eq(0)]
            with m.Switch(address[:BLOCK_BITS]):
                for position, value in values.items():
                    with m.Case(position):
                        m.d.sync += data_here.eq(value)
            selects.append(selected)
            picked.append(data_here)
        m.d.sync += self.bus.read_data.eq(one_hot_mux(selects, picked))

    def _written(self, m: Module, name: str, write: Signal, address: Signal) -> Signal:
        strobe = Signal(name=f"write_{name.lower()}")
        m.d.comb += strobe.eq(write & (address == self.map.address(name)))
        return strobe

    @staticmethod
    def _count(m: Module, counter: Signal, amount: data.View | Signal, clear: Signal) -> None:
        with m.If(clear):
            m.d.sync += counter.eq(0)
        with m.Else():
            m.d.sync += counter.eq(counter + amount)

    def _load(
        self, m: Module, written: dict[str, Signal], write_data: Signal, readable: dict[str, Signal | Const]
    ) -> None:
        """Collect the words of a row in one register that all memories share, then write the row."""
        memories = self.map.memories
        words = max(memory.words for memory in memories)
        select = Signal(range(len(memories) + 1), name="load_select")
        row = Signal(max(memory.shape.row_bits for memory in memories) + 1, name="load_row")
        word = Signal(range(words), name="load_word")
        row_data = Signal(words * BUS_DATA_BITS, name="load_row_data", reset_less=True)
        commit = Signal(name="load_commit")
        readable["LOAD_SELECT"] = select
        readable["LOAD_ROW"] = row

        last_word = Signal(range(words), name="load_last_word")
        m.d.sync += last_word.eq(Array([memory.words - 1 for memory in memories])[select])
        m.d.sync += commit.eq(0)
        with m.If(written["LOAD_SELECT"]):
            # A value beyond the list selects nothing, also where the register is narrower than the bus.
            m.d.sync += [
                select.eq(len(memories)),
                word.eq(0),
            ]
            with m.If(write_data < len(memories)):
                m.d.sync += select.eq(write_data)
        with m.If(written["LOAD_ROW"]):
            m.d.sync += [row.eq(2 ** len(row) - 1), word.eq(0)]
            with m.If(write_data < 2 ** len(row) - 1):
                m.d.sync += row.eq(write_data)
        with m.If(written["LOAD_DATA"]):
            m.d.sync += row_data.word_select(word, BUS_DATA_BITS).eq(write_data)
            with m.If(word == last_word):
                m.d.sync += [word.eq(0), commit.eq(1)]
            with m.Else():
                m.d.sync += word.eq(word + 1)
        with m.If(commit):
            m.d.sync += row.eq(row + 1)
        for memory in memories:
            load = getattr(self, f"load_{memory.name}")
            m.d.comb += [
                load.enable.eq(commit & (select == memory.index) & (row < memory.shape.depth)),
                load.row.eq(row),
                load.data.eq(row_data),
            ]
