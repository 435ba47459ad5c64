"""A trained network in RTL: compared with the golden model on test images, with its cycles and memory reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lmht.gen.build import Build
from lmht.gen.cli_options import measure_densities
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.spike_interface import draw_frames
from lmht.model import Dataset, load_checkpoint
from lmht.sim.compare import compare_registers, compare_results
from lmht.sim.expectations import expect
from lmht.sim.harness import Harness
from lmht.sim.report import summarize_cycles

__all__ = ["measure"]

IMAGES = 500
DENSITY_IMAGES = 100
# Cycles below which a design is sooner simulated than optimized.
SHORT = 2_000_000


def measure(run: Path, builds: Path, dataset: Dataset, lanes: int) -> dict[str, Any]:
    """Figures of a run's hardware; what is built is removed again.

    Logits, classes, flags, errors and counters are compared, as by `lmht verify` but for its look into the layers. A
    cycle of integration reads a word of weights, one weight for every lane of the tile.
    """
    network, record = load_checkpoint(run)
    coding = record.network.coding
    options = CompileOptions(name=run.name.replace("-", "_"), lanes=lanes)
    folder = builds / run.name
    typical = draw_frames(dataset.train_images[:DENSITY_IMAGES], coding)
    compile_network(run, folder, measure_densities(network, typical, options))
    build = Build.open(folder)
    design = build.parameters
    images, labels = (
        draw_frames(dataset.test_images[:IMAGES], coding).numpy(),
        dataset.test_labels[:IMAGES].numpy(),
    )
    expected = expect(build.network, design, images)
    cycles = build.manifest.expected_cycles_per_image * IMAGES
    done = Harness.for_build(build, optimize=cycles > SHORT).run(images)
    differences = [*compare_results(expected, done), *compare_registers(design, expected, done)]
    words = {tile.name: done.registers[f"{tile.name}_integrate"] / IMAGES for tile in design.tiles}
    steady = summarize_cycles(done)
    assert steady is not None
    figures = {
        "weights_sha256": record.weights_sha256,
        "design_hash": build.manifest.design_hash,
        "equal": not differences,
        "difference": differences[0].message if differences else None,
        "images": done.images,
        "logits": expected.logits.size,
        "accuracy": float((done.classes == labels[: done.images]).mean()),
        "cycles_per_image": round(steady.steady_mean, 1),
        "weight_words_read": round(sum(words.values()), 1),
        "weight_bits_read": round(
            sum(words[tile.name] * tile.memories["weights"].width for tile in design.tiles)
        ),
        "neuron_updates": round(
            sum(done.registers[f"{tile.name}_update"] for tile in design.tiles) / IMAGES, 1
        ),
        "lanes": sum(tile.lanes for tile in design.tiles),
        "memory_bits": sum(layer.memory_bits for layer in build.manifest.layers),
    }
    shutil.rmtree(folder)
    return figures
