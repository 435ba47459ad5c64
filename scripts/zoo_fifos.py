"""FIFOs of every network of the zoo under the worst load: no zero in a frame, all neurons spike, stalls at random.

A network is built narrow and with fresh weights, its biases are raised until every neuron of every hidden layer
spikes whatever it receives, and its hardware is fed with images without a black pixel under every pattern of pauses of
:data:`lmht.sim.random_cases.STRESS`. Every logit and every level is compared; a design that locks fails. Writes
``docs/results-zoo-fifos.md`` and ``docs/results-zoo-fifos.json``.

Figures of networks that are not measured again are kept.

    python scripts/zoo_fifos.py
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network, to_integers
from lmht.gen.files import write_file
from lmht.gen.integer import PIXEL_MAX
from lmht.model.conv_config import NET_NAMES, ConvNetworkConfig
from lmht.model.zoo import build_network
from lmht.sim.random_cases import STRESS, spike_everywhere
from lmht.sim.taps import design_fifos
from lmht.sim.verify import verify

IMAGES = 3
CHANNELS = {"vgg": 1 / 16, "resnet18": 1 / 16, "resnet19": 1 / 32, "resnet34": 1 / 16}
"""Width of a network by the beginning of its name; the others have few channels already."""
OTHERS = 0.25
MNIST_NETS = ("mnist-cnn", "lenet")


@dataclass(frozen=True)
class Outcome:
    """What one network did.

    Attributes
    ----------
    net : str
    width : float
    layers, branches : int
        Layers of the hardware, and those of them where two branches meet.
    fifos : dict of (int, int)
        By name, the words that a FIFO holds, and the most that were in it.
    logits, levels : int
        Compared over all runs.
    differences : list of str
        Empty if all were equal.
    seconds : float
    """

    net: str
    width: float
    layers: int
    branches: int
    fifos: dict[str, tuple[int, int]]
    logits: int
    levels: int
    differences: list[str]
    seconds: float


def width_of(net: str) -> float:
    """Width multiplier with which a network has a handful of channels."""
    return next((width for name, width in CHANNELS.items() if net.startswith(name)), OTHERS)


def load(net: str) -> Outcome:
    """Compile one network and run it under every pattern of pauses."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = time.perf_counter()
    shape = (1, 28, 28) if net in MNIST_NETS else (3, 32, 32)
    width = width_of(net)
    network = build_network(ConvNetworkConfig(net=net, width=width, input_shape=shape, classes=10)).eval()
    options = CompileOptions(name="dut", lanes=2)
    integers = spike_everywhere(to_integers(network, options, name="dut"))
    images = np.random.default_rng(0).integers(1, PIXEL_MAX, (IMAGES, *shape), dtype=np.uint8, endpoint=True)
    logits = levels = 0
    held: dict[str, int] = {}
    differences = []
    with tempfile.TemporaryDirectory(prefix="lmht-zoo-") as folder:
        build_folder = Path(folder) / "build"
        compile_network(integers, build_folder, options)
        build = Build.open(build_folder)
        for seed, (idle, back_pressure) in enumerate(STRESS):
            report = verify(
                build,
                images,
                idle=idle,
                back_pressure=back_pressure,
                seed=seed,
                layer_images=IMAGES,
                optimize=False,
            )
            logits += report.logits
            levels += report.levels
            if not report.ok:
                differences.append(report.message)
            for name, words in report.fifo_words.items():
                held[name] = max(held.get(name, 0), words)
        depths = {fifo.name: fifo.depth for fifo in design_fifos(build.parameters)}
    return Outcome(
        net=net,
        width=width,
        layers=len(integers.layers),
        branches=sum(len(layer.projections) > 1 for layer in integers.layers),
        fifos={name: (depth, held.get(name, 0)) for name, depth in depths.items()},
        logits=logits,
        levels=levels,
        differences=differences,
        seconds=round(time.perf_counter() - start, 1),
    )


def page(outcomes: Iterable[Outcome]) -> str:
    """The table."""
    pauses = ", ".join(f"{idle:g}/{back_pressure:g}" for idle, back_pressure in STRESS)
    lines = [
        "# FIFOs of the zoo under the worst load",
        "",
        "Written by `python scripts/zoo_fifos.py`. Every network of the zoo, narrow, with biases so large that all",
        f"neurons spike in every frame, on {IMAGES} images without a black pixel, one directly behind the other, under",
        f"{len(STRESS)} patterns of random pauses of input and output (probabilities {pauses}).",
        "A FIFO that were too shallow would lock the design; none may hold more than computed.",
        "",
        "| network | width | layers | branches meet | FIFOs | fullest, its most words | logits | levels | result |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in outcomes:
        fullest = max(one.fifos.items(), key=lambda item: item[1][1] / item[1][0], default=None)
        shown = "-" if fullest is None else f"{fullest[0]}: {fullest[1][1]:,} of {fullest[1][0]:,}"
        lines.append(
            f"| {one.net} | {one.width:g} | {one.layers} | {one.branches} | {len(one.fifos)} | {shown} | "
            f"{one.logits:,} | {one.levels:,} | {'equal' if not one.differences else one.differences[0]} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the command line and load every network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"of {', '.join(NET_NAMES)}; all by default")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    unknown = [net for net in options.nets if net not in NET_NAMES]
    if unknown:
        sys.exit(f"error: net must be one of {', '.join(NET_NAMES)}, not {unknown[0]}")

    path = options.docs / "results-zoo-fifos.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    outcomes = {net: Outcome(**record) for net, record in before.items()}
    with ProcessPoolExecutor(options.processes) as pool:
        for outcome in pool.map(load, options.nets or NET_NAMES):
            outcomes[outcome.net] = outcome
            text = "equal" if not outcome.differences else outcome.differences[0]
            print(f"{time.strftime('%H:%M:%S')} {outcome.net}: {text} ({outcome.seconds} s)", flush=True)
            kept = {net: outcomes[net] for net in NET_NAMES if net in outcomes}
            record = json.dumps({net: asdict(one) for net, one in kept.items()}, indent=1) + "\n"
            write_file(path, record.encode())
            write_file(options.docs / "results-zoo-fifos.md", page(kept.values()).encode())
    overfull = [
        f"{outcome.net} {name}"
        for outcome in outcomes.values()
        for name, (depth, held) in outcome.fifos.items()
        if held > depth
    ]
    if overfull or any(outcome.differences for outcome in outcomes.values()):
        sys.exit(f"error: {', '.join(overfull) or 'design and golden model differ'}")


if __name__ == "__main__":
    main()
