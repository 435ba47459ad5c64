"""Bench of :class:`~lmht.rtl.wishbone.Wishbone`: random cycles, some given up, against a slow register file.

Parameters (JSON): ``cycles``, bus cycles of the random test.
"""

from __future__ import annotations

import random
from typing import Any

import cocotb

from lmht.sim.benches.axi_lite import ALL_BYTES, REGISTERS, RegisterFile
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench


class Master:
    """Drives standard cycles; checks that answers come only to a request, one at a time."""

    def __init__(self, dut: Any, bench: Bench):
        self._dut = dut
        self._bench = bench
        self.answer: tuple[bool, int] | None = None  # error, data

    def start(self, bench: Bench) -> None:
        for name in ("cyc", "stb", "we", "adr", "sel", "dat_w"):
            getattr(self._dut, f"wishbone__{name}").value = 0
        self.answer = None

    def step(self) -> None:
        dut = self._dut
        ack, err = bool(dut.wishbone__ack.value), bool(dut.wishbone__err.value)
        if not ack and not err:
            return
        assert not (ack and err), "ACK and ERR at once"
        # A master that has just given up may see the answer that was on its way.
        if dut.wishbone__cyc.value and dut.wishbone__stb.value:
            self.answer = err, int(dut.wishbone__dat_r.value)
            self.release()

    def release(self) -> None:
        self._dut.wishbone__cyc.value = 0
        self._dut.wishbone__stb.value = 0

    async def request(
        self, write: bool, address: int, data: int, select: int, patience: int
    ) -> tuple[bool, int] | None:
        """One cycle; None if it was given up after `patience` cycles."""
        dut = self._dut
        self.answer = None
        dut.wishbone__cyc.value = 1
        dut.wishbone__stb.value = 1
        dut.wishbone__we.value = int(write)
        dut.wishbone__adr.value = address
        dut.wishbone__sel.value = select
        dut.wishbone__dat_w.value = data
        end = self._bench.cycle + patience
        await self._bench.run_until(
            lambda: self.answer is not None or self._bench.cycle == end, limit=patience + 1
        )
        if self.answer is None:
            self.release()
        return self.answer


@cocotb.test()
async def random_cycles(dut: Any) -> None:
    """Answers, data and what reaches the registers; cycles that are given up leave nothing behind."""
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = Bench(dut)
    target = bench.add(RegisterFile(dut, rng))
    master = bench.add(Master(dut, bench))
    await bench.reset()
    given_up = 0
    for _ in range(int(bench_parameters()["cycles"])):
        write = rng.random() < 0.5
        address = rng.randrange(REGISTERS + 16)
        data, select = rng.getrandbits(32), rng.choice((ALL_BYTES,) * 7 + (rng.randrange(ALL_BYTES),))
        before = len(target.accesses)
        impatient = rng.random() < 0.2
        answer = await master.request(write, address, data, select, rng.randrange(1, 8) if impatient else 60)
        if answer is None:
            assert impatient, f"no answer to {(write, address, data, select)}"
            given_up += 1
            await bench.run(rng.randrange(1, 30))
        else:
            refused = select != ALL_BYTES
            error, found = answer
            assert error == (refused or address >= REGISTERS)
            made = target.accesses[before:]
            # One that was given up before may still have been under way.
            assert len(made) >= (not refused)
            if not refused:
                assert made[-1][:2] == (write, address)
                assert made[-1][2] == (data if write else found)
        await bench.run(rng.choice((0, 0, 1, 5)))
    assert given_up
