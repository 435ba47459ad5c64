"""Bench of :class:`~lmht.rtl.counter_bank.CounterBank`: beside a model that counts in plain numbers.

Parameters (:func:`lmht.sim.runner.bench_parameters`)
    ``most`` : largest amounts
    ``bits`` : of a counter
"""

from __future__ import annotations

import random
from typing import Any

import cocotb

from lmht.rtl.counter_bank import CounterBank
from lmht.sim.benches.support import bench_rng
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench

SWEEPS = 40


class Model:
    """Drives amounts, commands and look-ups by chance, and checks every output of every cycle.

    Attributes
    ----------
    fullness : float
        How often a counter gets its largest amount, instead of any.
    checked : set of int
        Indices whose copies were compared.
    """

    def __init__(self, dut: Any, rng: random.Random):
        self._dut = dut
        self._rng = rng
        bank = CounterBank(**bench_parameters())
        self.sweep_cycles = bank.sweep_cycles
        self._modulus = 1 << bank.bits
        self._most = {index: most for index, most in enumerate(bank.most) if most}
        self._indices = len(bank.most)
        self._amounts = dict.fromkeys(self._most, 0)
        self._snapshot = self._clear = self._index = 0
        self.fullness = 0.0
        self.checked: set[int] = set()
        self.start(None)
        self._drive()

    def start(self, bench: Bench | None) -> None:
        self._counts = dict.fromkeys(self._most, 0)
        self._copies = dict.fromkeys(self._most, 0)
        self._cycle = 0
        self._copying = self.sweep_cycles + 2
        self._expected: dict[int, int | None] = {}

    def step(self) -> None:
        dut = self._dut
        moment = self._cycle % self.sweep_cycles == self.sweep_cycles - 1
        assert bool(dut.moment.value) == moment, f"cycle {self._cycle}: moment is {not moment}"
        assert bool(dut.copying.value) == (self._copying > 0), f"cycle {self._cycle}: copying is wrong"
        assert dut.lookup.value == self._cycle % 2, f"cycle {self._cycle}: lookup is wrong"
        expected = self._expected.pop(self._cycle, None)
        if expected is not None:
            found = int(dut.copy.value)
            assert found == expected, f"cycle {self._cycle}: the copy is {found}, not {expected}"
        if self._cycle % 2 and not self._copying and self._index in self._most:
            self._expected[self._cycle + 2] = self._copies[self._index]
            self.checked.add(self._index)

        self._copying = max(0, self._copying - 1)
        for index, amount in self._amounts.items():
            self._counts[index] = (self._counts[index] + amount) % self._modulus
        if moment and self._snapshot:
            self._copies = dict(self._counts)
            self._copying = self.sweep_cycles + 2
        if moment and self._clear:
            self._counts = dict.fromkeys(self._most, 0)
        self._cycle += 1
        self._drive()

    def _drive(self) -> None:
        rng, dut = self._rng, self._dut
        for index, most in self._most.items():
            self._amounts[index] = most if rng.random() < self.fullness else rng.randint(0, most)
            getattr(dut, f"amount_{index}").value = self._amounts[index]
        # Sweeps of all four commands; what is asked for before the moment must do nothing.
        self._snapshot = rng.randrange(2)
        self._clear = rng.randrange(2)
        self._index = rng.randrange(self._indices)
        dut.snapshot.value = self._snapshot
        dut.clear.value = self._clear
        dut.index.value = self._index


async def _run(dut: Any, *, fullness: float = 0.0) -> tuple[Bench, Model]:
    bench = Bench(dut)
    model = bench.add(Model(dut, bench_rng()))
    model.fullness = fullness
    await bench.reset()
    await bench.run(SWEEPS * model.sweep_cycles)
    assert model.checked == set(model._most), "not all copies were looked at"
    return bench, model


@cocotb.test()
async def any_amounts(dut: Any) -> None:
    """Snapshots, clears, both and neither, each at any moment; the counters wrap many times."""
    await _run(dut)


@cocotb.test()
async def largest_amounts(dut: Any) -> None:
    """Every counter gets its largest amount in every cycle: no short counter is too narrow."""
    await _run(dut, fullness=1.0)


@cocotb.test()
async def resets(dut: Any) -> None:
    """A reset in any cycle clears counters and copies, and nothing that comes behind it is lost."""
    bench, model = await _run(dut, fullness=0.5)
    for _ in range(10):
        await bench.reset(bench_rng().randrange(1, 4))
        await bench.run(random.Random(bench.cycle).randrange(8 * model.sweep_cycles))
