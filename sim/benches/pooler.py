"""Bench of :class:`~lmht.rtl.pooler.Pooler`: random levels of a map against sums and maxima over windows.

Parameters: ``tile``, keyword arguments of :func:`~lmht.sim.benches.spike_encoder.encoder_parameters`; ``pooling``, its
kind, height and width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cocotb
import numpy as np

from lmht.rtl.projection import Pooling
from lmht.rtl.spike_encoder import map_vector_layout, spike_vector_layout
from lmht.rtl.tile_parameters import TileParameters
from lmht.sim.benches.scalar_reference import pool
from lmht.sim.benches.spike_encoder import encoder_parameters
from lmht.sim.benches.support import bench_rng, crossed, plant_fault
from lmht.sim.codecs import StructCodec, layout_fields
from lmht.sim.patterns import always
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, Monitor, Sink, Source

DENSITIES = (0.0, 0.05, 0.5, 1.0)


def pooled_parameters(tile: dict[str, Any], pooling: tuple[str, int, int]) -> TileParameters:
    """A tile of which map, neurons and pooling are given."""
    kind, height, width = pooling
    parameters = encoder_parameters(**tile)
    return replace(parameters, pooling=Pooling(kind=kind, size=(height, width)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Frame:
    """A frame's levels, shape (steps, height, width, neurons with padding), and its flag."""

    levels: np.ndarray
    error: bool


class PoolerBench(Bench):
    """Source, monitor and sink around a pooler."""

    def __init__(self, dut: Any):
        super().__init__(dut)
        given = bench_parameters()
        self.parameters = pooled_parameters(given["tile"], tuple(given["pooling"]))
        self.rng = bench_rng()
        self.source = self.add(Source(dut, "i", StructCodec(map_vector_layout(self.parameters))))
        self.input = self.add(Monitor(dut, "i"))
        self.sink = self.add(Sink(dut, "o", StructCodec(spike_vector_layout(self.parameters))))
        plant_fault(dut)

    def frame(self, density: float) -> Frame:
        """Levels of which the part `density` is not 0."""
        parameters, rng = self.parameters, self.rng
        highest = parameters.neuron.levels or 0
        lanes = parameters.update_rows * parameters.update_lanes
        shape = (parameters.neuron.steps, parameters.height, parameters.width, lanes)
        levels = np.zeros(shape, dtype=np.int64)
        for index in np.ndindex(*shape):
            if rng.random() < density:
                levels[index] = rng.randint(1, highest)
        return Frame(levels, rng.random() < 0.3)

    def vectors(self, frame: Frame) -> list[dict[str, int]]:
        """The frame as the neuron array sends it; some vectors without spikes are there, some are not."""
        parameters = self.parameters
        vectors: list[dict[str, int]] = []
        for y in range(parameters.height):
            row = []
            for x, update_row in np.ndindex(parameters.width, parameters.update_rows):
                first = update_row * parameters.update_lanes
                levels = frame.levels[:, y, x, first : first + parameters.update_lanes]
                if levels.any() or self.rng.random() < 0.3:
                    named = {
                        f"levels__{lane}__{step}": int(level)
                        for (step, lane), level in np.ndenumerate(levels)
                    }
                    row.append({"x": x, "row": update_row, "last": 0, "frame": 0, "error": 0, **named})
            row = row or [{"x": 0, "row": 0}]
            row[-1]["last"] = 1
            if y == parameters.height - 1:
                row[-1] |= {"frame": 1, "error": int(frame.error)}
            vectors += row
        return vectors

    def found(self) -> Iterator[tuple[np.ndarray, bool]]:
        """Frames that came out: levels and flag."""
        parameters = self.parameters
        output = parameters.output
        shape = (output.steps, output.height, output.width, parameters.update_rows * parameters.update_lanes)
        levels, y, previous = np.zeros(shape, dtype=np.int64), 0, (-1, -1)
        for vector in self.sink.items:
            place = (vector["x"], vector["row"])
            some = any(value for name, value in vector.items() if name.startswith("levels"))
            assert place > previous or not some, f"row {y}: vector {place} after {previous}"
            if some:
                previous = place
                for lane, step in np.ndindex(parameters.update_lanes, output.steps):
                    neuron = place[1] * parameters.update_lanes + lane
                    levels[step, y, place[0], neuron] = vector[f"levels__{lane}__{step}"]
            if vector["last"]:
                y, previous = y + 1, (-1, -1)
                assert bool(vector["frame"]) == (y == output.height), f"a frame ends in row {y - 1}"
                if vector["frame"]:
                    yield levels, bool(vector["error"])
                    levels, y = np.zeros(shape, dtype=np.int64), 0

    async def check(self, frames: list[Frame]) -> None:
        """Send frames and compare all that comes out with the reference."""
        sent = [self.vectors(frame) for frame in frames]
        for vectors in sent:
            self.source.send(vectors)
        ends = len(frames)
        fields = layout_fields(spike_vector_layout(self.parameters))
        end = 1 << fields["last"][0] | 1 << fields["frame"][0]
        work = sum(map(len, sent)) + ends * self.parameters.height * (self.parameters.width * 4 + 40)

        def done() -> bool:
            return sum(word & end == end for word in self.sink.words) == ends

        await self.run_until(done, limit=12 * work + 500, what="the pooler")
        await self.run(30)
        found = list(self.found())
        assert len(found) == ends, f"{len(found)} frames, expected {ends}"
        for number, (frame, (levels, error)) in enumerate(zip(frames, found, strict=True)):
            assert error == frame.error, f"frame {number}: error {error}, expected {frame.error}"
            assert self.parameters.pooling is not None
            expected = pool(frame.levels, self.parameters.pooling)
            for step, y, x, neuron in zip(*np.nonzero(levels != expected), strict=True):
                raise AssertionError(
                    f"frame {number}, pixel ({y}, {x}), neuron {neuron}, step {step}: expected level "
                    f"{expected[step, y, x, neuron]}, found {levels[step, y, x, neuron]}"
                )
        self.sink.take()


