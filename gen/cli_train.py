"""``lmht train``: data set and numbers in, a run folder out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmht.gen.cli_errors import INTERRUPTED, Failure
from lmht.gen.cli_options import DataDir, DataName, MixingName, parse_leak

if TYPE_CHECKING:
    from lmht.model import RunConfig, TrainingConfig

__all__ = ["train"]

_DEFAULT_NETS = {"digits": "64-64-10", "mnist": "784-128-10", "fashion-mnist": "784-256-10"}


def train(
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Annotated[DataName, typer.Option(help="Data set; the digits come with lmht.")] = DataName.digits,
    data_dir: DataDir = None,
    net: Annotated[
        str | None, typer.Option(help="Layer widths, inputs first.  [default: 64-64-10 or 784-128-10]")
    ] = None,
    levels: Annotated[int, typer.Option(help="Threshold levels L of a neuron, 1 to 15.")] = 2,
    steps: Annotated[int, typer.Option(help="Time steps T of a window, 1 to 8.")] = 2,
    weight_bits: Annotated[int, typer.Option(help="Width of the integer weights, 2 to 8.")] = 4,
    mixing: Annotated[MixingName, typer.Option(help="Temporal mixing matrix.")] = MixingName.learned,
    leak: Annotated[str, typer.Option(help="Membrane leak: 'learned', or a number (1 = IF).")] = "learned",
    theta: Annotated[
        float | None, typer.Option(help="Firing threshold.  [default: 2/L, or 1 for L = 1]")
    ] = None,
    initial_membrane: Annotated[float, typer.Option(help="Membrane before the first step.")] = 0.0,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per update.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay of the weights.")] = None,
    early_stopping: Annotated[
        int | None, typer.Option(help="Epochs without progress before the end.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, split, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, ...")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove a run in the folder first.")] = False,
) -> None:
    """Train a network with integer weights; an interrupted training goes on where it was.

    What is not given comes from a recipe for the data set.

    \b
    Examples:
      lmht train --out runs/digits
      lmht train --data mnist --data-dir DIR --net 784-128-10 --levels 2 --steps 2 --weight-bits 4 --out runs/mnist
      lmht train --levels 1 --steps 4 --mixing identity --leak 1 --out runs/integrate-and-fire
    """
    from lmht.model import NetworkConfig, TrainingInterrupted, load_dataset
    from lmht.model import train as train_network

    dataset = load_dataset(data.value, data_dir)
    network = NetworkConfig.model_validate(
        {
            "architecture": net or _DEFAULT_NETS[data.value],
            "input_shape": dataset.input_shape,
            "levels": levels,
            "steps": steps,
            "weight_bits": weight_bits,
            "mixing": mixing.value,
            "leak": parse_leak(leak),
            "theta": theta,
            "initial_membrane": initial_membrane,
        }
    )
    _check_buildable(levels, steps)
    recipe = _recipe(
        data.value,
        {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "early_stopping": early_stopping,
            "seed": seed,
        },
    )
    _check_device(device)
    finished = not overwrite and _describe_earlier(out)
    try:
        run = train_network(network, recipe, dataset, out, overwrite=overwrite, device=device)
    except TrainingInterrupted as interrupt:
        raise Failure(f"{interrupt}; the same command goes on from there", INTERRUPTED) from None
    if finished:
        typer.echo(f"{out} is already trained; --overwrite trains it again")
    _show_run(out, run)


def _check_buildable(levels: int, steps: int) -> None:
    """Refuse what no hardware can be made for before hours of training, not after."""
    for name, value, most in (("levels", levels, 15), ("steps", steps, 8)):
        if not 1 <= value <= most:
            raise ValueError(f"{name} must be between 1 and {most}, not {value}")


def _recipe(dataset: str, given: dict[str, int | float | None]) -> TrainingConfig:
    from lmht.model import TrainingConfig, default_training_config

    default = default_training_config(dataset).model_dump()
    return TrainingConfig.model_validate(default | {k: v for k, v in given.items() if v is not None})


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"device must be one that this PyTorch has, not {device!r} ({reason})") from None


def _describe_earlier(out: Path) -> bool:
    """Say what of an earlier, interrupted training is taken over; True if the run is finished."""
    from lmht.model.checkpoint import CONFIG_FILE, read_run_config
    from lmht.model.run_state import RESUME_FILE, read_training_run

    if (out / RESUME_FILE).exists():
        run = read_training_run(out)
        typer.echo(f"going on with {out} after epoch {len(run.history)} of {run.training.epochs}")
        return False
    return (out / CONFIG_FILE).exists() and read_run_config(out).finished


def _show_run(out: Path, run: RunConfig) -> None:
    held = "" if run.best_accuracy is None else f", validation {run.best_accuracy:.2%}"
    test = "" if run.test_accuracy is None else f", test {run.test_accuracy:.2%}"
    typer.echo(
        f"{out}: {run.network.architecture}, L = {run.network.levels}, T = {run.network.steps}, "
        f"{run.network.weight_bits}-bit weights; epoch {run.best_epoch} of {len(run.history)}{held}{test}"
    )
