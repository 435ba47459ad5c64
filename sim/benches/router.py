"""Bench of the event router.

Parameters: ``layout`` (fields of :class:`~lmht.rtl.events.EventLayout`), ``sources``, ``destinations``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cocotb

from lmht.rtl.events import EventKind, EventLayout
from lmht.rtl.router import EventRouter
from lmht.sim.benches.support import bench_rng, crossed, plant_fault
from lmht.sim.codecs import Event, EventCodec
from lmht.sim.patterns import always, pattern
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, PulseCounter, Sink, Source

ROW_END = Event(kind=EventKind.ROW_END)
FRAME_END = Event(kind=EventKind.FRAME_END)


@dataclass
class Group:
    """What a destination receives up to a token: the events of each source in order, then the token."""

    events: list[list[Event]]
    token: Event | None
    misaligned: bool = False


def reference(streams: Sequence[Sequence[Event]]) -> list[Group]:
    """What a destination receives from the sources routed to it. The order between sources is free."""
    positions = [0] * len(streams)
    groups: list[Group] = []
    flagged = False
    while True:
        events: list[list[Event]] = []
        for source, stream in enumerate(streams):
            start = positions[source]
            while positions[source] < len(stream) and stream[positions[source]].kind is EventKind.EVENT:
                positions[source] += 1
            events.append(list(stream[start : positions[source]]))
        heads = [
            stream[place] if place < len(stream) else None
            for stream, place in zip(streams, positions, strict=True)
        ]
        tokens = [head for head in heads if head is not None]
        if len(tokens) < len(heads) or not heads:
            groups.append(Group(events, None))
            return groups
        kinds = {token.kind for token in tokens}
        used = EventKind.ROW_END if EventKind.ROW_END in kinds else EventKind.FRAME_END
        flagged |= len(kinds) > 1
        if used is EventKind.ROW_END:
            groups.append(Group(events, ROW_END, misaligned=len(kinds) > 1))
        else:
            groups.append(Group(events, replace(FRAME_END, error=flagged or any(t.error for t in tokens))))
            flagged = False
        for source, token in enumerate(tokens):
            positions[source] += token.kind is used


class RouterBench(Bench):
    """A source per input, a sink per output, counters.

    The lowest bits of an event's level name its source, so that each event can be traced.
    """

    def __init__(self, dut: Any):
        super().__init__(dut)
        parameters = bench_parameters()
        self.layout = EventLayout(**parameters["layout"])
        self.codec = EventCodec(self.layout)
        sources, destinations = int(str(parameters["sources"])), int(str(parameters["destinations"]))
        self.routes = [(1 << destinations) - 1] * sources
        self.sources = [self.add(Source(dut, f"i__{index}", self.codec)) for index in range(sources)]
        self.sinks = [self.add(Sink(dut, f"o__{index}", self.codec)) for index in range(destinations)]
        self.pulses = self.add(PulseCounter(dut, "pulses", EventRouter.pulses_layout(sources, destinations)))
        self.errors = self.add(PulseCounter(dut, "errors", EventRouter.ERRORS))
        dut.load_routes__enable.value = 0
        plant_fault(dut)

    async def load_route(self, source: int, mask: int) -> None:
        self.dut.load_routes__row.value = source
        self.dut.load_routes__data.value = mask
        self.dut.load_routes__enable.value = 1
        await self.run(1)
        self.dut.load_routes__enable.value = 0
        self.routes[source] = mask
        await self.run(1)

    def event(self, source: int, rng: random.Random) -> Event:
        layout = self.layout
        level = rng.randrange(1 << layout.level_bits - 4) << 4 | source
        return Event(
            y=rng.randrange(layout.height),
            x=rng.randrange(layout.width),
            channel=rng.randrange(layout.channels),
            levels=(level,) * layout.steps,
        )

    def frame(self, source: int, rng: random.Random, rows: int, most: int) -> list[Event]:
        """A frame of random events; the last row's may be absent."""
        events: list[Event] = []
        for _ in range(rows):
            events += [self.event(source, rng) for _ in range(rng.randint(0, most))] + [ROW_END]
        events[-1] = replace(FRAME_END, error=rng.random() < 0.2)
        return events

    def source_of(self, event: Event) -> int:
        return event.levels[0] & 15

    def routed(self, streams: Sequence[Sequence[Event]], destination: int) -> list[Sequence[Event]]:
        return [stream for stream, mask in zip(streams, self.routes, strict=True) if mask >> destination & 1]

    async def check(self, streams: Sequence[Sequence[Event]]) -> int:
        """Send a stream into every source and compare every destination; returns the misaligned tokens."""
        expected = [reference(self.routed(streams, index)) for index in range(len(self.sinks))]
        counts = [
            sum(len(part) for group in groups for part in group.events)
            + sum(g.token is not None for g in groups)
            for groups in expected
        ]
        for source, stream in zip(self.sources, streams, strict=True):
            source.send(stream)
        limit = 500 + 60 * (sum(map(len, streams)) + sum(counts))
        await self.run_until(
            lambda: (
                all(source.idle for source in self.sources)
                and all(len(sink.words) >= count for sink, count in zip(self.sinks, counts, strict=True))
            ),
            limit=limit,
        )
        await self.run(40)
        for index, (sink, groups) in enumerate(zip(self.sinks, expected, strict=True)):
            self._compare(index, [self.codec.unpack(word) for word in sink.take()], groups)
        return sum(group.misaligned for groups in expected for group in groups)

    def _compare(self, destination: int, got: list[Event], groups: list[Group]) -> None:
        position = 0
        for group in groups:
            left = sum(map(len, group.events))
            by_source: dict[int, list[Event]] = {}
            for event in got[position : position + left]:
                assert event.kind is EventKind.EVENT, f"o[{destination}] word {position}: {event} comes early"
                by_source.setdefault(self.source_of(event), []).append(event)
            wanted = {self.source_of(part[0]): part for part in group.events if part}
            assert by_source == wanted, f"o[{destination}], events before word {position + left}"
            position += left
            if group.token is not None:
                token = got[position] if position < len(got) else None
                assert token == group.token, f"o[{destination}] word {position}: {token}, not {group.token}"
                position += 1
        assert position == len(got), f"o[{destination}]: {len(got) - position} words too many"


