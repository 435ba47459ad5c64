"""Bench of :class:`~lmht.rtl.event_fifo.EventFifo`.

Parameters: ``layout`` (fields of EventLayout), ``depth``.
"""

from __future__ import annotations

import random
from typing import Any

import cocotb
from pydantic import TypeAdapter

from lmht.rtl.events import EventLayout
from lmht.sim.benches.support import bench_rng, crossed, first_difference, plant_fault
from lmht.sim.patterns import always
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, Sink, Source

LATENCY = 3


def _words(rng: random.Random, count: int) -> list[int]:
    layout = TypeAdapter(EventLayout).validate_python(bench_parameters()["layout"])
    return [rng.getrandbits(layout.payload_bits) for _ in range(count)]


def _never() -> bool:
    return False


@cocotb.test()
async def order(dut: Any) -> None:
    """Every word once, in order, with all pauses of both sides."""
    rng = bench_rng()
    depth = int(bench_parameters()["depth"])
    bench = Bench(dut)
    source, sink = bench.add(Source(dut, "i")), bench.add(Sink(dut, "o"))
    plant_fault(dut)
    for name, offers, accepts in crossed(rng):
        await bench.reset()
        source.pattern, sink.pattern = offers, accepts
        sink.take()
        words = _words(rng, 200 + 5 * depth)
        source.send(words)
        await bench.run_until(lambda: len(sink.words) >= len(words), limit=40 * len(words), what=name)  # noqa: B023
        await bench.run(LATENCY + 2)
        assert sink.words == words, f"{name}: {first_difference(sink.words, words)}"


@cocotb.test()
async def rate_and_room(dut: Any) -> None:
    """Full rate from the first word on; while nothing is taken, `depth` words and up to two more fit, and leave at full
    rate. A FIFO of one word takes every other cycle."""
    rng = bench_rng()
    depth = int(bench_parameters()["depth"])
    bench = Bench(dut)
    source, sink = bench.add(Source(dut, "i")), bench.add(Sink(dut, "o"))
    plant_fault(dut)
    await bench.reset()
    words = _words(rng, 100)
    source.send(words)
    await bench.run_until(lambda: len(sink.words) == len(words), limit=400, what="full rate")
    spent = sink.cycles[-1] - sink.cycles[0] + 1
    wanted = len(words) if depth > 1 else 2 * len(words) - 1
    assert spent == wanted, f"{len(words)} words left in {spent} cycles, not {wanted}"

    sink.pattern = _never
    sink.take()
    before = source.accepted
    words = _words(rng, depth + 50)
    source.send(words)
    await bench.run(2 * depth + 60)
    room = source.accepted - before
    assert depth <= room <= depth + 2, f"{room} words fit, not {depth} to {depth + 2}"
    sink.pattern = always
    await bench.run_until(lambda: len(sink.words) == len(words), limit=4 * len(words) + 50, what="emptying")
    assert sink.words == words, first_difference(sink.words, words)
    spent = sink.cycles[room - 1] - sink.cycles[0] + 1
    assert spent == room or depth == 1, f"{room} words left in {spent} cycles"
