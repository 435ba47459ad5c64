"""Bench of :class:`~lmht.rtl.neuron_array.NeuronArray`: accumulators in, levels out, against the scalar reference.

Parameters (JSON): ``tile`` (fields of TileParameters), ``data`` (npz: the layer's arrays, the packed memories and
``sums`` of shape (pixels, T_in, N)), ``idle``, ``ready`` (pattern names), ``empty`` (probability of a row of the map
without pixels), ``quiet`` (share of pixels without events, whose sums are 0 and whose accumulators carry anything),
``result`` (npz to write: ``levels`` of shape (pixels, T, N)).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from pydantic import TypeAdapter

from lmht.rtl.neuron_array import NeuronArray
from lmht.rtl.spike_encoder import map_vector_layout
from lmht.rtl.tile_parameters import TileParameters
from lmht.rtl.update_sequencer import update_row_layout
from lmht.sim.benches.scalar_reference import ScalarLayer
from lmht.sim.benches.support import bench_rng, load_memories
from lmht.sim.codecs import StructCodec, layout_fields
from lmht.sim.patterns import Pattern, always, pattern
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, Monitor, PulseCounter, Sink, Source


@dataclass(frozen=True)
class MapRow:
    """A row of the map: its pixels as ``(x, number of the pixel)``, and what ends with it."""

    pixels: tuple[tuple[int, int], ...]
    frame: bool
    error: bool


def _map_rows(tile: TileParameters, pixels: int, empty: float, rng: random.Random) -> list[MapRow]:
    """All pixels in order, spread over rows of the map."""
    rows = []
    number = 0
    while number < pixels:
        count = 0 if rng.random() < empty else min(rng.randint(1, tile.width), pixels - number)
        places = sorted(rng.sample(range(tile.width), count))
        row = tuple((x, number + index) for index, x in enumerate(places))
        rows.append(MapRow(row, frame=rng.random() < 0.4, error=rng.random() < 0.3))
        number += count
    return rows


def _noise(tile: TileParameters, rng: random.Random) -> dict[str, int]:
    fields = layout_fields(update_row_layout(tile))
    return {
        name: rng.randrange(1 << width - 1)
        for name, (_, width) in fields.items()
        if name.startswith("accumulators")
    }


def _words(
    tile: TileParameters, row: MapRow, sums: np.ndarray, quiet: set[int], rng: random.Random
) -> list[dict[str, int]]:
    """Update rows of a row of the map; lanes beyond the channels carry zeros, an empty row or quiet pixel anything."""
    words: list[dict[str, int]] = []
    for x, number in row.pixels:
        for update_row in range(tile.update_rows):
            if number in quiet:
                words.append({"x": x, "quiet": 1} | _noise(tile, rng))
                continue
            values = {"x": x}
            for lane in range(tile.update_lanes):
                neuron = update_row * tile.update_lanes + lane
                for step in range(tile.neuron.input_steps):
                    value = int(sums[number, step, neuron]) if neuron < tile.channels else 0
                    values[f"accumulators__{lane}__{step}"] = value
            words.append(values)
    if not words:
        words = [{"empty": 1} | _noise(tile, rng)]
    words[-1] |= {"last": 1, "frame": int(row.frame), "error": int(row.error)}
    return words


@cocotb.test()
async def levels(dut: Any) -> None:
    """Every level of every pixel; silent vectors are left out, those that end a row of the map never."""
    given = bench_parameters()
    rng = random.Random(cocotb.RANDOM_SEED)
    tile = TypeAdapter(TileParameters).validate_python(given["tile"])
    arrays = np.load(Path(str(given["data"])))
    layer = ScalarLayer.from_arrays(arrays, tile.neuron)
    sums = arrays["sums"]
    quiet = {number for number in range(len(sums)) if rng.random() < float(given["quiet"])}
    sums[sorted(quiet)] = 0

    bench, source, sink = _bench(
        dut, tile, pattern(str(given["idle"]), rng), pattern(str(given["ready"]), rng)
    )
    pulses = bench.add(PulseCounter(dut, "pulses", NeuronArray.PULSES))
    await _start(bench, tile, arrays)

    rows = _map_rows(tile, len(sums), float(given["empty"]), rng)
    for row in rows:
        source.send(_words(tile, row, sums, quiet, rng))
    last_bit = layout_fields(map_vector_layout(tile))["last"][0]

    def ended() -> bool:
        return sum(word >> last_bit & 1 for word in sink.words) == len(rows)

    work = len(sums) * tile.update_cycles + 200 * len(rows)
    await bench.run_until(ended, limit=20 * work + 1000, what="the neuron array")
    await bench.run(20)
    assert pulses.totals()["update"] == (len(sums) - len(quiet)) * tile.update_cycles

    found = _found(tile, rows, sink.items, len(sums))
    part = slice(tile.channel_offset, tile.channel_offset + tile.channels)
    for number, pixel in enumerate(sums):
        expected = layer.update(pixel)[:, part]
        for step, neuron in zip(*np.nonzero(found[number] != expected), strict=True):
            raise AssertionError(
                f"pixel {number}, neuron {neuron}, step {step}: "
                f"expected level {expected[step, neuron]}, found {found[number, step, neuron]}"
            )
    if "result" in given:
        np.savez(str(given["result"]), levels=found)


@cocotb.test()
async def throughput(dut: Any) -> None:
    """A row every `mix_phases` cycles while its vectors are taken at once, whether they speak or not."""
    given = bench_parameters()
    tile = TypeAdapter(TileParameters).validate_python(given["tile"])
    arrays = np.load(Path(str(given["data"])))
    sums = arrays["sums"]
    bench, source, sink = _bench(dut, tile, always, always)
    taken = bench.add(Monitor(dut, "i"))
    await _start(bench, tile, arrays)

    rng = bench_rng()
    for row in _map_rows(tile, len(sums), 0, rng):
        source.send(_words(tile, row, sums, set(), rng))
    rows = len(sums) * tile.update_rows
    await bench.run_until(lambda: len(taken.cycles) == rows, limit=20 * rows * tile.mix_phases, what="rows")
    spent = taken.cycles[-1] - taken.cycles[0]
    wanted = (rows - 1) * tile.mix_phases
    assert spent == wanted, f"{rows} rows were taken in {spent} cycles, not {wanted}"
    assert sink.words, "no vector has left"


def _bench(dut: Any, tile: TileParameters, offers: Pattern, accepts: Pattern) -> tuple[Bench, Source, Sink]:
    bench = Bench(dut)
    source = bench.add(Source(dut, "i", StructCodec(update_row_layout(tile)), valid=offers))
    sink = bench.add(Sink(dut, "o", StructCodec(map_vector_layout(tile)), ready=accepts))
    return bench, source, sink


async def _start(bench: Bench, tile: TileParameters, arrays: Any) -> None:
    await bench.reset()
    memories = [name for name in tile.memories if hasattr(bench.dut, f"load_{name}__enable")]
    await load_memories(bench, {name: arrays[f"memory_{name}"] for name in memories})


def _found(
    tile: TileParameters, rows: list[MapRow], vectors: list[dict[str, int]], pixels: int
) -> np.ndarray:
    """Levels of every pixel, shape (pixels, T, N), after a look at the order and the ends."""
    found = np.zeros((pixels, tile.neuron.steps, tile.channels), dtype=np.int64)
    expected = iter(rows)
    row, previous = next(expected), (-1, -1)
    for vector in vectors:
        place = (vector["x"], vector["row"])
        values = np.array(
            [
                [vector[f"levels__{lane}__{step}"] for lane in range(tile.update_lanes)]
                for step in range(tile.neuron.steps)
            ]
        )
        assert place > previous or not row.pixels, f"vector {place} after {previous}"
        assert values.any() or vector["last"] or tile.neuron.is_classifier, f"vector {place} is silent"
        previous = place
        if row.pixels:
            number = dict(row.pixels)[place[0]]
            first = place[1] * tile.update_lanes
            here = values[:, : tile.channels - first]
            found[number, :, first : first + here.shape[1]] = here
        else:
            assert not values.any(), "a row of the map without pixels has spikes"
        if vector["last"]:
            ends = (bool(vector["frame"]), bool(vector["error"]))
            assert ends == (row.frame, row.error), f"frame and error {ends} of {row}"
            row, previous = next(expected, MapRow((), False, False)), (-1, -1)
    return found
