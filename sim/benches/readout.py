"""Bench of the readout.

Parameters: ``layout`` (fields of :class:`~lmht.rtl.events.EventLayout`).
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import cocotb

from lmht.rtl.events import EventKind, EventLayout
from lmht.rtl.readout import Readout, result_layout
from lmht.sim.benches.support import bench_rng, crossed, first_difference, plant_fault
from lmht.sim.codecs import Event, EventCodec, StructCodec
from lmht.sim.patterns import always
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, Monitor, PulseCounter, Sink, Source

FRAME_END = Event(kind=EventKind.FRAME_END)

Result = dict[str, int]


def reference(classes: int, words: list[Event]) -> tuple[list[Result], Counter[str]]:
    """What the contract says about a stream, and how often each pulse and error comes."""
    results: list[Result] = []
    counts: Counter[str] = Counter()
    logits: list[tuple[int, int]] = []
    error = False
    for word in words:
        if word.kind is EventKind.EVENT and word.channel < classes:
            logits.append((word.channel, word.levels[0]))
            results.append({"last": 0, "error": 0, "channel": word.channel, "value": word.levels[0]})
        elif word.kind is EventKind.EVENT:
            counts["dropped"] += 1
            counts["channels"] += 1
            error = True
        elif word.kind is EventKind.FRAME_END:
            counts["frames"] += 1
            counts["count"] += len(logits) != classes
            error |= word.error or len(logits) != classes
            channel, value = min(logits, key=lambda logit: (-logit[1], logit[0]), default=(0, 0))
            results.append({"last": 1, "error": int(error), "channel": channel, "value": value})
            logits, error = [], False
    return results, counts


class ReadoutBench(Bench):
    """Source, sink and counters around a readout."""

    def __init__(self, dut: Any):
        super().__init__(dut)
        self.layout = EventLayout(**bench_parameters()["layout"])
        self.results = StructCodec(result_layout(self.layout))
        self.source = self.add(Source(dut, "i", EventCodec(self.layout)))
        self.input = self.add(Monitor(dut, "i"))
        self.sink = self.add(Sink(dut, "o"))
        self.pulses = self.add(PulseCounter(dut, "pulses", Readout.PULSES))
        self.errors = self.add(PulseCounter(dut, "errors", Readout.ERRORS))
        self.counts: Counter[str] = Counter()
        plant_fault(dut)

    def frame(self, rng: random.Random, low: int, high: int) -> list[Event]:
        """All logits between `low` and `high`, in any order."""
        channels = list(range(self.layout.channels))
        rng.shuffle(channels)
        logits = [Event(channel=channel, levels=(rng.randint(low, high),)) for channel in channels]
        return [*logits, Event(kind=EventKind.FRAME_END, error=rng.random() < 0.3)]

    def good_frames(self, rng: random.Random) -> list[Event]:
        """Frames of any logits, of close ones (ties), of negative ones, of the extreme ones."""
        limit = 1 << self.layout.level_bits - 1
        spans = ((-limit, limit - 1), (-1, 1), (-9, -7), (-limit, -limit), (limit - 2, limit - 1), (0, 0))
        return [event for low, high in spans for event in self.frame(rng, low, high)]

    def bad_frames(self, rng: random.Random) -> list[Event]:
        """A frame without logits, with one missing, one too many, one out of range, and with a row token."""
        empty = [FRAME_END]
        missing = self.frame(rng, -5, 5)[1:]
        twice = self.frame(rng, -5, 5)
        twice.insert(0, twice[0])
        many = [*self.frame(rng, -5, 5)[:-1] * 4, FRAME_END]
        row_end = [Event(kind=EventKind.ROW_END), *self.frame(rng, -5, 5)]
        outside = self.frame(rng, -5, 5)
        top = (1 << (self.layout.channels - 1).bit_length()) - 1
        if top >= self.layout.channels:
            # Larger than all others, so that it would win if it counted.
            outside.insert(rng.randrange(len(outside)), Event(channel=top, levels=(7,)))
        frames = [empty, missing, twice, many, row_end, outside]
        rng.shuffle(frames)
        return [event for frame in frames for event in frame]

    async def check(self, words: list[Event]) -> None:
        """Send words and compare everything that comes out with the reference."""
        expected, counts = reference(self.layout.channels, words)
        self.counts += counts
        self.source.send(words)
        wanted = len(expected)
        await self.run_until(
            lambda: len(self.sink.words) >= wanted and self.source.idle, limit=200 + 60 * len(words)
        )
        await self.run(20)
        self.last_cycle = self.sink.cycles[-1]
        got = [self.results.unpack(word) for word in self.sink.take()]
        # The error flag counts with the last word of a frame only.
        got = [{**result, "error": result["error"] & result["last"]} for result in got]
        assert got == expected, first_difference(got, expected)

    def check_counts(self) -> None:
        totals = self.pulses.totals() | self.errors.totals()
        assert totals == {name: self.counts[name] for name in totals}


@cocotb.test()
async def good_frames(dut: Any) -> None:
    """Class and logits under every pair of patterns: ties, negative and extreme logits, any order."""
    rng = bench_rng()
    bench = ReadoutBench(dut)
    await bench.reset()
    for _, offers, accepts in crossed(rng):
        bench.source.pattern, bench.sink.pattern = offers, accepts
        await bench.check(bench.good_frames(rng))
    bench.check_counts()


@cocotb.test()
async def bad_frames(dut: Any) -> None:
    """Wrong counts and channels are flagged, counted and gone with their frame."""
    rng = bench_rng()
    bench = ReadoutBench(dut)
    await bench.reset()
    for _, offers, accepts in crossed(rng):
        bench.source.pattern, bench.sink.pattern = offers, accepts
        await bench.check(bench.bad_frames(rng) + bench.frame(rng, -3, 3))
    bench.check_counts()


@cocotb.test()
async def throughput(dut: Any) -> None:
    """One word a cycle."""
    rng = bench_rng()
    bench = ReadoutBench(dut)
    bench.source.pattern = bench.sink.pattern = always
    await bench.reset()
    words = bench.good_frames(rng)
    await bench.check(words)
    assert bench.last_cycle - bench.input.cycles[0] == len(words) - 1 + Readout(layout=bench.layout).latency
