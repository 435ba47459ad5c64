"""Parts of the RISC-V system: AXI4-Lite master, DMA, result buffer, UART; planted faults are found."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from lmht.rtl.axi_lite import AxiLite
from lmht.rtl.axi_lite_master import AxiLiteMaster
from lmht.rtl.frame_dma import FrameDma, ResultBuffer
from lmht.rtl.uart_transmitter import UartTransmitter

SEED = 44
DEADLINE = 4_000  # cycles


def simulate(top: Elaboratable, *processes: Callable) -> None:
    """Run until every process has ended."""
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    done = []
    failures = []
    for process in processes:

        async def watched(ctx, process=process):
            try:
                await process(ctx)
            except AssertionError as failure:
                failures.append(failure)
            done.append(process)

        simulator.add_testbench(watched)
    simulator.run_until(DEADLINE * 1e-6)
    if failures:
        raise failures[0]
    assert len(done) == len(processes), "no end"


def send_packets(component: FrameDma) -> None:
    """Packets of random lengths from a memory, under random back-pressure."""
    rng = random.Random(SEED)
    size = component.axi.signature.data_bytes
    memory = [rng.getrandbits(32) for _ in range(128)]
    packets = [(rng.randrange(64), length) for length in (1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 61, 64, 256)]
    received: list[list[int]] = []

    async def processor(ctx):
        for address, length in packets:
            ctx.set(component.address, address)
            ctx.set(component.length, length)
            ctx.set(component.start, 1)
            await ctx.tick()
            ctx.set(component.start, 0)
            assert ctx.get(component.busy)
            while ctx.get(component.busy):
                await ctx.tick()

    async def answer(ctx):
        """One cycle after the address."""
        async for _, rst, address in ctx.tick().sample(component.read_address):
            ctx.set(component.read_data, memory[address] if address < len(memory) else 0)
            if rst or len(received) == len(packets):
                return

    async def sink(ctx):
        octets: list[int] = []
        while len(received) < len(packets):
            ctx.set(component.axi.tready, rng.random() < 0.6)
            _, _, valid, ready, word, keep, last = await ctx.tick().sample(
                component.axi.tvalid,
                component.axi.tready,
                component.axi.tdata,
                component.axi.tkeep,
                component.axi.tlast,
            )
            if not (valid and ready):
                continue
            octets += [word >> 8 * byte & 0xFF for byte in range(size) if keep >> byte & 1]
            if last:
                received.append(octets)
                octets = []

    simulate(component, processor, answer, sink)
    for (address, length), octets in zip(packets, received, strict=True):
        wanted = b"".join(word.to_bytes(4, "little") for word in memory[address:])[:length]
        assert bytes(octets) == wanted


@pytest.mark.parametrize("data_bytes", [4, 8])
def test_frame_dma(data_bytes):
    send_packets(FrameDma(data_bytes=data_bytes))


class OneWordLate(FrameDma):
    """Reads from the word behind the frame's first one."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = FrameDma(data_bytes=self.axi.signature.data_bytes)
        for name in ("start", "length", "read_data"):
            m.d.comb += getattr(inner, name).eq(getattr(self, name))
        for name in ("busy", "read_address", "reading"):
            m.d.comb += getattr(self, name).eq(getattr(inner, name))
        m.d.comb += inner.address.eq(self.address + 1)
        wiring.connect(m, inner.axi, wiring.flipped(self.axi))
        return m


def test_a_wrong_word_is_found():
    with pytest.raises(AssertionError, match="assert b"):
        send_packets(OneWordLate(data_bytes=4))


def fill_and_empty(buffer: ResultBuffer) -> None:
    """Packets of every parity come out word by word; more than the buffer holds waits."""
    rng = random.Random(SEED)
    data_bytes = buffer.axi.signature.data_bytes
    packets = [[rng.getrandbits(32) for _ in range(length)] for length in (1, 2, 11, 12, 100)]
    words = [word for packet in packets for word in packet]
    per_beat = data_bytes // 4
    ended = []

    async def source(ctx):
        for packet in packets:
            for at in range(0, len(packet), per_beat):
                beat = packet[at : at + per_beat]
                ctx.set(buffer.axi.tdata, sum(word << 32 * i for i, word in enumerate(beat)))
                ctx.set(buffer.axi.tkeep, (1 << 4 * len(beat)) - 1)
                ctx.set(buffer.axi.tlast, at + per_beat >= len(packet))
                ctx.set(buffer.axi.tvalid, 1)
                await ctx.tick().until(buffer.axi.tready)
                ctx.set(buffer.axi.tvalid, 0)
                if rng.random() < 0.3:
                    await ctx.tick()

    async def ends(ctx):
        while len(ended) < len(packets):
            _, _, end = await ctx.tick().sample(buffer.ended)
            if end:
                ended.append(end)

    async def reader(ctx):
        await ctx.tick().repeat(150)
        assert ctx.get(buffer.count) == 64
        taken = []
        while len(taken) < len(words):
            if not ctx.get(buffer.count):
                assert ctx.get(buffer.word) == 0
                await ctx.tick()
                continue
            taken.append(ctx.get(buffer.word))
            ctx.set(buffer.take, 1)
            await ctx.tick()
            ctx.set(buffer.take, 0)
        assert taken == words

    simulate(buffer, source, ends, reader)


@pytest.mark.parametrize("data_bytes", [4, 8])
def test_result_buffer(data_bytes):
    fill_and_empty(ResultBuffer(data_bytes=data_bytes))


