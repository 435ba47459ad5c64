"""Bench of the frame encoder.

Parameters: ``frame`` (fields of :class:`~lmht.rtl.parameters.FrameParameters`).
"""

from __future__ import annotations

import random
from typing import Any

import cocotb

from lmht.rtl.events import EventKind
from lmht.rtl.frame_encoder import FrameEncoder, frame_beat_layout
from lmht.rtl.parameters import FrameParameters
from lmht.sim.benches.support import bench_rng, crossed, first_difference, plant_fault
from lmht.sim.codecs import Event, EventCodec, StructCodec
from lmht.sim.patterns import always
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, Monitor, PulseCounter, Sink, Source

Beat = tuple[bytes, bool]


def reference(frame: FrameParameters, beats: list[Beat]) -> list[Event]:
    """What the contract says about a stream of ``(bytes, last)``."""
    events: list[Event] = []
    octets = bytearray()
    swallowing = False
    for octet_group, last in beats:
        if not swallowing:
            octets += octet_group
            complete = len(octets) >= frame.frame_bytes
            if complete or last:
                octets += bytes(max(0, frame.frame_bytes - len(octets)))
                events += _frame_events(frame, octets, error=complete != last)
                octets.clear()
                swallowing = not last
        elif last:
            swallowing = False
    return events


def _frame_events(frame: FrameParameters, octets: bytearray, *, error: bool) -> list[Event]:
    events: list[Event] = []
    position = 0
    for y in range(frame.height):
        for x in range(frame.width):
            for channel in range(frame.channels):
                if octets[position]:
                    events.append(Event(y=y, x=x, channel=channel, levels=(octets[position],)))
                position += 1
        events.append(Event(kind=EventKind.ROW_END))
    events[-1] = Event(kind=EventKind.FRAME_END, error=error)
    return events


