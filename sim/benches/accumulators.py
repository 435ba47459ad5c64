"""Bench of :class:`~lmht.rtl.accumulators.AccumulatorMemory`: random operations against a table of sums.

Parameters: ``lanes``, ``steps``, ``bits`` (of an accumulator), ``banks``, ``rows``, ``least_distance``,
``first_cycle`` (of the component).
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import cocotb
from amaranth.hdl import signed
from amaranth.lib import data

from lmht.rtl.accumulators import PRODUCT_CYCLE, WRITTEN_CYCLE
from lmht.sim.benches.support import bench_rng
from lmht.sim.codecs import StructCodec
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench

Place = tuple[int, int]


def accumulators_row(lanes: int, steps: int, bits: int) -> data.ArrayLayout:
    """The row that bench and component share."""
    return data.ArrayLayout(data.ArrayLayout(signed(bits), steps), lanes)


class Work:
    """Offers an operation, a row to be shown, or nothing in every cycle, and checks what is shown."""

    def __init__(self, dut: Any, rng: random.Random):
        given = {name: int(str(value)) for name, value in bench_parameters().items()}
        self.dut, self.rng = dut, rng
        self.banks, self.rows, self.bits = given["banks"], given["rows"], given["bits"]
        self.least_distance, self.first_cycle = given["least_distance"], given["first_cycle"]
        self.size = given["lanes"] * given["steps"]
        self._codec = StructCodec(accumulators_row(given["lanes"], given["steps"], given["bits"]))
        self.sums: dict[Place, list[int]] = {}
        self.last: dict[Place, int] = {}
        self.shown = 0

    def start(self, bench: Bench) -> None:
        self.bench = bench
        self.dut.valid.value = 0
        self.sums.clear()
        self.last.clear()
        self._firsts: deque[int] = deque([0] * self.first_cycle)
        self._products: deque[list[int]] = deque([[0] * self.size] * PRODUCT_CYCLE)
        self._wanted: deque[tuple[Place, list[int]] | None] = deque([None] * (PRODUCT_CYCLE + 1))

    def step(self) -> None:
        """What is driven here is there in the next cycle."""
        dut, rng, cycle = self.dut, self.rng, self.bench.cycle
        wanted = self._wanted.popleft()
        if wanted is not None:
            place, sums = wanted
            found = list(self._codec.unpack(int(dut.read_data.value)).values())
            assert found == sums, f"row {place}: found {found}, expected {sums}"
            self.shown += 1
        # Few places, so that operations meet again and again.
        place = (rng.randrange(self.banks), rng.choice((0, self.rows - 1, rng.randrange(self.rows))))
        age = cycle - self.last.get(place, -WRITTEN_CYCLE)
        # Dense and sparse in turn: a row that operations meet all the time is never shown.
        operates = rng.random() < (0.9, 0.15)[cycle // 16 % 2]
        first, products, shown = rng.getrandbits(1), [self._number() for _ in range(self.size)], None
        dut.valid.value = 0
        if operates and age >= self.least_distance:
            starts = place not in self.sums or (rng.random() < 0.1 and age >= WRITTEN_CYCLE)
            before = [0] * self.size if starts else self.sums[place]
            self.sums[place] = [self._wrap(a + b) for a, b in zip(before, products, strict=True)]
            self.last[place] = cycle
            first = int(starts)
            dut.valid.value = 1
        elif place in self.sums and age >= WRITTEN_CYCLE:
            shown = (place, self.sums[place])
        self._set("bank", place[0])
        self._set("row", place[1])
        self._firsts.append(first)
        self._products.append(products)
        self._wanted.append(shown)
        dut.first.value = self._firsts.popleft()
        dut.products.value = self._codec.pack(
            dict(zip(self._codec.fields, self._products.popleft(), strict=True))
        )

    def _set(self, name: str, value: int) -> None:
        """Drive a port, which is absent where it has no bits."""
        if hasattr(self.dut, name):
            getattr(self.dut, name).value = value

    def _number(self) -> int:
        return self.rng.randrange(-(2 ** (self.bits - 1)), 2 ** (self.bits - 1))

    def _wrap(self, value: int) -> int:
        half = 2 ** (self.bits - 1)
        return (value + half) % (2 * half) - half


@cocotb.test()
async def sums(dut: Any) -> None:
    """Every row that is shown holds the sum of its operations since the one that started at zero."""
    bench = Bench(dut)
    work = bench.add(Work(dut, bench_rng()))
    for _ in range(3):
        await bench.reset()
        await bench.run(1500)
    assert work.shown > 300, f"only {work.shown} rows were shown"