def skew(bench: RouterBench, rng: random.Random) -> None:
    """Other patterns for every stream, so that tokens do not arrive together."""
    for source in bench.sources:
        source.pattern = pattern(rng.choice(("always", "half", "rarely", "bursts")), rng)
    for sink in bench.sinks:
        sink.pattern = pattern(rng.choice(("always", "half", "often", "bursts")), rng)


@cocotb.test()
async def good_frames(dut: Any) -> None:
    """Nothing is lost, duplicated or invented, under every pair of patterns and with unaligned tokens."""
    rng = bench_rng()
    bench = RouterBench(dut)
    await bench.reset()
    events_in = events_out = 0
    for _, offers, accepts in [*crossed(rng), ("skewed", always, always), ("skewed", always, always)]:
        for source in bench.sources:
            source.pattern = offers
        for sink in bench.sinks:
            sink.pattern = accepts
        if offers is accepts is always:
            skew(bench, rng)
        streams = [
            [e for _ in range(2) for e in bench.frame(index, rng, bench.layout.height, 8)]
            for index in range(len(bench.sources))
        ]
        assert await bench.check(streams) == 0
        sent = sum(event.kind is EventKind.EVENT for stream in streams for event in stream)
        events_in += sent
        events_out += sent * len(bench.sinks)
    totals = bench.pulses.totals()
    assert (totals["events_in"], totals["events_out"]) == (events_in, events_out)
    stalls = [sink.stalls for sink in bench.sinks]
    assert max(stalls) <= totals["stalls"] <= sum(stalls)
    assert bench.errors.totals() == {"misaligned": 0}


@cocotb.test()
async def routes_change(dut: Any) -> None:
    """Any routes: sources to some destinations, to none; destinations without a source."""
    rng = bench_rng()
    bench = RouterBench(dut)
    await bench.reset()
    for _ in range(6):
        skew(bench, rng)
        for index in range(len(bench.sources)):
            await bench.load_route(index, rng.randrange(1 << len(bench.sinks)))
        rows = bench.layout.height
        assert (
            await bench.check([bench.frame(index, rng, rows, 6) for index in range(len(bench.sources))]) == 0
        )


@cocotb.test()
async def missing_row_ends(dut: Any) -> None:
    """A source that forgets row tokens is flagged in its frame's end and does not touch the next frame."""
    rng = bench_rng()
    bench = RouterBench(dut)
    await bench.reset()
    misaligned = 0
    for _ in range(8):
        skew(bench, rng)
        streams = []
        for index in range(len(bench.sources)):
            frame = bench.frame(index, rng, bench.layout.height, 4)
            bad = [event for event in frame if event.kind is not EventKind.ROW_END or rng.random() < 0.7]
            streams.append(bad + bench.frame(index, rng, bench.layout.height, 4))
        misaligned += await bench.check(streams)
    flagged = bench.errors.totals()["misaligned"]
    # Destinations flagged in the same cycle share a pulse.
    assert misaligned / len(bench.sinks) <= flagged <= misaligned


@cocotb.test()
async def throughput(dut: Any) -> None:
    """One word per cycle and destination, and sources in turn while all have events."""
    rng = bench_rng()
    bench = RouterBench(dut)
    await bench.reset()
    count = 60
    sources = len(bench.sources)
    for index, source in enumerate(bench.sources):
        source.send([bench.event(index, rng) for _ in range(count)])
    await bench.run_until(lambda: all(source.idle for source in bench.sources), limit=count * sources + 20)
    await bench.run(10)
    for sink in bench.sinks:
        assert len(sink.words) == count * sources
        assert sink.cycles[-1] - sink.cycles[0] == count * sources - 1
        turns = [bench.source_of(bench.codec.unpack(word)) for word in sink.take()]
        for start in range(len(turns) - sources + 1):
            assert len(set(turns[start : start + sources])) == sources, f"unfair turns {turns}"


@cocotb.test()
async def slow_destination(dut: Any) -> None:
    """A destination that does not take anything holds back its own sources only."""
    rng = bench_rng()
    bench = RouterBench(dut)
    await bench.reset()
    if len(bench.sinks) < 2 or len(bench.sources) < 2:
        return
    await bench.load_route(0, 1)
    for index in range(1, len(bench.sources)):
        await bench.load_route(index, 2)
    bench.sinks[0].pattern = lambda: False
    for index, source in enumerate(bench.sources):
        source.send([bench.event(index, rng) for _ in range(20)])
    wanted = 20 * (len(bench.sources) - 1)
    await bench.run_until(lambda: len(bench.sinks[1].words) == wanted, limit=wanted + 10)
    assert not bench.sinks[0].words
