"""``lmht train``: data set and numbers in, a run folder out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmht.gen.cli_errors import INTERRUPTED, Failure
from lmht.gen.cli_options import DataDir, DataName, MethodName, MixingName, parse_leak

if TYPE_CHECKING:
    from lmht.model import RunConfig, TrainingConfig

__all__ = ["check_buildable", "show_run", "train"]

_DEFAULT_NETS = {"digits": "64-64-10", "mnist": "784-128-10", "fashion-mnist": "784-256-10"}


def train(
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Annotated[DataName, typer.Option(help="Data set; the digits come with lmht.")] = DataName.digits,
    data_dir: DataDir = None,
    method: Annotated[
        MethodName, typer.Option(help="stbp: spikes from the start; hybrid: QCFS, conversion, fine-tuning.")
    ] = MethodName.stbp,
    net: Annotated[
        str | None, typer.Option(help="Layer widths, inputs first.  [default: 64-64-10 or 784-128-10]")
    ] = None,
    levels: Annotated[int, typer.Option(help="Threshold levels L of a neuron, 1 to 15.")] = 2,
    steps: Annotated[int, typer.Option(help="Time steps T of a window, 1 to 8.")] = 2,
    weight_bits: Annotated[int, typer.Option(help="Width of the integer weights, 2 to 8.")] = 4,
    mixing: Annotated[MixingName, typer.Option(help="Temporal mixing matrix.")] = MixingName.learned,
    leak: Annotated[str, typer.Option(help="Membrane leak: 'learned', or a number (1 = IF).")] = "learned",
    theta: Annotated[
        float | None,
        typer.Option(help="Firing threshold, or QCFS's first upper end.  [default: 2/L, 1 for L = 1, or 2]"),
    ] = None,
    initial_membrane: Annotated[float, typer.Option(help="Membrane before the first step.")] = 0.0,
    quanta: Annotated[int | None, typer.Option(help="Steps Q of QCFS.  [default: L x T]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per update.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay of the weights.")] = None,
    early_stopping: Annotated[
        int | None, typer.Option(help="Epochs without progress before the end.")
    ] = None,
    fine_tuning_epochs: Annotated[
        int | None, typer.Option(help="Epochs after conversion.  [default: a tenth of the epochs]")
    ] = None,
    fine_tuning_rate: Annotated[
        float | None, typer.Option(help="Learning rate after conversion.  [default: a tenth]")
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
      lmht train --method hybrid --levels 2 --steps 2 --fine-tuning-epochs 5 --out runs/hybrid
    """
    from lmht.model import NetworkConfig, TrainingInterrupted, load_dataset, train_hybrid
    from lmht.model import train as train_network
    from lmht.model.hybrid import QCFS_FOLDER

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
            "activation": "lmht" if method is MethodName.stbp else "qcfs",
            "quanta": quanta,
        }
    )
    check_buildable(levels, steps)
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
    fine_tuning = _fine_tuning(method, recipe, fine_tuning_epochs, fine_tuning_rate)
    _check_device(device)
    finished = not overwrite and _describe_earlier(out)
    try:
        if fine_tuning is None:
            run = train_network(network, recipe, dataset, out, overwrite=overwrite, device=device)
        else:
            if not overwrite:
                _describe_earlier(out / QCFS_FOLDER)
            run = train_hybrid(
                network, recipe, dataset, out, fine_tuning=fine_tuning, overwrite=overwrite, device=device
            )
    except TrainingInterrupted as interrupt:
        raise Failure(f"{interrupt}; the same command goes on from there", INTERRUPTED) from None
    if finished:
        typer.echo(f"{out} is already trained; --overwrite trains it again")
    show_run(out, run)


def check_buildable(levels: int, steps: int) -> None:
    """Refuse what no hardware can be made for before hours of training, not after."""
    for name, value, most in (("levels", levels, 15), ("steps", steps, 8)):
        if not 1 <= value <= most:
            raise ValueError(f"{name} must be between 1 and {most}, not {value}")


def _recipe(dataset: str, given: dict[str, int | float | None]) -> TrainingConfig:
    from lmht.model import TrainingConfig, default_training_config

    default = default_training_config(dataset).model_dump()
    return TrainingConfig.model_validate(default | {k: v for k, v in given.items() if v is not None})


def _fine_tuning(
    method: MethodName, recipe: TrainingConfig, epochs: int | None, rate: float | None
) -> TrainingConfig | None:
    """Recipe after conversion; None for the methods without one."""
    if method is not MethodName.hybrid:
        for name, value in (("fine_tuning_epochs", epochs), ("fine_tuning_rate", rate)):
            if value is not None:
                raise ValueError(f"{name} must be left out with method {method.value}, not {value}")
        return None
    from lmht.model import default_fine_tuning_config

    return default_fine_tuning_config(recipe, epochs=epochs, learning_rate=rate)


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


def show_run(out: Path, run: RunConfig) -> None:
    """Say what a run is and what it reached, and with a conversion what came before."""
    network = run.network
    held = "" if run.best_accuracy is None else f", validation {run.best_accuracy:.2%}"
    test = "" if run.test_accuracy is None else f", test {run.test_accuracy:.2%}"
    qcfs = network.activation == "qcfs"
    neurons = f"QCFS, Q = {network.qcfs_levels}" if qcfs else f"L = {network.levels}, T = {network.steps}"
    typer.echo(
        f"{out}: {network.architecture}, {neurons}, {network.weight_bits}-bit weights; "
        f"epoch {run.best_epoch} of {len(run.history)}{held}{test}"
    )
    before = run.conversion
    if before is not None and before.test_accuracy is not None and before.source_test_accuracy is not None:
        typer.echo(
            f"test accuracy of the QCFS network (Q = {before.quanta}) {before.source_test_accuracy:.2%}, "
            f"converted {before.test_accuracy:.2%}, of this network {run.test_accuracy:.2%}"
        )
