"""Bench of :class:`~lmht.rtl.tile.Tile`: frames of random events, some malformed, against the sums of NUMERICS.md.

Parameters (JSON): ``tile`` (fields of TileParameters), ``data`` (npz with the packed memories and the layer's
arrays), ``frames``, ``idle``, ``ready`` (pattern names), ``malformed`` (probability per event), ``density``, and
``steady`` (bool: check the cycles of the steady state).
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from pydantic import TypeAdapter

from lmht.rtl.events import EventKind
from lmht.rtl.parameters import TileParameters
from lmht.rtl.tile import Tile
from lmht.sim.benches.scalar_reference import ScalarLayer
from lmht.sim.codecs import Event, EventCodec
from lmht.sim.patterns import pattern
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, PulseCounter, Sink, Source


class FrameMaker:
    """Random frames, and what a correct tile makes of them."""

    def __init__(self, tile: TileParameters, layer: ScalarLayer, rng: random.Random):
        self.tile = tile
        self.layer = layer
        self.rng = rng
        self.totals = dict.fromkeys(("events_in", "dropped", "coordinates", "level", "rows", "kind"), 0)
        self.sent: list[int] = []

    def frame(self, density: float, malformed: float) -> tuple[list[Event], list[Event]]:
        """Input words of a frame, and the expected output words (events in any order, then the token)."""
        link, rng = self.tile.input, self.rng
        words: list[Event] = []
        inputs = np.zeros((link.steps, link.positions), dtype=object)
        error = False
        valid_events = 0
        fault = rng.choice(("missing", "surplus")) if rng.random() < 4 * malformed else ""
        if fault == "missing" and link.height == 1:
            fault = "surplus"
        missing_row = rng.randrange(link.height - 1) if fault == "missing" else None
        if fault:
            error = True
            self.totals["rows"] += 1
        for y in range(link.height):
            for x in range(link.width):
                for channel in range(link.channels):
                    if rng.random() < malformed:
                        wrong = self._malformed()
                        if wrong is not None:
                            words.append(wrong)
                            error = True
                    if rng.random() < density:
                        levels = self._levels()
                        j = (y * link.width + x) * link.channels + channel
                        inputs[:, j] = levels
                        words.append(Event(y=y, x=x, channel=channel, levels=levels))
                        valid_events += 1
            if y < link.height - 1 and y != missing_row:
                words.append(Event(kind=EventKind.ROW_END))
        if fault == "surplus":
            words.append(Event(kind=EventKind.ROW_END))
        self.totals["events_in"] += valid_events
        upstream = rng.random() < malformed
        words.append(Event(kind=EventKind.FRAME_END, error=upstream))
        self.sent.append(valid_events)
        return words, self._expected(inputs, error or upstream)

    def _levels(self) -> tuple[int, ...]:
        link, rng = self.tile.input, self.rng
        assert link.max_level is not None
        while True:
            levels = tuple(rng.randint(0, link.max_level) for _ in range(link.steps))
            if any(levels):
                return levels

    def _malformed(self) -> Event | None:
        """An event outside the layer, if its fields can hold one."""
        link, rng = self.tile.input, self.rng
        good = Event(
            y=rng.randrange(link.height),
            x=rng.randrange(link.width),
            channel=rng.randrange(link.channels),
            levels=self._levels(),
        )
        fields = link.fields()
        choices: list[tuple[str, Event]] = []
        for name, size in (("y", link.height), ("x", link.width), ("channel", link.channels)):
            limit = 2 ** fields[name][1]
            if limit > size:
                choices.append(("coordinates", _replace(good, name, rng.randrange(size, limit))))
        assert link.max_level is not None
        if 2**link.level_bits - 1 > link.max_level:
            levels = list(good.levels)
            levels[rng.randrange(link.steps)] = rng.randrange(link.max_level + 1, 2**link.level_bits)
            choices.append(("level", _replace(good, "levels", tuple(levels))))
        if not choices:
            return None
        kind, event = rng.choice(choices)
        self.totals[kind] += 1
        self.totals["dropped"] += 1
        return event

    def _expected(self, inputs: np.ndarray, error: bool) -> list[Event]:
        tile = self.tile
        events = []
        outputs = self.layer.outputs(inputs)
        for n in range(tile.channel_offset, tile.channel_offset + tile.channels):
            levels = tuple(int(level) for level in outputs[:, n])
            if tile.neuron.is_classifier or any(levels):
                events.append(Event(channel=n, levels=levels))
        return [*events, Event(kind=EventKind.FRAME_END, error=error)]


def _without_coordinates(word: Event) -> Event:
    """A token's other fields mean nothing."""
    return word if word.kind == EventKind.EVENT else Event(kind=word.kind, error=word.error)