@cocotb.test()
async def frames(dut: Any) -> None:
    """Frames of all densities, under every pair of patterns."""
    bench = PoolerBench(dut)
    await bench.reset()
    for _, offers, accepts in crossed(bench.rng):
        bench.source.pattern, bench.sink.pattern = offers, accepts
        await bench.check([bench.frame(density) for density in DENSITIES])


@cocotb.test()
async def throughput(dut: Any) -> None:
    """A vector in a cycle, as long as there is one.

    Where vectors without spikes are left out, a row of windows may be complete before the one before it has been sent.
    """
    bench = PoolerBench(dut)
    bench.source.pattern = bench.sink.pattern = always
    await bench.reset()
    await bench.run(bench.parameters.width * bench.parameters.update_rows + 4)
    parameters, count = bench.parameters, 3
    for density, waits in ((1.0, 0), (0.3, count * parameters.output.height)):
        bench.input.take()
        await bench.check([bench.frame(density) for _ in range(count)])
        taken = bench.input.cycles[-1] - bench.input.cycles[0] + 1
        words = len(bench.input.words)
        assert words <= taken <= words + waits, f"{taken} cycles for {words} vectors"


@cocotb.test()
async def reset(dut: Any) -> None:
    """Nothing of a frame that a reset cuts off reaches the next one."""
    bench = PoolerBench(dut)
    await bench.reset()
    vectors = bench.vectors(bench.frame(1.0))
    bench.source.send(vectors[: len(vectors) // 2])
    await bench.run_until(lambda: bench.source.idle, limit=20 * len(vectors) + 500)
    await bench.run(20)
    await bench.reset()
    bench.sink.take()
    await bench.check([bench.frame(density) for density in DENSITIES])
