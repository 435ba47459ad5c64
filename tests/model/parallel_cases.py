"""Trainings that one process and two processes do alike; as a program, one of the two processes.

``python -m tests.model.parallel_cases RANK STORE OUT CASE...``: STORE is a file by which the processes find each other,
OUT a folder, a case ``what:network:fault``.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
import safetensors.torch
import torch
import torch.distributed as dist

from lmht.model import (
    ConvNetworkConfig,
    NetworkConfig,
    TrainingConfig,
    build_network,
    joined_norm,
    parallel,
    train,
    training,
)
from lmht.model.activity import ActivityMeter
from lmht.model.batches import shuffled_batches, split_dataset
from lmht.model.coding import seed_coding
from lmht.model.losses import training_loss
from lmht.model.parallel import Processes, ProcessLostError, current_processes, join_network

from .conftest import stripes

COUNT = 2
DATASET = stripes(120)
SHAPE = {"input_shape": (2, 8, 8), "steps": 2}
NETWORKS = {
    "dense": NetworkConfig(architecture="128-24-3", **SHAPE),
    "conv": ConvNetworkConfig(net="mnist-cnn", width=0.25, classes=3, **SHAPE),
    "spikes": NetworkConfig(
        architecture="128-24-3", levels=1, coding="bernoulli", readout="spike-count", **SHAPE
    ),
}
# 64 of the 80 training images take part: four updates an epoch.
RECIPE = TrainingConfig(
    epochs=2,
    batch_size=16,
    augment="shift",
    validation_fraction=0.2,
    learning_rate=1e-2,
    activity_penalty=0.1,
)
FAULTS = {
    "none": [],
    "own statistics": [(parallel, "join_norms", lambda network: None)],
    "own gradient of the statistics": [(joined_norm, "all_reduce", lambda sums: sums.mul_(COUNT))],
    "own gradient": [(Processes, "average_gradients", lambda processes, network: None)],
    "own spikes": [(parallel._JoinedCoding, "forward", parallel.BernoulliCoding.forward)],
    "first share": [(Processes, "share", lambda processes, batch: batch.chunk(COUNT)[0])],
}


def run_updates(network: str) -> dict[str, torch.Tensor]:
    """Losses, last gradients and last state of an epoch in float64, where rounding tips no neuron over."""
    processes = current_processes()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = build_network(NETWORKS[network]).double()
    join_network(made, processes)
    seed_coding(made, 1)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
    part = split_dataset(RECIPE, DATASET, torch.device("cpu"))
    losses = []
    for batch in shuffled_batches(RECIPE, part, 4, torch.Generator().manual_seed(0)):
        images, labels = (processes.share(tensor) for tensor in batch)
        with ActivityMeter(made) as meter:
            values = made(images.double())
        loss = training_loss(RECIPE, values, labels, made.peak) + RECIPE.activity_penalty * meter.mean_level()
        optimizer.zero_grad()
        loss.backward()
        processes.average_gradients(made)
        optimizer.step()
        total = loss.detach().clone()
        processes.sum(total)
        losses.append(total / processes.count)
    found = {"losses": torch.stack(losses)} | made.state_dict()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None
        found[f"gradient of {name}"] = parameter.grad
    return found


def run_training(network: str, out: Path) -> None:
    """One whole training; every process leaves the record that it was given beside the folder."""
    run = train(NETWORKS[network], RECIPE, DATASET, out, progress=False)
    out.with_name(f"{out.name}.{current_processes().rank}.json").write_text(run.model_dump_json())


def run_interrupted(network: str, out: Path, calls: int = 6) -> None:
    """A training with Ctrl-C in the second epoch, and the same again."""
    counted = iter(range(calls))

    def interrupting(*arguments):
        if next(counted, None) is None:
            raise KeyboardInterrupt
        return training_loss(*arguments)

    told = pytest.raises(training.TrainingInterrupted, match="1 of 2 epochs are saved")
    with patch.object(training, "training_loss", interrupting), told:
        run_training(network, out)
    run_training(network, out)


def run_lost(network: str, out: Path) -> None:
    """A training of which the second process ends in its second epoch."""

    def leaving(*arguments):
        if current_processes().rank and next(counted, None) is None:
            os._exit(3)
        return training_loss(*arguments)

    counted = iter(range(5))
    with patch.object(training, "training_loss", leaving):
        with pytest.raises(ProcessLostError) as caught:
            run_training(network, out)
        out.with_suffix(".txt").write_text(str(caught.value))


def main(rank: str, store: str, out: str, *cases: str) -> None:
    """Run all cases as one of the processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=COUNT)
    for case in cases:
        what, network, fault = case.split(":")
        target = Path(out, case)
        with ExitStack() as stack:
            for place, name, wrong in FAULTS[fault]:
                stack.enter_context(patch.object(place, name, wrong))
            if what == "updates":
                found = run_updates(network)
                if rank == "0":
                    safetensors.torch.save_file(found, target)
            else:
                if rank != "0":
                    # Only the first process may put a file in its place.
                    stack.enter_context(patch.object(Path, "replace", None))
                {"train": run_training, "interrupted": run_interrupted, "lost": run_lost}[what](
                    network, target
                )
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
    # As `lmht` under torchrun: gloo's threads may abort an interpreter that clears up under them.
    os._exit(0)