def _replace(event: Event, name: str, value: Any) -> Event:
    fields = {key: getattr(event, key) for key in ("kind", "y", "x", "channel", "levels", "error")}
    return Event(**{**fields, name: value})


async def load_memories(bench: Bench, memories: dict[str, np.ndarray]) -> None:
    """Write every row through the load ports."""
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


@cocotb.test()
async def frames(dut: Any) -> None:
    """Every output word of every frame, the counters and the error bits."""
    given = bench_parameters()
    rng = random.Random(cocotb.RANDOM_SEED)
    tile = TypeAdapter(TileParameters).validate_python(given["tile"])
    arrays = np.load(Path(str(given["data"])))
    layer = ScalarLayer.from_arrays(arrays, tile.neuron)
    memories = {name: arrays[f"memory_{name}"] for name in tile.memories}

    bench = Bench(dut)
    source = bench.add(Source(dut, "i", EventCodec(tile.input), valid=pattern(str(given["idle"]), rng)))
    sink = bench.add(Sink(dut, "o", EventCodec(tile.output), ready=pattern(str(given["ready"]), rng)))
    pulses = bench.add(PulseCounter(dut, "pulses", Tile.PULSES))
    errors = bench.add(PulseCounter(dut, "errors", Tile.ERRORS))
    await bench.reset()
    await load_memories(bench, memories)

    maker = FrameMaker(tile, layer, rng)
    expected: list[list[Event]] = []
    for index in range(int(given["frames"])):
        density = 0.0 if index == 1 else 1.0 if index == 2 else float(given["density"])
        words, wanted = maker.frame(density, float(given["malformed"]) if index != 2 else 0.0)
        source.send(words)
        expected.append(wanted)
    total = sum(len(frame) for frame in expected)
    work = sum(maker.sent) * tile.groups + len(expected) * (tile.update_cycles + 8 * tile.groups + 100)
    limit = 20 * (work + total + sum(maker.sent) + 100 * len(expected)) + 2000
    await bench.run_until(lambda: len(sink.words) >= total and source.idle, limit=limit, what="the tile")
    await bench.run(50)

    found = [_without_coordinates(word) for word in sink.items]
    start = 0
    for number, frame in enumerate(expected):
        got = found[start : start + len(frame)]
        for index, (have, want) in enumerate(zip(got, frame, strict=False)):
            assert have == want, f"frame {number}, word {index}: expected {want}, found {have}"
        start += len(frame)
    assert len(found) == total, f"expected {total} words, found {len(found)}"

    counted, flagged = pulses.totals(), errors.totals()
    for name in ("events_in", "dropped"):
        assert counted[name] == maker.totals[name], (
            f"{name}: expected {maker.totals[name]}, found {counted[name]}"
        )
    for name in ("coordinates", "level", "rows", "kind"):
        assert flagged[name] == maker.totals[name], (
            f"{name}: expected {maker.totals[name]}, found {flagged[name]}"
        )
    assert counted["frames"] == len(expected)
    assert counted["integrate"] == sum(maker.sent) * tile.groups
    assert counted["update"] == len(expected) * tile.update_cycles
    assert counted["events_out"] == total - len(expected)

    if given.get("steady"):
        _check_steady_state(tile, sink, expected, maker.sent)


def _check_steady_state(
    tile: TileParameters, sink: Sink, expected: list[list[Event]], sent: list[int]
) -> None:
    """Frames end as often as the slower of integration and update allows; nothing else costs a cycle."""
    ends = []
    position = -1
    for frame in expected:
        position += len(frame)
        ends.append(sink.cycles[position])
    taken = ends[-1] - ends[3]
    integration = sum(events * tile.groups + 1 for events in sent[4:])
    update = (tile.update_cycles + 4 * tile.groups) * (len(expected) - 4)
    # The last frames' updates differ in where their last spike lies.
    slack = tile.update_cycles + 4 * tile.groups + 4
    allowed = max(integration, update) + slack
    assert taken <= allowed, f"{len(expected) - 4} frames took {taken} cycles, not at most {allowed}"
