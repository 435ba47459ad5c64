"""Bench of the spike encoder.

Parameters: ``tile``, keyword arguments of :func:`encoder_parameters`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import cocotb

from lmht.rtl.events import EventKind, EventLayout
from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.projection import IMAGE, ProjectionParameters
from lmht.rtl.spike_encoder import SpikeEncoder, spike_vector_layout
from lmht.rtl.tile_parameters import TileParameters
from lmht.sim.benches.support import bench_rng, crossed, first_difference, plant_fault
from lmht.sim.codecs import Event, EventCodec, StructCodec
from lmht.sim.patterns import always
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, Monitor, PulseCounter, Sink, Source


def encoder_parameters(
    *,
    channels: int,
    update_lanes: int,
    levels: int | None,
    steps: int = 1,
    offset: int = 0,
    beyond: int = 0,
    height: int = 1,
    width: int = 1,
) -> TileParameters:
    """A tile of which the encoder's part is given: its map, slice of channels, lanes, levels and steps."""
    neuron = NeuronParameters(
        input_steps=1,
        steps=steps,
        levels=levels,
        accumulator_bits=16,
        multiplier_bits=8,
        shift=0 if levels is None else 4,
        mix_bits=20,
        bias_bits=8,
        current_bits=20,
    )
    source = EventLayout.for_levels(height=height, width=width, channels=4, steps=1, max_level=255)
    return TileParameters(
        name="tile",
        layer=0,
        projections=(ProjectionParameters(source=IMAGE, input=source, kernel=(1, 1), weight_bits=4),),
        layer_channels=offset + channels + beyond,
        channel_offset=offset,
        channels=channels,
        lanes=update_lanes,
        neuron=neuron,
        update_lanes=update_lanes,
    )


@dataclass(frozen=True)
class Vector:
    """One word of the input stream; ``levels[lane][step]``."""

    row: int
    levels: tuple[tuple[int, ...], ...]
    x: int = 0
    last: bool = False
    frame: bool = False
    error: bool = False


def neurons_of(parameters: TileParameters, vector: Vector, y: int) -> list[Event]:
    """Events of one vector, as the contract says."""
    events = []
    for lane, levels in enumerate(vector.levels):
        local = vector.row * parameters.update_lanes + lane
        if local < parameters.channels and (parameters.neuron.is_classifier or any(levels)):
            channel = parameters.channel_offset + local
            events.append(Event(y=y, x=vector.x, channel=channel, levels=levels))
    return events


def sent_for(parameters: TileParameters, vectors: list[Vector]) -> list[Event]:
    """Events and tokens of whole frames, as the contract says."""
    events = []
    y = 0
    for vector in vectors:
        events += neurons_of(parameters, vector, y)
        if vector.frame:
            events.append(Event(kind=EventKind.FRAME_END, error=vector.error))
            y = 0
        elif vector.last:
            events.append(Event(kind=EventKind.ROW_END))
            y += 1
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

    def vector(self, x: int, row: int, density: float, rng: random.Random) -> Vector:
        output = self.parameters.output
        low = -(1 << output.level_bits - 1) if output.signed else 1
        high = (1 << output.level_bits - 1) - 1 if output.signed else (output.max_level or 1)
        levels = tuple(
            tuple(rng.randint(low, high) if rng.random() < density else 0 for _ in range(output.steps))
            for _ in range(self.parameters.update_lanes)
        )
        return Vector(row, levels, x)

    def frame(self, density: float, rng: random.Random) -> list[Vector]:
        """All vectors of a frame, or some of them: vectors without a spike may be missing."""
        output = self.parameters.output
        vectors: list[Vector] = []
        for y in range(output.height):
            row = [
                self.vector(x, row, density, rng)
                for x in range(output.width)
                for row in range(self.parameters.update_rows)
                if rng.random() < 0.8
            ]
            # A row of the map without a pixel to update ends at no particular one.
            row = row or [self.vector(0, 0, 0.0, rng)]
            frame = y == output.height - 1
            row[-1] = replace(row[-1], last=True, frame=frame, error=frame and rng.random() < 0.3)
            vectors += row
        return vectors

    def pack(self, vector: Vector) -> int:
        fields = {name: int(getattr(vector, name)) for name in ("x", "row", "last", "frame", "error")}
        for lane, levels in enumerate(vector.levels):
            fields |= {f"levels__{lane}__{step}": level for step, level in enumerate(levels)}
        return self.vectors.pack(fields)

    async def check(self, vectors: list[Vector]) -> list[Event]:
        """Send vectors and compare everything that comes out with the reference."""
        expected = sent_for(self.parameters, vectors)
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
        silent = sum(not (neurons_of(bench.parameters, v, 0) or v.last) for v in vectors)
        cycles = bench.last_cycle - bench.input.cycles[0] - (SpikeEncoder.LATENCY - 1)
        assert words <= cycles <= words + silent, (
            f"{cycles} cycles for {words} words, {silent} silent vectors"
        )
