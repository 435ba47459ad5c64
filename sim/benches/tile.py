"""Bench of :class:`~lmht.rtl.tile.Tile`: frames of random events, some malformed, against the sums of NUMERICS.md.

Parameters (JSON): ``tile`` (fields of TileParameters), ``data`` (npz with the packed memories and the layer's
arrays: ``weights`` and perhaps ``residual_weights`` of shape (N, C / groups, KH, KW), and those of
:class:`~lmht.sim.benches.scalar_reference.ScalarLayer`), ``frames``, ``idle`` (a pattern name for each projection),
``ready`` (pattern name), ``malformed`` (probability per event), ``density``, ``corners`` (bool: also frames of a
single event in each corner), and ``steady`` (bool: check the cycles of the steady state of a Linear layer).
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from pydantic import TypeAdapter

from lmht.rtl.address_generator import INPUTS
from lmht.rtl.events import EventKind
from lmht.rtl.tile import Tile
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters
from lmht.sim.benches.integrator import FrameMaker, ProjectionModel, WordCodec
from lmht.sim.benches.scalar_reference import ScalarLayer, pool
from lmht.sim.benches.support import load_memories
from lmht.sim.codecs import Event, EventCodec
from lmht.sim.patterns import pattern
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, PulseCounter, Sink, Source

Words = list[tuple[Event, int]]


@dataclass(frozen=True)
class Frame:
    """Words of every projection, what a correct tile makes of them, and what that takes."""

    words: list[Words]
    expected: list[Event]
    operations: int
    updated: int
    """Pixels whose neurons are multiplied out."""
    constant: int
    """Pixels that send their constant events."""


class TileModel:
    """What a correct tile makes of a frame."""

    def __init__(self, tile: TileParameters, arrays: Any):
        self.tile = tile
        self.layer = ScalarLayer.from_arrays(arrays, tile.neuron)
        self.projections = [
            ProjectionModel(tile, index, arrays[name])
            for index, name in enumerate(WEIGHT_MEMORIES[: len(tile.projections)])
        ]
        self.channels = slice(tile.channel_offset, tile.channel_offset + tile.channels)
        nothing = np.zeros((tile.neuron.input_steps, tile.layer_channels), dtype=object)
        silent = not self.layer.update(nothing)[:, self.channels].any()
        self.skips = tile.skip_quiet and silent and not tile.neuron.is_classifier

    def frame(self, words: list[Words]) -> Frame:
        """Integrate, update, pool."""
        tile = self.tile
        sums = np.zeros(
            (tile.neuron.input_steps, tile.layer_channels, tile.height, tile.width), dtype=np.int64
        )
        touched = np.zeros((tile.height, tile.width, tile.groups), dtype=bool)
        before = self.operations
        flags = [model.add(part, sums, touched) for model, part in zip(self.projections, words, strict=True)]
        levels = np.zeros((tile.neuron.steps, tile.height, tile.width, tile.channels), dtype=object)
        for y, x in np.ndindex(tile.height, tile.width):
            levels[:, y, x] = self.layer.update(sums[:, :, y, x])[:, self.channels]
        if tile.pooling is not None:
            levels = pool(levels, tile.pooling)
        pixels = tile.height * tile.width
        updated = int(touched.any(axis=2).sum()) if self.skips or tile.constant_events else pixels
        constant = 0 if self.skips else pixels - updated
        events = self._events(levels, any(flags))
        return Frame(words, events, self.operations - before, updated, constant)

    def _events(self, levels: np.ndarray, error: bool) -> list[Event]:
        """Output words: pixels and channels in ascending order, a token at the end of each row."""
        events = []
        _, height, width, channels = levels.shape
        for y in range(height):
            for x, n in np.ndindex(width, channels):
                values = tuple(int(level) for level in levels[:, y, x, n])
                if self.tile.neuron.is_classifier or any(values):
                    events.append(Event(y=y, x=x, channel=self.tile.channel_offset + n, levels=values))
            events.append(Event(kind=EventKind.ROW_END))
        events[-1] = Event(kind=EventKind.FRAME_END, error=error)
        return events

    @property
    def operations(self) -> int:
        return sum(model.operations for model in self.projections)

    def total(self, name: str) -> int:
        """Of a counter or error of the filters."""
        return sum(model.totals[name] for model in self.projections)


def _corners(tile: TileParameters, rng: random.Random) -> list[list[Words]]:
    """Frames with one event, in a corner of one projection's map."""
    frames = []
    for index, own in enumerate(tile.projections):
        link = own.input
        for y, x in itertools.product({0, link.height - 1}, {0, link.width - 1}):
            levels = tuple(link.max_level or 1 for _ in range(link.steps))
            event = Event(y=y, x=x, channel=rng.randrange(link.channels), levels=levels)
            words = [FrameMaker(tile, number, rng).words(0.0, 0.0) for number in range(len(tile.projections))]
            words[index].insert(y, (event, EventKind.EVENT.value))
            frames.append(words)
    return frames


def _random_frames(tile: TileParameters, given: dict[str, Any], rng: random.Random) -> list[list[Words]]:
    """The second frame has no event, the third one every event."""
    frames = []
    makers = [FrameMaker(tile, index, rng) for index in range(len(tile.projections))]
    for number in range(int(given["frames"])):
        density = {1: 0.0, 2: 1.0}.get(number, float(given["density"]))
        malformed = 0.0 if number == 2 else float(given["malformed"])
        frames.append([maker.words(density, malformed) for maker in makers])
    return frames


