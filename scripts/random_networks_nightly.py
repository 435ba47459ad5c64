"""Equality over random convolutional networks: hundreds of networks on random hardware, every logit and level compared.

Each network comes from its seed alone. Writes ``docs/results-random-networks.md`` and ``.json``; a run that was
interrupted goes on where it stopped, unless the code has changed.

    python scripts/random_networks_nightly.py --networks 200
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lmht import gen, rtl, sim
from lmht.gen.files import write_file
from lmht.sim.random_cases import STRESS, RandomCase, random_case, verify_case


@dataclass(frozen=True)
class Outcome:
    """What became of the network of one seed; counts over all its runs."""

    seed: int
    text: str
    features: list[str]
    images: int
    logits: int
    levels: int
    difference: str | None
    seconds: float


def features(case: RandomCase) -> list[str]:
    """Kinds of layers and hardware that a case holds."""
    layers = case.network.layers
    inputs = [projection for layer in layers for projection in layer.projections]
    poolings = [projection.pooling for projection in inputs if projection.pooling is not None]
    holds = {
        "kernels of 3 and more": any(max(p.kernel) >= 3 for p in inputs[:-1]),
        "strides": any(p.stride != (1, 1) for p in inputs),
        "groups": any(p.groups > 1 for layer in layers for p in layer.projections[:1]),
        "average pooling": any(pooling.kind == "sum" for pooling in poolings),
        "max pooling": any(pooling.kind == "max" for pooling in poolings),
        "residual branches": case.residual,
        "all neurons spike": case.full,
        "residual branches, all neurons spike": case.full and case.residual,
        "leaks": any(layer.leak is not None for layer in layers),
        "diagonal mixing": any(layer.diagonal for layer in layers),
        "more than 8 steps": any(layer.steps > 8 for layer in layers),
        "layers on several tiles": bool(case.options.split),
        "all taps at once": bool(case.options.tap_unroll),
        "quiet pixels updated": not case.options.skip_quiet,
    }
    return [name for name, there in holds.items() if there]


def run_seed(seed: int) -> Outcome:
    """Compile, simulate and compare one network."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    images = logits = levels = 0
    difference = None
    case = random_case(seed)
    try:
        with tempfile.TemporaryDirectory(prefix="lmht-random-") as folder:
            for report in verify_case(case, Path(folder) / "build"):
                images += report.images
                logits += report.logits
                levels += report.levels
                if not report.ok:
                    difference = report.message
                    break
    except Exception as error:  # a network that cannot be built is a result, too
        difference = f"{type(error).__name__}: {error}"
    seconds = round(time.perf_counter() - start, 1)
    return Outcome(seed, case.describe(), features(case), images, logits, levels, difference, seconds)


def page(outcomes: list[Outcome]) -> str:
    """The page with all figures."""
    failed = [outcome for outcome in outcomes if outcome.difference is not None]
    kinds = Counter(name for outcome in outcomes for name in outcome.features)
    pauses = ", ".join(f"{idle:g}/{back_pressure:g}" for idle, back_pressure in STRESS)
    seeds = f"{min(o.seed for o in outcomes)} to {max(o.seed for o in outcomes)}"
    lines = [
        "# Equality over random convolutional networks",
        "",
        "Networks, weights, hardware (lanes, tiles, multipliers, taps at once, bytes of a beat) and images come",
        "from the seed. The images of each: black ones, ones without a zero, single pixels in every corner, sparse",
        f"and dense ones. Each network runs through the C++ harness with the probabilities {pauses} that",
        "input/output pause in a cycle; compared are all logits, all levels of all layers, classes, flags, counters",
        "and memory words. Written by `python scripts/random_networks_nightly.py`.",
        "",
        "| what | figure |",
        "| --- | --- |",
        f"| networks (seeds {seeds}) | {len(outcomes):,} |",
        f"| of them different from the golden model | {len(failed):,} |",
        f"| images | {sum(outcome.images for outcome in outcomes):,} |",
        f"| logits compared | {sum(outcome.logits for outcome in outcomes):,} |",
        f"| levels compared | {sum(outcome.levels for outcome in outcomes):,} |",
        *(f"| networks with: {name} | {count:,} |" for name, count in kinds.most_common()),
        "",
    ]
    if failed:
        lines += ["## Different", "", *(f"* {one.text}: {one.difference}" for one in failed), ""]
    return "\n".join(lines)


def write_results(docs: Path, outcomes: Iterable[Outcome]) -> None:
    """Both files, each replaced at once."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.seed)
    records: dict[str, Any] = {"code": code_digest(), "networks": [asdict(outcome) for outcome in ordered]}
    write_file(docs / "results-random-networks.json", (json.dumps(records, indent=1) + "\n").encode())
    write_file(docs / "results-random-networks.md", page(ordered).encode())


@cache
def code_digest() -> str:
    """SHA-256 over the sources that decide a result, hexadecimal."""
    digest = hashlib.sha256()
    for package in (gen, rtl, sim):
        for folder in package.__path__:
            for path in sorted(Path(folder).rglob("*")):
                if path.suffix in (".py", ".v", ".jinja", ".cpp", ".h"):
                    digest.update(path.read_bytes())
    return digest.hexdigest()


def earlier_results(path: Path) -> dict[int, Outcome]:
    """Outcomes of a run of the same code, by seed; those that failed run again."""
    if not path.exists():
        return {}
    records = json.loads(path.read_text(encoding="utf-8"))
    if records["code"] != code_digest():
        return {}
    outcomes = (Outcome(**record) for record in records["networks"])
    return {outcome.seed: outcome for outcome in outcomes if outcome.difference is None}


def main() -> None:
    """Read the command line and run every seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--again", action="store_true", help="do not use the results of an earlier run")
    options = parser.parse_args()

    done = {} if options.again else earlier_results(options.docs / "results-random-networks.json")
    seeds = range(options.first_seed, options.first_seed + options.networks)
    outcomes = {seed: done[seed] for seed in seeds if seed in done}
    with ProcessPoolExecutor(options.processes) as pool:
        running = [pool.submit(run_seed, seed) for seed in seeds if seed not in outcomes]
        for future in as_completed(running):
            outcome = future.result()
            outcomes[outcome.seed] = outcome
            verdict = "equal" if outcome.difference is None else f"DIFFERENT: {outcome.difference}"
            print(f"{len(outcomes)}/{len(seeds)} {outcome.text}: {verdict} ({outcome.seconds} s)", flush=True)
            write_results(options.docs, outcomes.values())
    write_results(options.docs, outcomes.values())
    failed = sorted(seed for seed, outcome in outcomes.items() if outcome.difference is not None)
    if failed:
        sys.exit(f"error: design and golden model differ for the seeds {', '.join(map(str, failed))}")


if __name__ == "__main__":
    main()
