"""Loading of memories through one window: select a memory and a row, then write words, rows follow each other."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.ports import BUS_DATA_BITS, LoadSignature
from lmht.rtl.registers import LoadableMemory

__all__ = ["LoadWindow"]


class LoadWindow(wiring.Component):
    """Collect the words of a row in one register that all memories share, then write the row.

    Parameters
    ----------
    memories : sequence of LoadableMemory
        In the order of their indices.

    Members
    -------
    ``select_write``, ``row_write``, ``data_write`` : in, ``write_data`` is meant for this register
    ``write_data`` : in
    ``select``, ``row`` : out, memory (their number if none is selected) and next row
    ``load_<stage>_<memory>`` : out, :class:`~lmht.rtl.ports.LoadSignature`, 2 cycles after the row's last word

    Selecting a memory or a row sets the word position back to the row's start. A memory or row that does not
    exist is not written. Throughput: a write in every second cycle.
    """

    def __init__(self, *, memories: Sequence[LoadableMemory]):
        self.memories = tuple(memories)
        row_bits = max(memory.shape.row_bits for memory in self.memories) + 1
        super().__init__(
            {
                "select_write": In(1),
                "row_write": In(1),
                "data_write": In(1),
                "write_data": In(BUS_DATA_BITS),
                "select": Out(range(len(self.memories) + 1)),
                "row": Out(row_bits),
                **{f"load_{memory.name}": Out(LoadSignature(memory.shape)) for memory in self.memories},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        memories = self.memories
        words = max(memory.words for memory in memories)
        word = Signal(range(words))
        # A signal for each word: a shifted write into one wide signal is emitted as all of it for each position.
        row_words = [
            Signal(BUS_DATA_BITS, name=f"row_word_{index}", reset_less=True) for index in range(words)
        ]
        row_data = Cat(row_words)
        commit = Signal()

        last_word = Signal(range(words))
        m.d.sync += last_word.eq(Array([memory.words - 1 for memory in memories])[self.select])
        m.d.sync += commit.eq(0)
        with m.If(self.select_write):
            # A value beyond the list selects nothing, also where the register is narrower than the bus.
            m.d.sync += [self.select.eq(len(memories)), word.eq(0)]
            with m.If(self.write_data < len(memories)):
                m.d.sync += self.select.eq(self.write_data)
        with m.If(self.row_write):
            beyond = 2 ** len(self.row) - 1
            m.d.sync += [self.row.eq(beyond), word.eq(0)]
            with m.If(self.write_data < beyond):
                m.d.sync += self.row.eq(self.write_data)
        with m.If(self.data_write):
            for index, row_word in enumerate(row_words):
                with m.If(word == index):
                    m.d.sync += row_word.eq(self.write_data)
            with m.If(word == last_word):
                m.d.sync += [word.eq(0), commit.eq(1)]
            with m.Else():
                m.d.sync += word.eq(word + 1)
        loaded = Signal()
        m.d.sync += loaded.eq(commit)
        with m.If(loaded):
            m.d.sync += self.row.eq(self.row + 1)
        for memory in memories:
            load = getattr(self, f"load_{memory.name}")
            # An enable reaches every block of a memory: it has the whole cycle for that.
            enable = Signal(name=f"enable_{memory.name}")
            exists = (self.select == memory.index) & (self.row < memory.shape.depth)
            m.d.sync += enable.eq(commit & exists)
            m.d.comb += [load.enable.eq(enable), load.row.eq(self.row), load.data.eq(row_data)]
        return m