class TileBench(Bench):
    """Sources, sink and counters around a tile whose memories are loaded by :meth:`begin`."""

    def __init__(self, dut: Any):
        super().__init__(dut)
        given = self.given = bench_parameters()
        rng = self.rng = random.Random(cocotb.RANDOM_SEED)
        tile = self.tile = TypeAdapter(TileParameters).validate_python(given["tile"])
        self.arrays = np.load(Path(str(given["data"])))
        self.model = TileModel(tile, self.arrays)
        self.sources = [
            self.add(Source(dut, INPUTS[index], WordCodec(tile, index), valid=pattern(name, rng)))
            for index, name in enumerate(given["idle"])
        ]
        self.sink = self.add(Sink(dut, "o", EventCodec(tile.output), ready=pattern(str(given["ready"]), rng)))
        self.pulses = self.add(PulseCounter(dut, "pulses", Tile.PULSES))
        self.errors = self.add(PulseCounter(dut, "errors", Tile.ERRORS))

    async def begin(self) -> None:
        await self.reset()
        await load_memories(self, {name: self.arrays[f"memory_{name}"] for name in self.tile.memories})

    async def check(self, sent: list[Frame]) -> None:
        """Send frames back to back and compare every word that comes out."""
        tile, sink, sources = self.tile, self.sink, self.sources
        expected = [word for frame in sent for word in frame.expected]
        words_in = 0
        for frame in sent:
            for source, words in zip(sources, frame.words, strict=True):
                source.send(words)
                words_in += len(words)
        work = sum(
            frame.operations + frame.updated * (tile.update_cycles + 3 * tile.groups) for frame in sent
        )
        limit = 20 * (work + words_in + len(expected) + len(sent) * (30 * tile.height + 100)) + 2000
        offset, width = tile.output.fields()["kind"]
        looked_at = ends = 0

        def done() -> bool:
            nonlocal looked_at, ends
            for word in sink.words[looked_at:]:
                ends += word >> offset & (1 << width) - 1 == EventKind.FRAME_END.value
            looked_at = len(sink.words)
            return ends >= len(sent) and all(source.idle for source in sources)

        await self.run_until(done, limit=limit, what="the tile")
        await self.run(50)
        found = sink.items
        for index, (have, want) in enumerate(zip(found, expected, strict=False)):
            assert have == want, f"word {index}: expected {want}, found {have}"
        assert len(found) == len(expected), f"expected {len(expected)} words, found {len(found)}"


@cocotb.test()
async def reset(dut: Any) -> None:
    """A reset in the middle of a frame leaves nothing behind; what was loaded stays."""
    bench = TileBench(dut)
    await bench.begin()
    for density in (1.0, float(bench.given["density"])):
        for index, source in enumerate(bench.sources):
            words = FrameMaker(bench.tile, index, bench.rng).words(1.0, 0.0)
            source.send(words[: bench.rng.randrange(len(words) // 2, len(words))])
        # Not until all are taken: of two projections one may wait for rows of the other.
        await bench.run(bench.rng.randrange(50, 400))
        for source in bench.sources:
            source.forget()
        await bench.reset()
        bench.sink.take()
        makers = [FrameMaker(bench.tile, index, bench.rng) for index in range(len(bench.sources))]
        await bench.check([bench.model.frame([maker.words(density, 0.0) for maker in makers])])


@cocotb.test()
async def frames(dut: Any) -> None:
    """Every output word of every frame, the counters and the error bits."""
    bench = TileBench(dut)
    tile, model, given, rng = bench.tile, bench.model, bench.given, bench.rng
    sources, sink, pulses, errors = bench.sources, bench.sink, bench.pulses, bench.errors
    await bench.begin()

    together = [model.frame(words) for words in _random_frames(tile, given, rng)]
    await bench.check(together)
    if given.get("steady"):
        _check_steady_state(tile, sink, together)
    apart = [model.frame(words) for words in _corners(tile, rng)] if given.get("corners") else []
    for frame in apart:
        sink.take()
        await bench.check([frame])
        await bench.run(rng.randrange(40))

    sent = [*together, *apart]
    counted, flagged = pulses.totals(), errors.totals()
    wanted = {
        "frames": len(sent),
        "integrate": model.operations,
        "update": sum(frame.updated for frame in sent) * tile.update_cycles,
        "skipped": sum(tile.height * tile.width - frame.updated - frame.constant for frame in sent),
        "events_in": model.total("events_in"),
        "dropped": model.total("dropped"),
        "events_out": sum(word.kind is EventKind.EVENT for frame in sent for word in frame.expected),
        "output_stalls": sink.stalls,
    }
    for name, value in wanted.items():
        assert counted[name] == value, f"{name}: expected {value}, found {counted[name]}"
    for name in ("coordinates", "level", "rows", "kind"):
        total = model.total(name)
        # Two projections may flag an error in the same cycle.
        lowest = total if len(sources) == 1 else -(-total // 2)
        assert lowest <= flagged[name] <= total, f"{name}: expected {total}, found {flagged[name]}"


def _check_steady_state(tile: TileParameters, sink: Sink, sent: list[Frame]) -> None:
    """Frames end as often as the slower of integration and update allows; nothing else costs a cycle."""
    ends = [
        cycle for cycle, word in zip(sink.cycles, sink.items, strict=True) if word.kind is EventKind.FRAME_END
    ]
    taken = ends[-1] - ends[3]
    integration = sum(frame.operations + tile.height for frame in sent[4:])
    update = sum(
        frame.updated * tile.update_cycles + frame.constant * tile.update_rows + 4 * tile.height
        for frame in sent[4:]
    )
    # The last frames' updates differ in where their last spike lies.
    slack = tile.update_cycles * tile.width + 4 * tile.groups + 4
    allowed = max(integration, update) + slack
    assert taken <= allowed, f"{len(sent) - 4} frames took {taken} cycles, not at most {allowed}"