def frame_cycles(frame: FrameParameters, octets: bytes) -> int:
    """Cycles a well-formed frame takes: per beat and row its events, its token, at least one."""
    row_bytes, lanes = frame.width * frame.channels, frame.bytes_per_beat
    cycles = 0
    for row in range(frame.height):
        start, end = row * row_bytes, (row + 1) * row_bytes
        for beat in range(start // lanes, (end - 1) // lanes + 1):
            part = octets[max(start, beat * lanes) : min(end, (beat + 1) * lanes)]
            events = len(part) - part.count(0)
            cycles += max(1, events + (end <= (beat + 1) * lanes))
    return cycles


def beats_of(frame: FrameParameters, octets: bytes, rng: random.Random) -> list[Beat]:
    """A well-formed frame; what follows its end in the last beat is noise."""
    lanes = frame.bytes_per_beat
    noise = rng.randbytes(frame.beats * lanes - len(octets))
    padded = octets + noise
    return [
        (padded[beat * lanes : (beat + 1) * lanes], beat == frame.beats - 1) for beat in range(frame.beats)
    ]


def random_octets(frame: FrameParameters, density: float, rng: random.Random) -> bytes:
    return bytes(rng.randint(1, 255) if rng.random() < density else 0 for _ in range(frame.frame_bytes))


def malformed(beats: list[Beat], rng: random.Random) -> list[Beat]:
    """The frame cut short, or with beats added behind its end."""
    if len(beats) > 1 and rng.random() < 0.5:
        kept = beats[: rng.randint(1, len(beats) - 1)]
        return [*kept[:-1], (kept[-1][0], True)]
    extra = rng.randint(1, 3)
    lanes = len(beats[0][0])
    tail = [(rng.randbytes(lanes), index == extra - 1) for index in range(extra)]
    return [*((octets, False) for octets, _ in beats), *tail]


class FrameBench(Bench):
    """Source, sink and counters around a frame encoder."""

    def __init__(self, dut: Any):
        super().__init__(dut)
        self.frame = FrameParameters(**bench_parameters()["frame"])
        self.beat_codec = StructCodec(frame_beat_layout(self.frame))
        self.codec = EventCodec(self.frame.layout)
        self.source = self.add(Source(dut, "i"))
        self.sink = self.add(Sink(dut, "o"))
        self.input = self.add(Monitor(dut, "i"))
        self.pulses = self.add(PulseCounter(dut, "pulses", FrameEncoder.PULSES))
        self.errors = self.add(PulseCounter(dut, "errors", FrameEncoder.ERRORS))
        plant_fault(dut)

    async def check(self, beats: list[Beat]) -> None:
        """Send beats and compare everything that comes out with the reference."""
        expected = reference(self.frame, beats)
        self.source.send(
            self.beat_codec.pack({"data": int.from_bytes(octets, "little"), "last": last})
            for octets, last in beats
        )
        limit = 200 + 60 * (len(beats) + len(expected))
        wanted = len(self.sink.words) + len(expected)
        await self.run_until(lambda: len(self.sink.words) >= wanted and self.source.idle, limit=limit)
        # Words too many would follow at once.
        await self.run(30)
        words = self.sink.take()
        got = [self.codec.unpack(word) for word in words]
        assert got == expected, first_difference(got, expected)


@cocotb.test()
async def good_frames(dut: Any) -> None:
    """Frames of all densities follow each other, under every pair of patterns."""
    rng = bench_rng()
    bench = FrameBench(dut)
    await bench.reset()
    frames = 0
    events = 0
    for _, offers, accepts in crossed(rng):
        bench.source.pattern, bench.sink.pattern = offers, accepts
        beats: list[Beat] = []
        for density in (0.0, 0.2, 1.0):
            beats += beats_of(bench.frame, random_octets(bench.frame, density, rng), rng)
            frames += 1
        events += sum(event.kind is EventKind.EVENT for event in reference(bench.frame, beats))
        await bench.check(beats)
    assert bench.pulses.totals() == {"frames": frames, "events": events, "stalls": bench.sink.stalls}
    assert bench.errors.totals() == {"truncated": 0, "overlong": 0}


@cocotb.test()
async def malformed_frames(dut: Any) -> None:
    """Truncated and overlong frames end with their flag and leave the frames behind them alone."""
    rng = bench_rng()
    bench = FrameBench(dut)
    await bench.reset()
    truncated = overlong = 0
    for _, offers, accepts in crossed(rng):
        bench.source.pattern, bench.sink.pattern = offers, accepts
        beats: list[Beat] = []
        for _ in range(4):
            good = beats_of(bench.frame, random_octets(bench.frame, 0.3, rng), rng)
            bad = malformed(good, rng)
            truncated += len(bad) < len(good)
            overlong += len(bad) > len(good)
            beats += bad
            if rng.random() < 0.5:
                beats += beats_of(bench.frame, random_octets(bench.frame, 0.5, rng), rng)
        await bench.check(beats)
    assert bench.errors.totals() == {"truncated": truncated, "overlong": overlong}


@cocotb.test()
async def throughput(dut: Any) -> None:
    """Back-to-back frames take exactly the cycles that the contract names."""
    rng = bench_rng()
    bench = FrameBench(dut)
    bench.source.pattern = bench.sink.pattern = always
    await bench.reset()
    for density in (0.0, 0.3, 1.0):
        frames = [random_octets(bench.frame, density, rng) for _ in range(4)]
        beats = [beat for octets in frames for beat in beats_of(bench.frame, octets, rng)]
        bench.input.take()
        expected = len(reference(bench.frame, beats))
        bench.source.send(
            bench.beat_codec.pack({"data": int.from_bytes(octets, "little"), "last": last})
            for octets, last in beats
        )

        def is_done(wanted: int = expected) -> bool:
            return len(bench.sink.words) >= wanted

        await bench.run_until(is_done, limit=100_000)
        cycles = sum(frame_cycles(bench.frame, octets) for octets in frames)
        taken = bench.sink.cycles[-1] - bench.input.cycles[0]
        assert taken == cycles + FrameEncoder.LATENCY - 1, (
            f"{taken} cycles, expected {cycles} and the latency"
        )
        bench.sink.take()
        await bench.run(20)