class LosesUpperWords(ResultBuffer):
    """Takes the lower word of a beat only."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = ResultBuffer(data_bytes=8)
        for name in ("count", "word", "ended"):
            m.d.comb += getattr(self, name).eq(getattr(inner, name))
        m.d.comb += inner.take.eq(self.take)
        wiring.connect(m, wiring.flipped(self.axi), inner.axi)
        m.d.comb += inner.axi.tkeep.eq(self.axi.tkeep[:4])
        return m


def test_a_lost_word_is_found():
    with pytest.raises(AssertionError):
        fill_and_empty(LosesUpperWords(data_bytes=8))


def send_characters(uart: UartTransmitter) -> None:
    """Start bit, data from the lowest bit on, stop bit, each for its time, at the full rate."""
    clocks_per_bit = uart.clocks_per_bit
    characters = [0x00, 0xFF, 0x55, 0xA3]

    async def source(ctx):
        for character in characters:
            ctx.set(uart.i.payload, character)
            ctx.set(uart.i.valid, 1)
            await ctx.tick().until(uart.i.ready)
        ctx.set(uart.i.valid, 0)

    async def line(ctx):
        assert ctx.get(uart.tx) == 1
        while ctx.get(uart.tx):
            await ctx.tick()
        for character in characters:
            for bit in (0, *(character >> i & 1 for i in range(8)), 1):
                for _ in range(clocks_per_bit):
                    assert ctx.get(uart.tx) == bit
                    await ctx.tick()
            assert ctx.get(uart.tx) == 1  # the cycle in which the next one is taken
            await ctx.tick()

    simulate(uart, source, line)


@pytest.mark.parametrize("clocks_per_bit", [2, 8])
def test_uart(clocks_per_bit):
    send_characters(UartTransmitter(clocks_per_bit=clocks_per_bit))


class HighestBitFirst(UartTransmitter):
    """Sends the bits of a character in the other order."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = UartTransmitter(clocks_per_bit=self.clocks_per_bit)
        m.d.comb += [
            inner.i.valid.eq(self.i.valid),
            inner.i.payload.eq(self.i.payload[::-1]),
            self.i.ready.eq(inner.i.ready),
            self.tx.eq(inner.tx),
        ]
        return m


def test_a_wrong_bit_is_found():
    with pytest.raises(AssertionError):
        send_characters(HighestBitFirst(clocks_per_bit=2))


def test_uart_refuses_a_bit_of_one_clock():
    with pytest.raises(ValueError, match=r"^clocks_per_bit must be between 2 and 65536, not 1$"):
        UartTransmitter(clocks_per_bit=1)


class Registers(wiring.Component):
    """An AXI4-Lite master with the project's slave behind it; what is behind that answers as the test says."""

    def __init__(self, master: AxiLiteMaster) -> None:
        self.master, self.slave = master, AxiLite()
        super().__init__({"bus": self.master.signature.members["bus"]})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.master = self.master
        m.submodules.slave = self.slave
        wiring.connect(m, wiring.flipped(self.bus), self.master.bus)
        wiring.connect(m, self.master.axi, self.slave.axi)
        return m


def access_registers(master: AxiLiteMaster) -> None:
    """Reads, writes and refusals arrive, and their answers come back."""
    rng = random.Random(SEED)
    top = Registers(master)
    behind = top.slave.bus
    accesses = [(rng.random() < 0.5, rng.randrange(4096), rng.getrandbits(32)) for _ in range(60)]

    def refuses(address: int) -> bool:
        return address % 5 == 0

    async def processor(ctx):
        for write, address, value in accesses:
            ctx.set(top.bus.valid, 1)
            ctx.set(top.bus.write, write)
            ctx.set(top.bus.address, address)
            ctx.set(top.bus.write_data, value)
            error, read = await ctx.tick().sample(top.bus.error, top.bus.read_data).until(top.bus.ready)
            ctx.set(top.bus.valid, 0)
            assert error == refuses(address)
            assert write or refuses(address) or read == address * 3
            if rng.random() < 0.5:
                await ctx.tick()

    async def registers(ctx):
        for write, address, value in accesses:
            while not ctx.get(behind.valid):
                await ctx.tick()
            for _ in range(rng.randrange(4)):
                await ctx.tick()
            assert (ctx.get(behind.write), ctx.get(behind.address)) == (write, address)
            assert not write or ctx.get(behind.write_data) == value
            ctx.set(behind.error, refuses(address))
            ctx.set(behind.read_data, address * 3)
            ctx.set(behind.ready, 1)
            await ctx.tick()
            ctx.set(behind.ready, 0)
            ctx.set(behind.error, 0)
            await ctx.tick()

    simulate(top, processor, registers)


def test_axi_lite_master():
    access_registers(AxiLiteMaster())


class HearsNoError(AxiLiteMaster):
    """Takes every response for OKAY."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = AxiLiteMaster()
        wiring.connect(m, inner.axi, wiring.flipped(self.axi))
        for name, member in self.bus.signature.members.items():
            outside, inside = getattr(self.bus, name), getattr(inner.bus, name)
            m.d.comb += inside.eq(outside) if member.flow is wiring.In else outside.eq(inside)
        m.d.comb += self.bus.error.eq(0)
        return m


def test_an_unheard_refusal_is_found():
    with pytest.raises(AssertionError):
        access_registers(HearsNoError())
