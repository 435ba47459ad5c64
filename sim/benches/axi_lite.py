"""Bench of :class:`~lmht.rtl.axi_lite.AxiLite`: cocotbext-axi as the master, a slow register file behind it.

Parameters (JSON): ``transactions`` of the random test.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, Timer
from cocotbext.axi.axil_channels import (
    AxiLiteARBus,
    AxiLiteARSource,
    AxiLiteARTransaction,
    AxiLiteAWBus,
    AxiLiteAWSource,
    AxiLiteAWTransaction,
    AxiLiteBBus,
    AxiLiteBSink,
    AxiLiteRBus,
    AxiLiteRSink,
    AxiLiteWBus,
    AxiLiteWSource,
    AxiLiteWTransaction,
)

from lmht.rtl.axi_lite import AxiResponse
from lmht.sim.axi_rules import AxiLiteRules
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench

PREFIX = "axi_"  # cocotbext-axi puts one more underscore behind it
REGISTERS = 64  # of the target; addresses beyond answer an error
ALL_BYTES = 0xF


class RegisterFile:
    """Target of the configuration bus with a latency at random out of `latencies`; remembers every access."""

    def __init__(self, dut: Any, rng: random.Random):
        self._dut = dut
        self._rng = rng
        self.latencies: tuple[int, ...] = (0, 0, 1, 2, 7)
        self.words = [0] * REGISTERS
        self.accesses: list[tuple[bool, int, int]] = []  # write, address, data
        self._left: int | None = None
        self._held: tuple[int, int, int] | None = None

    def start(self, bench: Bench) -> None:
        self._rest()

    def _rest(self) -> None:
        self._dut.bus__ready.value = 0
        self._dut.bus__error.value = 0
        self._dut.bus__read_data.value = 0
        self._left = None
        self._held = None

    def step(self) -> None:
        dut = self._dut
        if dut.rst.value:
            self._rest()
            return
        if dut.bus__ready.value:
            dut.bus__ready.value = 0
            # What is offered without ready means nothing: let it be wrong.
            dut.bus__read_data.value = self._rng.getrandbits(32)
            dut.bus__error.value = self._rng.getrandbits(1)
            self._left, self._held = None, None
            return
        if not dut.bus__valid.value:
            assert self._held is None, "a request was withdrawn"
            return
        request = (int(dut.bus__write.value), int(dut.bus__address.value), int(dut.bus__write_data.value))
        write, address, data = request
        if not write:
            request = (write, address, 0)
        if self._left is None:
            self._left, self._held = self._rng.choice(self.latencies), request
        assert request == self._held, f"a request changed from {self._held} to {request}"
        if self._left:
            self._left -= 1
            return
        dut.bus__ready.value = 1
        inside = address < REGISTERS
        dut.bus__error.value = not inside
        if write:
            if inside:
                self.words[address] = data
        else:
            data = self.words[address] if inside else 0
            dut.bus__read_data.value = data
        self.accesses.append((bool(write), address, data))


class Master:
    """The five channels of cocotbext-axi, each with pauses of its own, under the rules."""

    def __init__(self, dut: Any):
        self.rng = random.Random(cocotb.RANDOM_SEED)
        self.bench = Bench(dut)
        self.target = self.bench.add(RegisterFile(dut, self.rng))
        self.rules = self.bench.add(AxiLiteRules(dut, f"{PREFIX}_"))
        clock, reset = dut.clk, dut.rst
        reset.value = 1
        self.aw = AxiLiteAWSource(AxiLiteAWBus.from_prefix(dut, PREFIX), clock, reset)
        self.w = AxiLiteWSource(AxiLiteWBus.from_prefix(dut, PREFIX), clock, reset)
        self.b = AxiLiteBSink(AxiLiteBBus.from_prefix(dut, PREFIX), clock, reset)
        self.ar = AxiLiteARSource(AxiLiteARBus.from_prefix(dut, PREFIX), clock, reset)
        self.r = AxiLiteRSink(AxiLiteRBus.from_prefix(dut, PREFIX), clock, reset)

    @property
    def ports(self) -> tuple[Any, ...]:
        return self.aw, self.w, self.b, self.ar, self.r

    def pause_at_random(self) -> None:
        for port in self.ports:
            port.set_pause_generator(self._pauses(self.rng.choice((0.0, 0.2, 0.5, 0.9))))

    def _pauses(self, probability: float) -> Iterator[bool]:
        return (self.rng.random() < probability for _ in itertools.repeat(None))

    def write(self, address: int, data: int, strobe: int = ALL_BYTES) -> None:
        self.aw.send_nowait(AxiLiteAWTransaction(awaddr=address, awprot=self.rng.getrandbits(3)))
        self.w.send_nowait(AxiLiteWTransaction(wdata=data, wstrb=strobe))

    def read(self, address: int) -> None:
        self.ar.send_nowait(AxiLiteARTransaction(araddr=address, arprot=self.rng.getrandbits(3)))

    async def responses(self, writes: int, reads: int) -> tuple[list[int], list[tuple[int, int]]]:
        """All answers: ``BRESP``, and ``(RDATA, RRESP)``."""
        limit = 1000 + 400 * (writes + reads)
        await self.bench.run_until(lambda: self.b.count() >= writes and self.r.count() >= reads, limit=limit)
        assert (self.b.count(), self.r.count()) == (writes, reads)
        written = [int(self.b.recv_nowait().bresp) for _ in range(writes)]
        found = [self.r.recv_nowait() for _ in range(reads)]
        return written, [(int(word.rdata), int(word.rresp)) for word in found]


def _answer(error: bool) -> int:
    return (AxiResponse.SLVERR if error else AxiResponse.OKAY).value


async def _check_batch(master: Master, writes: list[tuple[int, int, int]], reads: list[int]) -> None:
    """Send all at once; the target must have seen each that is well formed, in order, and the answers fit."""
    target = master.target
    target.accesses.clear()
    for write in writes:
        master.write(*write)
    for address in reads:
        master.read(address)
    written, found = await master.responses(len(writes), len(reads))

    wanted = [
        (address // 4, data) for address, data, strobe in writes if address % 4 == 0 and strobe == ALL_BYTES
    ]
    assert [access[1:] for access in target.accesses if access[0]] == wanted
    errors = [
        address % 4 != 0 or strobe != ALL_BYTES or address // 4 >= REGISTERS for address, _, strobe in writes
    ]
    assert written == [_answer(error) for error in errors], (writes, written)

    seen = [access[1:] for access in target.accesses if not access[0]]
    assert [address for address, _ in seen] == [address // 4 for address in reads if address % 4 == 0]
    values = iter(seen)
    expected = []
    for address in reads:
        data = next(values)[1] if address % 4 == 0 else 0
        expected.append((data, _answer(address % 4 != 0 or address // 4 >= REGISTERS)))
    assert found == expected


def _random_address(rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.8:
        return 4 * rng.randrange(REGISTERS)
    return rng.randrange(4 * REGISTERS) if kind < 0.9 else 4 * rng.randrange(REGISTERS, 4096)


@cocotb.test()
async def random_transactions(dut: Any) -> None:
    """Reads and writes interleaved, idle and back-pressure on all channels, unaligned, unmapped and partial ones."""
    master = Master(dut)
    rng = master.rng
    await master.bench.reset(4)
    left = int(bench_parameters()["transactions"])
    while left:
        count = min(left, rng.randrange(1, 60))
        left -= count
        reads = rng.randrange(count + 1)
        master.pause_at_random()
        await _check_batch(
            master,
            [
                (
                    _random_address(rng),
                    rng.getrandbits(32),
                    rng.choice((ALL_BYTES,) * 9 + (rng.randrange(15),)),
                )
                for _ in range(count - reads)
            ],
            [_random_address(rng) for _ in range(reads)],
        )
    waits = {name: channel.waits for name, channel in master.rules.channels.items()}
    assert all(waits.values()), f"a channel never waited: {waits}"


@cocotb.test()
async def halves_of_a_write_come_in_any_order(dut: Any) -> None:
    """Neither half is answered alone, and reads pass while one is missing."""
    master = Master(dut)
    await master.bench.reset(4)
    for first, second in ((master.aw, master.w), (master.w, master.aw)):
        halves = {
            id(master.aw): AxiLiteAWTransaction(awaddr=8),
            id(master.w): AxiLiteWTransaction(wdata=77, wstrb=ALL_BYTES),
        }
        first.send_nowait(halves[id(first)])
        await master.bench.run(20)
        master.read(8)
        await master.responses(0, 1)
        assert master.b.empty()
        second.send_nowait(halves[id(second)])
        assert (await master.responses(1, 0))[0] == [AxiResponse.OKAY.value]


@cocotb.test()
async def latency_and_throughput(dut: Any) -> None:
    """As the docstring has them, with a target as fast as the configuration bus."""
    master = Master(dut)
    await master.bench.reset(4)
    master.target.latencies = (2,)
    await master.bench.run(2)
    for write in (False, True):
        for count, limit in ((1, 9), (50, 50 * 6 + 9)):
            begin = master.bench.cycle
            for _ in range(count):
                master.write(4, 5) if write else master.read(4)
            await master.responses(count * write, count * (not write))
            took = master.bench.cycle - begin
            assert took <= limit, f"{count} accesses took {took} cycles"


@cocotb.test()
async def reset_in_the_middle(dut: Any) -> None:
    """Whatever is under way is forgotten, nothing of it is answered later, and the next accesses are right."""
    master = Master(dut)
    rng = master.rng
    await master.bench.reset(4)
    for _ in range(60):
        master.pause_at_random()
        for _ in range(rng.randrange(1, 8)):
            if rng.random() < 0.5:
                master.read(_random_address(rng))
            else:
                master.write(_random_address(rng), rng.getrandbits(32))
        await master.bench.run(rng.randrange(1, 25))
        for port in master.ports:
            port.clear_pause_generator()
            port.pause = False
        dut.rst.value = 1
        await master.bench.run(rng.randrange(2, 5))
        for port in master.ports:
            port.clear()
        dut.rst.value = 0
        await master.bench.run(2)
        await _check_batch(master, [(4 * rng.randrange(REGISTERS), rng.getrandbits(32), ALL_BYTES)], [0])


@cocotb.test()
async def no_output_follows_an_input_within_a_cycle(dut: Any) -> None:
    """Inputs that change in the middle of a cycle change no output."""
    bench = Bench(dut)
    rng = random.Random(cocotb.RANDOM_SEED)
    inputs = [getattr(dut, f"axi__{name}") for name in ("awvalid", "wvalid", "bready", "arvalid", "rready")]
    inputs += [getattr(dut, f"axi__{name}") for name in ("awaddr", "wdata", "wstrb", "araddr")]
    inputs += [dut.bus__ready, dut.bus__error, dut.bus__read_data]
    outputs = [getattr(dut, f"axi__{name}") for name in ("awready", "wready", "bvalid", "arready", "rvalid")]
    outputs += [dut.axi__bresp, dut.axi__rdata, dut.axi__rresp, dut.bus__valid, dut.bus__address]
    for handle in inputs:
        handle.value = 0
    await bench.reset()
    for _ in range(300):
        await bench.run(1)
        await FallingEdge(dut.clk)
        before = [int(handle.value) for handle in outputs]
        for handle in inputs:
            handle.value = rng.getrandbits(len(handle))
        await Timer(1, "ns")
        after = [int(handle.value) for handle in outputs]
        changed = [
            handle._name for handle, old, new in zip(outputs, before, after, strict=True) if old != new
        ]
        assert not changed, f"{changed} changed with the inputs"
