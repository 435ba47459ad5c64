"""Bench of the spike encoder.

Parameters: ``tile``, keyword arguments of :func:`encoder_parameters`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb

from lmht.rtl.events import EventKind, EventLayout
from lmht.rtl.parameters import NeuronParameters, TileParameters
from lmht.rtl.spike_encoder import SpikeEncoder, spike_vector_layout
from lmht.sim.benches.support import bench_rng, crossed, first_difference, plant_fault
from lmht.sim.codecs import Event, EventCodec, StructCodec
from lmht.sim.patterns import always
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, Monitor, PulseCounter, Sink, Source


def encoder_parameters(
    *, channels: int, update_lanes: int, levels: int | None, steps: int = 1, offset: int = 0, beyond: int = 0
) -> TileParameters:
    """A tile of which the encoder's part is given: its slice of channels, lanes, levels and steps."""
    neuron = NeuronParameters(
        input_steps=1,
        steps=steps,
        levels=levels,
        accumulator_bits=16,
        multiplier_bits=8,
        shift=0 if levels is None else 4,
        mix_bits=20,
        current_bits=20,
    )
    return TileParameters(
        name="tile",
        layer=0,
        input=EventLayout.for_levels(channels=4, steps=1, max_level=255),
        layer_channels=offset + channels + beyond,
        channel_offset=offset,
        channels=channels,
        lanes=update_lanes,
        weight_bits=4,
        neuron=neuron,
        update_lanes=update_lanes,
    )


@dataclass(frozen=True)
class Vector:
    """One word of the input stream; ``levels[lane][step]``."""

    row: int
    levels: tuple[tuple[int, ...], ...]
    last: bool = False
    error: bool = False


def sent_by(parameters: TileParameters, vector: Vector) -> list[Event]:
    """What the contract says about one vector."""
    events = []
    for lane, levels in enumerate(vector.levels):
        local = vector.row * parameters.update_lanes + lane
        if local < parameters.channels and (parameters.neuron.is_classifier or any(levels)):
            events.append(Event(channel=parameters.channel_offset + local, levels=levels))
    if vector.last:
        events.append(Event(kind=EventKind.FRAME_END, error=vector.error))
    return events


class EncoderBench(Bench):
    """Source, sink and counters around a spike encoder."""

    def __init__(self, dut: Any):
        super().__init__(dut)
        self.parameters = encoder_parameters(**bench_parameters()["tile"])
        self.vectors = StructCodec(spike_vector_layout(self.parameters))
        self.codec = EventCodec(self.parameters.output)
        self.source = self.add(Source(dut, "i"))
        self.input = self.add(Monitor(dut, "i"))
        self.sink = self.add(Sink(dut, "o"))
        self.pulses = self.add(PulseCounter(dut, "pulses", SpikeEncoder.PULSES))
        plant_fault(dut)

    def vector(self, row: int, density: float, rng: random.Random, *, last: bool) -> Vector:
        output = self.parameters.output
        low = -(1 << output.level_bits - 1) if output.signed else 1
        high = (1 << output.level_bits - 1) - 1 if output.signed else (output.max_level or 1)
        levels = tuple(
            tuple(rng.randint(low, high) if rng.random() < density else 0 for _ in range(output.steps))
            for _ in range(self.parameters.update_lanes)
        )
        return Vector(row, levels, last=last, error=rng.random() < 0.3)

    def frame(self, density: float, rng: random.Random) -> list[Vector]:
        """All rows of a frame, or some of them: the neuron array leaves out rows without a spike."""
        rows = self.parameters.update_rows
        kept = [row for row in range(rows) if row == rows - 1 or rng.random() < 0.8]
        return [self.vector(row, density, rng, last=row == rows - 1) for row in kept]

    def pack(self, vector: Vector) -> int:
        fields = {"row": vector.row, "last": int(vector.last), "error": int(vector.error)}
        for lane, levels in enumerate(vector.levels):
            fields |= {f"levels__{lane}__{step}": level for step, level in enumerate(levels)}
        return self.vectors.pack(fields)

    async def check(self, vectors: list[Vector]) -> list[Event]:
        """Send vectors and compare everything that comes out with the reference."""
        expected = [event for vector in vectors for event in sent_by(self.parameters, vector)]
        self.source.send(map(self.pack, vectors))
        wanted = len(expected)
        await self.run_until(
            lambda: len(self.sink.words) >= wanted and self.source.idle,
            limit=200 + 60 * (len(vectors) + wanted),
        )
        await self.run(30)
        self.last_cycle = self.sink.cycles[-1]
        got = [self.codec.unpack(word) for word in self.sink.take()]
        assert got == expected, first_difference(got, expected)
        return expected


@cocotb.test()
async def frames(dut: Any) -> None:
    """Frames of all densities, under every pair of patterns."""
    rng = bench_rng()
    bench = EncoderBench(dut)
    await bench.reset()
    events = 0
    for _, offers, accepts in crossed(rng):
        bench.source.pattern, bench.sink.pattern = offers, accepts
        sent = await bench.check([v for density in (0.0, 0.15, 1.0) for v in bench.frame(density, rng)])
        events += sum(event.kind is EventKind.EVENT for event in sent)
    assert bench.pulses.totals() == {"events": events, "stalls": bench.sink.stalls}


@cocotb.test()
async def throughput(dut: Any) -> None:
    """A word a cycle; a vector without any takes at most one."""
    rng = bench_rng()
    bench = EncoderBench(dut)
    bench.source.pattern = bench.sink.pattern = always
    await bench.reset()
    for density in (0.0, 0.1, 0.5, 1.0):
        bench.input.take()
        vectors = [vector for _ in range(5) for vector in bench.frame(density, rng)]
        words = len(await bench.check(vectors))
        silent = sum(not sent_by(bench.parameters, vector) for vector in vectors)
        cycles = bench.last_cycle - bench.input.cycles[0] - (SpikeEncoder.LATENCY - 1)
        assert words <= cycles <= words + silent, (
            f"{cycles} cycles for {words} words, {silent} silent vectors"
        )
