"""Accuracy, events and hardware of the networks in docs/results.md: trains them, runs them in RTL and writes the page.

Every step goes on where it was interrupted; all figures are kept in ``docs/results.json``. GROUP is mlp, cnn, hybrid,
binary or cifar10, and a name of a single training does as well.

    python scripts/results.py train GROUP... --data-dir DIR
    python scripts/results.py hardware GROUP... --data-dir DIR
    python scripts/results.py page
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import results_hardware
import results_page
from results_plan import Planned, plan
from results_records import read_records, write_record
from torch import nn

from lmht.gen.compile import CompileOptions, to_integers
from lmht.gen.event_statistics import measure_events
from lmht.model import (
    CheckpointError,
    ConvNetworkConfig,
    DataError,
    Dataset,
    NetworkConfig,
    RunConfig,
    RunError,
    TrainingConfig,
    default_fine_tuning_config,
    default_training_config,
    evaluate,
    load_checkpoint,
    load_dataset,
    train,
    train_hybrid,
)
from lmht.model.checkpoint import read_run_config
from lmht.model.source_commit import source_commit
from lmht.model.steps import with_steps
from lmht.model.zoo import build_network

MEASURED_IMAGES = 500


def say(text: str) -> None:
    """A line with the time, so that a log shows what takes long."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


@cache
def dataset_of(name: str, data_dir: Path) -> Dataset:
    """A data set, loaded once."""
    return load_dataset(name, data_dir)


def configure(planned: Planned, dataset: Dataset) -> tuple[NetworkConfig | ConvNetworkConfig, TrainingConfig]:
    """Network and recipe of a training."""
    fields = planned.network | {"input_shape": dataset.input_shape}
    net = fields.pop("net")
    network: NetworkConfig | ConvNetworkConfig
    if net[0].isdigit():
        network = NetworkConfig.model_validate(fields | {"architecture": net})
        recipe = default_training_config(planned.dataset)
    else:
        network = ConvNetworkConfig.model_validate(fields | {"net": net, "classes": len(dataset.classes)})
        recipe = default_training_config(planned.dataset, net)
    return network, TrainingConfig.model_validate(recipe.model_dump() | planned.training)


def train_one(planned: Planned, runs: Path, dataset: Dataset) -> RunConfig:
    """The finished run of a training."""
    network, recipe = configure(planned, dataset)
    folder = runs / planned.name
    if planned.fine_tuning is not None:
        tuning = default_fine_tuning_config(recipe, **planned.fine_tuning)
        return train_hybrid(network, recipe, dataset, folder, fine_tuning=tuning, progress=False)
    if planned.start is None:
        return train(network, recipe, dataset, folder, progress=False)
    first, record = load_checkpoint(runs / planned.start)
    return train(
        network,
        recipe,
        dataset,
        folder,
        progress=False,
        start=first.state_dict(),
        start_sha256=record.weights_sha256,
    )


def rounded(network: nn.Module, run: RunConfig) -> nn.Module:
    """The network itself, or with weights in floating point the one that has these rounded to 8 bits."""
    if run.network.weight_bits is not None:
        return network
    eight = build_network(run.network.model_copy(update={"weight_bits": 8}))
    eight.load_state_dict(network.state_dict())
    return eight.eval()


def describe(planned: Planned, runs: Path, dataset: Dataset) -> dict[str, Any]:
    """Record of a run: what its own says, and events on test images."""
    network, run = load_checkpoint(runs / planned.name)
    record: dict[str, Any] = {
        "group": planned.group,
        "dataset": run.dataset,
        "network": run.network.model_dump(exclude_defaults=True, mode="json"),
        "training": run.training.model_dump(exclude_defaults=True, mode="json"),
        "start": planned.start,
        "commit": run.commit,
        "commit_entered": False,
        "weights_sha256": run.weights_sha256,
        "validation_accuracy": run.best_accuracy,
        "test_accuracy": run.test_accuracy,
        "conversion": None if run.conversion is None else run.conversion.model_dump(mode="json"),
    }
    if planned.tested_steps:
        record["tested_steps"] = {
            str(steps): evaluate(with_steps(network, steps), dataset.test_images, dataset.test_labels)
            for steps in planned.tested_steps
        }
    if run.network.activation == "lmht" and run.network.coding in ("direct", "constant"):
        integers = to_integers(rounded(network, run), CompileOptions(), name=planned.name.replace("-", "_"))
        totals = measure_events(integers, dataset.test_images[:MEASURED_IMAGES]).totals()
        record["per_image"] = {name: round(value, 1) for name, value in totals.items()}
    return record


def select(names: list[str]) -> list[Planned]:
    """Trainings of the groups, or of the names."""
    chosen = [planned for planned in plan() if {planned.group, planned.name} & set(names)]
    known = {word for planned in chosen for word in (planned.group, planned.name)}
    unknown = ", ".join(name for name in names if name not in known)
    if unknown or not chosen:
        groups = ", ".join(dict.fromkeys(planned.group for planned in plan()))
        sys.exit(f"error: GROUP must be {groups} or a training, not {unknown or 'missing'}")
    return chosen


def train_all(options: argparse.Namespace) -> None:
    """Train what has no record from these very weights."""
    if source_commit() is None:
        sys.exit("error: train needs lmht in its git checkout; an installed copy cannot name its commit")
    for planned in select(options.groups):
        dataset = dataset_of(planned.dataset, options.data_dir)
        start = time.perf_counter()
        run = train_one(planned, options.runs, dataset)
        known = read_records(options.docs).get(planned.name, {})
        if known.get("weights_sha256") == run.weights_sha256:
            continue
        write_record(options.docs, planned.name, describe(planned, options.runs, dataset))
        say(f"{planned.name}: {run.test_accuracy:.2%}, {time.perf_counter() - start:.0f} s")


def run_hardware(options: argparse.Namespace) -> None:
    """Compile and simulate what has no figures of these very weights."""
    different = []
    for planned in select(options.groups):
        record = read_records(options.docs).get(planned.name)
        if record is None or record["network"].get("weight_bits", 4) is None:
            continue
        weights = read_run_config(options.runs / planned.name).weights_sha256
        if record.get("hardware", {}).get("weights_sha256") != weights:
            dataset = dataset_of(planned.dataset, options.data_dir)
            figures = results_hardware.measure(
                options.runs / planned.name, options.builds, dataset, options.lanes
            )
            record = write_record(options.docs, planned.name, {"hardware": figures})
            say(f"{planned.name}: {figures['cycles_per_image']:,} cycles, {figures['accuracy']:.2%} in RTL")
        if not record["hardware"]["equal"]:
            different.append(planned.name)
    if different:
        sys.exit(f"error: design and golden model differ: {', '.join(different)}")


def main() -> None:
    """Read the command line and do what it asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("train", "hardware", "page"))
    parser.add_argument("groups", metavar="GROUP", nargs="*")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--builds", type=Path, default=Path("build/results"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--lanes", type=int, default=16, help="lanes of the slowest layer")
    options = parser.parse_args()
    if options.what == "page":
        results_page.write(options.docs)
    elif options.data_dir is None:
        sys.exit(f"error: {options.what} needs --data-dir")
    else:
        try:
            (train_all if options.what == "train" else run_hardware)(options)
        except (CheckpointError, DataError, RunError) as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
