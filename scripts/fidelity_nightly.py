"""PyTorch against the integers over random networks: every level and logit within the bound of NUMERICS.md.

Each network comes from its seed alone: convolutional and fully connected ones in turn, of all codings and read-outs
that hardware has. Writes ``docs/results-fidelity.md``.

    python scripts/fidelity_nightly.py --networks 2000
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import get_args

import torch

from lmht.gen.compile import fold_network
from lmht.gen.files import write_file
from lmht.gen.quantize import quantize
from lmht.gen.spike_interface import draw_frames, take_drawn_spikes
from lmht.model.spike_fields import Coding, Readout
from lmht.sim.golden import GoldenModel
from lmht.sim.random_pytorch import random_convolutional, random_fully_connected
from lmht.sim.rounding_bound import BoundReport, check_bounds

CODINGS: tuple[Coding, ...] = tuple(coding for coding in get_args(Coding) if coding != "frames")
READOUTS: tuple[Readout, ...] = ("mean", "spike-count")
KINDS = tuple(product(("convolutional", "fully connected"), CODINGS, READOUTS))


@dataclass(frozen=True)
class Outcome:
    """What became of the network of one seed."""

    seed: int
    kind: tuple[str, str, str]
    report: BoundReport
    same: int
    images: int
    changed: int


def run_seed(seed: int) -> Outcome:
    """Make, round and compare one network."""
    torch.set_num_threads(1)
    kind = KINDS[seed % len(KINDS)]
    shape, coding, readout = kind
    make = random_convolutional if shape == "convolutional" else random_fully_connected
    network, images = make(seed, coding=coding, readout=readout)
    folded = fold_network(network)
    integers = quantize(folded, name="random")
    plain, frames = take_drawn_spikes(network), draw_frames(images, coding)
    report = check_bounds(plain, folded, integers, frames)
    with torch.no_grad():
        classes = plain(frames).argmax(dim=1)
    same = int((GoldenModel(integers).run(frames).predictions == classes).sum())
    return Outcome(seed, kind, report, same, len(frames), len(folded.changes))


def page(outcomes: Sequence[Outcome]) -> str:
    """The page with all figures."""
    failed = [outcome for outcome in outcomes if outcome.report.outside]
    levels = sum(outcome.report.levels for outcome in outcomes)
    moved = sum(outcome.report.moved for outcome in outcomes)
    bounds = sorted(outcome.report.largest for outcome in outcomes)
    images = sum(outcome.images for outcome in outcomes)
    kinds = Counter(outcome.kind for outcome in outcomes)
    rows = [
        (f"networks (seeds {outcomes[0].seed} to {outcomes[-1].seed})", f"{len(outcomes):,}"),
        ("of them with a number outside the bound", f"{len(failed):,}"),
        ("of them with clamped channels", f"{sum(outcome.changed > 0 for outcome in outcomes):,}"),
        ("levels compared", f"{levels:,}"),
        ("of them moved, the membrane within the bound of a threshold", f"{moved:,} ({moved / levels:.3%})"),
        ("logits compared", f"{sum(outcome.report.logits for outcome in outcomes):,}"),
        (
            "largest bound of a membrane in a network, median, in thresholds",
            f"{bounds[len(bounds) // 2]:.3f}",
        ),
        (
            "images with the same class",
            f"{sum(outcome.same for outcome in outcomes) / images:.2%} of {images:,}",
        ),
        *((f"networks: {', '.join(kind)}", f"{count:,}") for kind, count in sorted(kinds.items())),
    ]
    lines = [
        "# PyTorch against the integers over random networks",
        "",
        "Every layer of the integers runs on the levels that PyTorch sends to it. Each level that comes out must be",
        "one that the bound of [NUMERICS.md](NUMERICS.md#how-much-the-integers-change) allows, and each logit within",
        "its own. The networks are random and untrained, with default bits: their logits are close together, so that",
        "classes differ more often than those of trained networks. Written by `python scripts/fidelity_nightly.py`.",
        "",
        "| what | figure |",
        "| --- | --- |",
        *(f"| {what} | {figure} |" for what, figure in rows),
        "",
    ]
    lines += [f"* outside: seed {o.seed}, {', '.join(o.kind)}, {o.report.outside} numbers" for o in failed]
    return "\n".join(lines)


def main() -> None:
    """Read the command line and run every seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", type=int, default=2000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.networks)
    with ProcessPoolExecutor(options.processes) as pool:
        outcomes = list(pool.map(run_seed, seeds, chunksize=8))
    write_file(options.docs / "results-fidelity.md", page(outcomes).encode())
    failed = [outcome.seed for outcome in outcomes if outcome.report.outside]
    if failed:
        sys.exit(f"error: numbers lie outside their bounds for the seeds {', '.join(map(str, failed))}")


if __name__ == "__main__":
    main()
