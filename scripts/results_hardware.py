"""A trained network in RTL: compared with the golden model on test images, with its cycles and memory reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lmht.gen.build import Build
from lmht.gen.cli_options import measure_densities
from lmht.gen.compile import CompileOptions, compile_network
from lmht.model import Dataset, load_checkpoint
from lmht.sim.expectations import expect
from lmht.sim.verify import verify

__all__ = ["measure"]

IMAGES = 500
DENSITY_IMAGES = 200


def measure(run: Path, builds: Path, dataset: Dataset, lanes: int) -> dict[str, Any]:
    """Figures of a run's hardware; what is built is removed again.

    `verify` compares the design's own counters with those of the golden model, from which the reads are taken: a cycle
    of integration reads a word of weights, one for every lane.
    """
    network, record = load_checkpoint(run)
    options = CompileOptions(name=run.name.replace("-", "_"), lanes=lanes)
    folder = builds / run.name
    compile_network(run, folder, measure_densities(network, dataset.train_images[:DENSITY_IMAGES], options))
    build = Build.open(folder)
    images, labels = dataset.test_images[:IMAGES].numpy(), dataset.test_labels[:IMAGES].numpy()
    report = verify(build, images, labels, optimize=False)  # 500 images are sooner simulated than optimized
    counters = expect(build.network, build.parameters, images).counters(build.parameters)
    words = {tile.name: counters[f"{tile.name}_integrate"] / IMAGES for tile in build.parameters.tiles}
    bits = sum(words[tile.name] * tile.memories["weights"].width for tile in build.parameters.tiles)
    assert report.cycles is not None
    figures = {
        "weights_sha256": record.weights_sha256,
        "design_hash": build.manifest.design_hash,
        "equal": report.ok,
        "difference": None if report.ok else report.message,
        "images": report.images,
        "logits": report.logits,
        "accuracy": report.accuracy,
        "cycles_per_image": round(report.cycles.steady_mean, 1),
        "weight_words_read": round(sum(words.values()), 1),
        "weight_bits_read": round(bits),
        "neuron_updates": round(
            sum(counters[f"{tile.name}_update"] for tile in build.parameters.tiles) / IMAGES, 1
        ),
        "lanes": sum(tile.lanes for tile in build.parameters.tiles),
        "memory_bits": sum(layer.memory_bits for layer in build.manifest.layers),
    }
    shutil.rmtree(folder)
    return figures
