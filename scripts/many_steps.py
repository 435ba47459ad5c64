"""Networks of 10 and of 32 steps, trained on the bundled digits, in RTL: fully connected and convolutional, with mixing
that learns and without mixing.

Every logit of 200 test images is compared with the golden model, and on the first of them every level of every layer.
Writes ``docs/results-many-steps.md``.

    python scripts/many_steps.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.files import write_file
from lmht.model import (
    ConvNetworkConfig,
    Dataset,
    NetworkConfig,
    TrainingConfig,
    evaluate,
    load_checkpoint,
    load_dataset,
    train,
)
from lmht.sim.report import VerifyReport
from lmht.sim.verify import verify

STEPS = (10, 32)
NETS = {"64-16-10": {}, "mnist-cnn": {"width": 0.25}}
NEURONS: dict[str, dict[str, Any]] = {
    "LM-HT, L = 2, Ω and λ learned": {"levels": 2},
    "LIF, λ = 0.9": {"levels": 1, "mixing": "identity", "leak": 0.9},
}
LAYER_IMAGES = 20


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    net: str
    neurons: str
    steps: int

    @property
    def name(self) -> str:
        """Of its folders."""
        words = (f"t{self.steps}", self.neurons.split(",")[0].lower(), self.net)
        return "_".join(words).replace("-", "_")

    def configure(self, dataset: Dataset) -> NetworkConfig | ConvNetworkConfig:
        """The network's configuration."""
        fields = {"input_shape": dataset.input_shape, "steps": self.steps, **NEURONS[self.neurons]}
        if self.net[0].isdigit():
            return NetworkConfig.model_validate(fields | {"architecture": self.net})
        fields |= {"net": self.net, "classes": len(dataset.classes), **NETS[self.net]}
        return ConvNetworkConfig.model_validate(fields)


def cases() -> Iterator[Case]:
    """All of them."""
    for net in NETS:
        for neurons in NEURONS:
            for steps in STEPS:
                yield Case(net, neurons, steps)


def row(case: Case, report: VerifyReport, in_pytorch: float) -> str:
    """One line of the table."""
    assert report.accuracy is not None
    assert report.cycles is not None
    width = NETS[case.net].get("width")
    cells = [
        case.net + (f", width {width}" if width else ""),
        case.neurons,
        str(case.steps),
        f"{in_pytorch:.1%}",
        f"{report.accuracy:.1%}",
        f"{report.logits:,}" if report.ok else f"**DIFFERENT: {report.message}**",
        f"{report.cycles.steady_mean:,.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def page(lines: list[str], images: int, epochs: int) -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Many steps",
            "",
            f"Networks of 10 and of 32 steps (32 is the most there may be), trained for {epochs} epochs on the bundled",
            f"digits, compiled with 2 lanes, and simulated on {images} test images. Every logit is compared with",
            "the golden model, and so are counters, memory words and, on the first",
            f"{LAYER_IMAGES} images, the levels of every layer. Written by `python scripts/many_steps.py`.",
            "",
            f"| network | neurons | T | PyTorch, {images} images | RTL | logits equal | cycles an image |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *lines,
            "",
        ]
    )


def main() -> None:
    """Read the command line and run every case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/many-steps"))
    parser.add_argument("--builds", type=Path, default=Path("build/many-steps"))
    parser.add_argument("--page", type=Path, default=Path("docs/results-many-steps.md"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()

    dataset = load_dataset("digits")
    images, labels = dataset.test_images[: options.images], dataset.test_labels[: options.images]
    recipe = TrainingConfig(epochs=options.epochs, batch_size=64, learning_rate=4e-3, validation_fraction=0)
    lines, failed = [], []
    for case in cases():
        train(case.configure(dataset), recipe, dataset, options.runs / case.name, progress=False)
        network, _ = load_checkpoint(options.runs / case.name)
        with torch.no_grad():
            in_pytorch = evaluate(network, images, labels)
        compile_network(
            network, options.builds / case.name, CompileOptions(name=case.name, lanes=2, mix_multipliers=1)
        )
        report = verify(
            Build.open(options.builds / case.name),
            images.numpy(),
            labels.numpy(),
            layer_images=LAYER_IMAGES,
            optimize=False,
        )
        lines.append(row(case, report, in_pytorch))
        print(lines[-1], flush=True)
        if not report.ok:
            failed.append(case.name)
    write_file(options.page, page(lines, options.images, options.epochs).encode())
    if failed:
        sys.exit(f"error: design and golden model differ: {', '.join(failed)}")


if __name__ == "__main__":
    main()
