"""Equality over many configurations: each trained briefly on MNIST, compiled and simulated.

Writes ``docs/results-configurations.md``. The accuracies are those of a few epochs and say nothing about what a
network can reach: what is shown is that every logit equals the golden model's.

    python scripts/configurations.py --data-dir DIR
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.model import (
    LMHT,
    Dataset,
    Network,
    NetworkConfig,
    TrainingConfig,
    load_checkpoint,
    load_dataset,
    train,
)
from lmht.sim.report import VerifyReport
from lmht.sim.verify import verify


@dataclass(frozen=True)
class Configuration:
    """One row: a network, how it is compiled, and whether its mixing is pushed away from uniform after training."""

    title: str
    network: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    spread_mixing: bool = False

    @property
    def run_name(self) -> str:
        """Configurations with the same network share a run."""
        parts = [f"{key}-{value}" for key, value in sorted(self.network.items())]
        return "_".join(parts) or "default"


CONFIGURATIONS = (
    Configuration("L = 1, T = 4 (IF)", {"levels": 1, "steps": 4, "mixing": "identity", "leak": 1.0}),
    Configuration("L = 4, T = 1", {"levels": 4, "steps": 1}),
    Configuration("L = 3, T = 3", {"levels": 3, "steps": 3}),
    Configuration("L = 1, T = 8", {"levels": 1, "steps": 8}),
    Configuration("L = 15, T = 2", {"levels": 15}),
    Configuration("LIF, leak 0.75", {"levels": 1, "steps": 4, "mixing": "identity", "leak": 0.75}),
    Configuration("LM-HT, leak above 1", {"leak": 1.25}),
    Configuration("v[-1] = θ/2", {"initial_membrane": 0.5}),
    Configuration("mixing far from uniform", {"steps": 4}, spread_mixing=True),
    Configuration("2-bit weights", {"weight_bits": 2}),
    Configuration("8-bit weights", {"weight_bits": 8}),
    Configuration("1 lane", {}, {"lanes": (1, 1)}),
    Configuration("7 lanes", {}, {"lanes": (7, 7)}),
    Configuration("128 lanes", {}, {"lanes": (128, 10)}),
    Configuration("784-256-256-10", {"architecture": "784-256-256-10"}),
    Configuration("a layer over 3 tiles", {}, {"split": {0: 3}}),
    Configuration("1 pixel a beat", {}, {"bytes_per_beat": 1}),
    Configuration("16 pixels a beat", {}, {"bytes_per_beat": 16}),
)


def trained(configuration: Configuration, data: Dataset, runs: Path, epochs: int) -> Network:
    """The configuration's network, trained or taken from an earlier run."""
    config = NetworkConfig.model_validate(
        {"architecture": "784-128-10", "input_shape": data.input_shape, **configuration.network}
    )
    recipe = TrainingConfig(epochs=epochs, learning_rate=4e-3, weight_decay=1e-2, validation_fraction=0)
    train(config, recipe, data, runs / configuration.run_name)
    network, _ = load_checkpoint(runs / configuration.run_name)
    if configuration.spread_mixing:
        generator = torch.Generator().manual_seed(1)
        for layer in network.layers:
            if isinstance(layer.neuron, LMHT):
                with torch.no_grad():
                    layer.neuron.omega_logits.normal_(std=3, generator=generator)
    return network


def describe_mixing(network: Network) -> str:
    """Smallest and largest entry of Ω times T: 1 everywhere is uniform."""
    entries = [
        layer.neuron.mixing_matrix().detach() * layer.neuron.steps
        for layer in network.layers
        if isinstance(layer.neuron, LMHT)
    ]
    return f"{min(float(e.min()) for e in entries):.2f} to {max(float(e.max()) for e in entries):.2f}"


def row(configuration: Configuration, network: Network, build: Build, reports: list[VerifyReport]) -> str:
    """One line of the table."""
    config = network.config
    harness = reports[0]
    assert harness.cycles is not None
    assert harness.accuracy is not None
    tiles = " / ".join(f"{len(layer)} x {layer[0].lanes}" for layer in build.parameters.layers)
    leaks = [
        float(layer.neuron.leak().detach()) for layer in network.layers if isinstance(layer.neuron, LMHT)
    ]
    equal = " + ".join(
        f"{report.logits:,}" if report.ok else f"**DIFFERENT: {report.differences[0].message}**"
        for report in reports
    )
    cells = [
        configuration.title,
        config.architecture,
        f"{config.levels}, {config.steps}, {config.weight_bits}",
        describe_mixing(network),
        ", ".join(f"{leak:.2f}" for leak in leaks),
        tiles,
        equal,
        f"{harness.accuracy:.1%}",
        f"{harness.cycles.steady_mean:,.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def page(lines: list[str], images: int, cocotb_images: int, epochs: int) -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Equality over configurations",
            "",
            f"Each network was trained for {epochs} epochs on MNIST, compiled, and simulated on {images} test images",
            f"through the C++ harness and {cocotb_images} through cocotb with random pauses (0.3) at both ends. The",
            "accuracies are those of such short training and say nothing about what a network can reach. Written by",
            "`python scripts/configurations.py --data-dir DIR`.",
            "",
            "Logits: how many were compared and equal to the golden model's, harness + cocotb. The same runs compare",
            "every class, error flag, counter and memory word.",
            "",
            "| configuration | network | L, T, WB | T Ω | λ | tiles x lanes | logits equal | accuracy | cycles |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *lines,
            "",
        ]
    )


def main() -> None:
    """Read the command line and run every configuration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the MNIST files")
    parser.add_argument("--runs", type=Path, default=Path("runs/configurations"))
    parser.add_argument("--builds", type=Path, default=Path("build/configurations"))
    parser.add_argument("--page", type=Path, default=Path("docs/results-configurations.md"))
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--cocotb-images", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--only", help="run only the configurations whose title holds this text, and print")
    options = parser.parse_args()

    data = load_dataset("mnist", options.data_dir)
    images, labels = data.test_images.numpy(), data.test_labels.numpy()
    lines, failed = [], []
    for number, configuration in enumerate(CONFIGURATIONS):
        if options.only and options.only not in configuration.title:
            continue
        network = trained(configuration, data, options.runs, options.epochs)
        folder = options.builds / f"c{number:02}"
        compile_network(network, folder, CompileOptions(name=f"c{number:02}", **configuration.options))
        build = Build.open(folder)
        reports = [verify(build, images[: options.images], labels[: options.images])]
        if options.cocotb_images:
            some = slice(0, options.cocotb_images)
            reports.append(
                verify(
                    build,
                    images[some],
                    labels[some],
                    engine="cocotb",
                    idle=0.3,
                    back_pressure=0.3,
                    seed=number,
                )
            )
        lines.append(row(configuration, network, build, reports))
        print(lines[-1], flush=True)
        if not all(report.ok for report in reports):
            failed.append(configuration.title)
    if not options.only:
        options.page.write_text(
            page(lines, options.images, options.cocotb_images, options.epochs), encoding="utf-8"
        )
    if failed:
        sys.exit(f"error: design and golden model differ: {', '.join(failed)}")


if __name__ == "__main__":
    main()
