"""What the benches of the stream components share: seed, patterns to cross, planted faults."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from lmht.sim.patterns import Pattern, pattern
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench

__all__ = ["CROSSED", "bench_rng", "crossed", "first_difference", "load_memories", "plant_fault"]

CROSSED = tuple(itertools.product(("always", "half", "bursts"), ("always", "rarely", "bursts")))
"""Pairs of patterns: when a source offers, when a sink is ready."""


def bench_rng() -> random.Random:
    """A generator from the run's logged seed."""
    return random.Random(int(os.environ.get("LMHT_SEED", "1")))


def crossed(rng: random.Random) -> Iterator[tuple[str, Pattern, Pattern]]:
    """Name, source pattern and sink pattern of every pair of :data:`CROSSED`."""
    for offers, accepts in CROSSED:
        yield f"{offers}/{accepts}", pattern(offers, rng), pattern(accepts, rng)


async def load_memories(bench: Bench, memories: dict[str, np.ndarray]) -> None:
    """Write every row of every memory through its load port."""
    for name, rows in memories.items():
        enable = getattr(bench.dut, f"load_{name}__enable")
        row_port = getattr(bench.dut, f"load_{name}__row")
        data = getattr(bench.dut, f"load_{name}__data")
        enable.value = 1
        for index, words in enumerate(rows):
            row_port.value = index
            data.value = sum(int(word) << (32 * position) for position, word in enumerate(words))
            await bench.run(1)
        enable.value = 0


def plant_fault(dut: Any) -> None:
    """Arm the fault that the test asks for, if the design is a :class:`~lmht.sim.faults.Saboteur`."""
    if hasattr(dut, "fault"):
        dut.fault.value = int(str(bench_parameters().get("fault", 0)))


def first_difference(got: list[Any], expected: list[Any]) -> str:
    """One line that says where two lists differ."""
    for index, (one, other) in enumerate(zip(got, expected, strict=False)):
        if one != other:
            return f"word {index} is {one}, expected {other}"
    return f"{len(got)} words, expected {len(expected)}"
