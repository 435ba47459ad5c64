"""Trained networks against their integers: accuracies, and on how many test images the classes agree.

The images are 2,000 random test images. Beside PyTorch in float32 stands the network without any rounding in float64,
which tells how many classes the noise of float32 decides. Prints a row of ``docs/results-fidelity-trained.md`` for
each run.

    python scripts/trained_fidelity.py runs/resnet20 --data-dir DIR
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from lmht.gen.choose_widths import choose_widths
from lmht.gen.compile import CompileOptions, fold_network, to_integers
from lmht.gen.spike_interface import check_spike_interface
from lmht.model import load_checkpoint, load_dataset
from lmht.model.evaluation import classify
from lmht.sim.exact_network import exact_logits
from lmht.sim.golden import GoldenModel


def measure(folder: Path, data_dir: Path | None, count: int, options: CompileOptions) -> str:
    """The row of a run."""
    network, run = load_checkpoint(folder)
    check_spike_interface(network)
    data = load_dataset(run.dataset, data_dir, coding=run.network.coding)
    chosen = torch.randperm(len(data.test_images), generator=torch.Generator().manual_seed(11))[:count]
    images, labels = data.test_images[chosen], data.test_labels[chosen]
    folded = fold_network(network)
    integers = to_integers(network, options, name="network", folded=folded)
    found = {
        "PyTorch": classify(network, images).argmax(dim=1),
        "exact": exact_logits(folded, images).argmax(dim=1),
        "integers": GoldenModel(integers).run(images).predictions,
    }
    layers = zip(integers.layers, choose_widths(integers), strict=True)
    bits = sum(layer.neurons * layer.input_steps * width.accumulator_bits for layer, width in layers)
    accuracy = {name: f"{(classes == labels).double().mean():.2%}" for name, classes in found.items()}
    agreement = {
        name: f"{(classes == found['PyTorch']).double().mean():.2%}" for name, classes in found.items()
    }
    return (
        f"| {folder.name} | {accuracy['PyTorch']} | {accuracy['integers']} | {agreement['integers']} | "
        f"{agreement['exact']} | {bits:,} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    for name in ("fraction", "multiplier", "leak", "gain"):
        parser.add_argument(f"--{name}-bits", type=int)
    given = parser.parse_args(arguments)
    bits = {name: value for name, value in vars(given).items() if name.endswith("_bits")}
    for run in given.runs:
        print(measure(run, given.data_dir, given.images, CompileOptions(**bits)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
