"""Bench of :class:`~lmht.rtl.neuron_array.NeuronArray`: accumulators in, levels out, against the scalar reference.

Parameters (JSON): ``tile`` (fields of TileParameters), ``data`` (npz: the layer's arrays, the packed memories and
``sums`` of shape (frames, T_in, N)), ``idle``, ``ready`` (pattern names), ``result`` (npz to write: ``levels`` of
shape (frames, T, N)).
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from pydantic import TypeAdapter

from lmht.rtl.parameters import TileParameters
from lmht.rtl.spike_encoder import spike_vector_layout
from lmht.rtl.update_sequencer import update_row_layout
from lmht.sim.benches.scalar_reference import ScalarLayer
from lmht.sim.benches.tile import load_memories
from lmht.sim.codecs import StructCodec, layout_fields
from lmht.sim.patterns import pattern
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, Sink, Source


def _rows(tile: TileParameters, sums: np.ndarray, error: bool) -> list[dict[str, int]]:
    """Update rows of one frame; lanes beyond the channels carry zeros."""
    rows = []
    for row in range(tile.update_rows):
        values = {"last": int(row == tile.update_rows - 1), "error": int(error)}
        for lane in range(tile.update_lanes):
            neuron = row * tile.update_lanes + lane
            for step in range(tile.neuron.input_steps):
                value = int(sums[step, neuron]) if neuron < tile.channels else 0
                values[f"accumulators__{lane}__{step}"] = value
        rows.append(values)
    return rows


@cocotb.test()
async def levels(dut: Any) -> None:
    """Every level of every frame; silent vectors are left out, the last one never."""
    given = bench_parameters()
    rng = random.Random(cocotb.RANDOM_SEED)
    tile = TypeAdapter(TileParameters).validate_python(given["tile"])
    arrays = np.load(Path(str(given["data"])))
    layer = ScalarLayer.from_arrays(arrays, tile.neuron)
    frames = arrays["sums"]

    bench = Bench(dut)
    source = bench.add(
        Source(dut, "i", StructCodec(update_row_layout(tile)), valid=pattern(str(given["idle"]), rng))
    )
    sink = bench.add(
        Sink(dut, "o", StructCodec(spike_vector_layout(tile)), ready=pattern(str(given["ready"]), rng))
    )
    await bench.reset()
    await load_memories(
        bench, {name: arrays[f"memory_{name}"] for name in tile.memories if name != "weights"}
    )

    flags = [rng.random() < 0.3 for _ in frames]
    for sums, flag in zip(frames, flags, strict=True):
        source.send(_rows(tile, sums, flag))
    seen_last = 0
    watched = 0
    last_bit = layout_fields(spike_vector_layout(tile))["last"][0]

    def ended() -> bool:
        nonlocal seen_last, watched
        while watched < len(sink.words):
            seen_last += (sink.words[watched] >> last_bit) & 1
            watched += 1
        return seen_last == len(frames)

    work = len(frames) * (tile.update_cycles + 200)
    await bench.run_until(ended, limit=20 * work + 1000, what="the neuron array")
    await bench.run(20)

    found = np.zeros((len(frames), tile.neuron.steps, tile.channels), dtype=np.int64)
    frame, previous = 0, -1
    for vector in sink.items:
        row = vector["row"]
        assert row > previous, f"frame {frame}: row {row} after row {previous}"
        spoke = False
        for lane in range(tile.update_lanes):
            neuron = row * tile.update_lanes + lane
            for step in range(tile.neuron.steps):
                value = vector[f"levels__{lane}__{step}"]
                spoke |= value != 0
                if neuron < tile.channels:
                    found[frame, step, neuron] = value
        assert spoke or vector["last"] or tile.neuron.is_classifier or tile.update_lanes > 1, (
            f"row {row} is silent"
        )
        previous = row
        if vector["last"]:
            assert vector["error"] == flags[frame], f"frame {frame}: error {vector['error']}"
            frame, previous = frame + 1, -1
    assert frame == len(frames)

    offset = tile.channel_offset
    for number, sums in enumerate(frames):
        expected = layer.update(sums)[:, offset : offset + tile.channels]
        for step, neuron in zip(*np.nonzero(found[number] != expected), strict=True):
            raise AssertionError(
                f"frame {number}, neuron {neuron}, step {step}: "
                f"expected level {expected[step, neuron]}, found {found[number, step, neuron]}"
            )
    if "result" in given:
        np.savez(str(given["result"]), levels=found)
