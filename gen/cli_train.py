"""``lmht train``: data set and numbers in, a run folder out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmht.gen.cli_errors import INTERRUPTED, Failure
from lmht.gen.cli_options import DataDir, DataName, MethodName, MixingName
from lmht.gen.cli_recipe import (
    AutoAugmentName,
    RecipeName,
    RecipeTable,
    choose_recipe,
    make_network,
    override_fine_tuning,
    override_recipe,
    override_training,
)
from lmht.gen.cli_spikes import CodingName, IntegrationName, LossName, ReadoutName, parse_integration
from lmht.rtl.checks import LEVELS_LIMIT, STEPS_LIMIT

if TYPE_CHECKING:
    from lmht.model import RunConfig

__all__ = ["check_buildable", "show_run", "train"]


class AugmentName(StrEnum):
    """Changes of the training images, as in :class:`lmht.model.TrainingConfig`."""

    none = "none"
    shift = "shift"
    crop_flip = "crop-flip"


class PrecisionName(StrEnum):
    """Types to train in, as in :class:`lmht.model.TrainingConfig`."""

    float32 = "float32"
    bfloat16 = "bfloat16"


def train(
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    recipe: RecipeName = None,
    recipes: RecipeTable = False,
    data: Annotated[
        DataName | None,
        typer.Option(help="Data set; the digits come with lmht.  [default: the recipe's, or digits]"),
    ] = None,
    data_dir: DataDir = None,
    method: Annotated[
        MethodName | None,
        typer.Option(
            help="stbp: spikes from the start; hybrid: QCFS, conversion, fine-tuning.  [default: stbp]"
        ),
    ] = None,
    net: Annotated[
        str | None,
        typer.Option(
            help="Layer widths, inputs first; mnist-cnn, lenet, vgg11, 13 or 16, resnet18, 19, 20 or 34; or "
            "FILE.py:FUNCTION for a network of your own."
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(help="Factor of the channels of a network with convolutions.  [default: 1]"),
    ] = None,
    levels: Annotated[
        int | None, typer.Option(help=f"Threshold levels L of a neuron, 1 to {LEVELS_LIMIT}.  [default: 2]")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help=f"Time steps T of a window, 1 to {STEPS_LIMIT}.  [default: 2]")
    ] = None,
    weight_bits: Annotated[
        str | None,
        typer.Option(help="Width of the integer weights, 2 to 8; or float, not for hardware.  [default: 4]"),
    ] = None,
    fraction_bits: Annotated[
        int | None,
        typer.Option(
            help="Train with all roundings of the hardware, with so many fraction bits of the membrane."
        ),
    ] = None,
    mixing: Annotated[
        MixingName | None, typer.Option(help="Temporal mixing matrix.  [default: learned]")
    ] = None,
    leak: Annotated[
        str | None,
        typer.Option(help="Membrane leak: 'learned', or a number (1 = IF).  [default: learned]"),
    ] = None,
    detach: Annotated[
        bool | None,
        typer.Option(
            "--detach/--no-detach",
            help="Whether no gradient passes through the membrane from step to step.  "
            "[default: no with mixing identity (LIF, IF), else yes]",
        ),
    ] = None,
    theta: Annotated[
        float | None,
        typer.Option(help="Firing threshold, or QCFS's first upper end.  [default: 2/L, 1 for L = 1, or 2]"),
    ] = None,
    initial_membrane: Annotated[
        float | None,
        typer.Option(
            help="Membrane before the first step, absolute as --theta, not a multiple.  [default: 0]"
        ),
    ] = None,
    integration: Annotated[
        IntegrationName | None,
        typer.Option(help="continuous: no mixing, leak 1 (IF); discontinuous: no mixing, leak 0, no memory."),
    ] = None,
    coding: Annotated[
        CodingName | None,
        typer.Option(
            help="The image as currents, as spikes at a constant rate, or as random spikes; event data as a frame for "
            "each step, or as the mean of ten frames.  [default: direct, or frames]"
        ),
    ] = None,
    readout: Annotated[
        ReadoutName | None,
        typer.Option(
            help="Currents of the last layer, or spikes of output neurons (L = 1).  [default: mean]"
        ),
    ] = None,
    quanta: Annotated[int | None, typer.Option(help="Steps Q of QCFS.  [default: L x T]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per update.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay of the weights.")] = None,
    loss: Annotated[
        LossName | None, typer.Option(help="Loss of the classes.  [default: cross-entropy]")
    ] = None,
    activity_penalty: Annotated[
        float | None,
        typer.Option(
            help="Added to the loss per level of the neurons' mean level: fewer spikes.  [default: 0]"
        ),
    ] = None,
    augment: Annotated[AugmentName | None, typer.Option(help="Random changes of training images.")] = None,
    auto_augment: Annotated[
        AutoAugmentName | None, typer.Option(help="AutoAugment's policy for training images.")
    ] = None,
    cutout: Annotated[
        int | None, typer.Option(help="Side of the square cut out of training images, in pixels; 0: none.")
    ] = None,
    mixup: Annotated[
        float | None, typer.Option(help="Mixup's alpha, for mixed pairs of training images; 0: none.")
    ] = None,
    precision: Annotated[
        PrecisionName | None,
        typer.Option(
            help="bfloat16 is quicker with convolutions on processors made for it.  [default: float32]"
        ),
    ] = None,
    early_stopping: Annotated[
        int | None, typer.Option(help="Epochs without progress before the end.")
    ] = None,
    fine_tuning_epochs: Annotated[
        int | None, typer.Option(help="Epochs after conversion.  [default: a tenth of the epochs]")
    ] = None,
    fine_tuning_rate: Annotated[
        float | None, typer.Option(help="Learning rate after conversion.  [default: a tenth]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights, split, order and augmentation.  [default: 0]")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Begin with the weights of another run, such as one in float."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, ...")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove a run in the folder first.")] = False,
) -> None:
    """Train a network with integer weights; an interrupted training goes on where it was.

    What is not given comes from the recipe; the defaults are for what it leaves open. FUNCTION takes one argument with
    input_shape, classes and make_neuron() and returns a torch.nn.Module; the folder of the run keeps a copy of FILE.py.
    A network of which no hardware could be made is refused before the first epoch, unless its weights are in float.

    \b
    Examples:
      lmht train --out runs/digits
      lmht train --data mnist --data-dir DIR --net 784-128-10 --levels 2 --steps 2 --weight-bits 4 --out runs/mnist
      lmht train --data mnist --data-dir DIR --net mnist-cnn --out runs/mnist-cnn
      lmht train --data cifar10 --data-dir DIR --net resnet20 --precision bfloat16 --out runs/resnet20
      lmht train --recipe cifar10 --device cuda --precision bfloat16 --data-dir DIR --out runs/cifar10
      lmht train --data image-folder --data-dir DIR --net vgg11 --width 0.25 --out runs/vgg11
      lmht train --data mnist --data-dir DIR --net mynet.py:build --out runs/mynet
      lmht train --levels 1 --steps 4 --mixing identity --leak 1 --out runs/integrate-and-fire
      lmht train --levels 1 --steps 1 --integration discontinuous --coding bernoulli --out runs/rate
      lmht train --data n-mnist --data-dir DIR --net 2312-128-10 --steps 4 --out runs/n-mnist
      lmht train --weight-bits float --out runs/float
      lmht train --start runs/float --weight-bits 2 --epochs 10 --learning-rate 0.001 --out runs/two-bits
      lmht train --method hybrid --levels 2 --steps 2 --fine-tuning-epochs 5 --out runs/hybrid
      lmht train --method hybrid --data mnist --data-dir DIR --net mnist-cnn --out runs/hybrid-cnn
      torchrun --nproc-per-node 2 -m lmht.gen.cli train --batch-size 64 --out runs/two-processes
    """
    from lmht.gen.trial_capture import try_capture
    from lmht.model import ConvNetworkConfig, TrainingInterrupted, load_dataset, train_hybrid
    from lmht.model import train as train_network
    from lmht.model.hybrid import QCFS_FOLDER
    from lmht.model.memory import keep_freed_memory
    from lmht.model.parallel import torchrun_processes

    chosen = override_recipe(
        choose_recipe(recipe, data, net),
        method,
        {
            "net": net,
            "width": width,
            "levels": levels,
            "steps": steps,
            "weight_bits": parse_weight_bits(weight_bits),
            "fraction_bits": fraction_bits,
            **parse_integration(integration, mixing, leak),
            "detach": detach,
            "theta": theta,
            "initial_membrane": initial_membrane,
            "coding": coding and coding.value,
            "readout": readout and readout.value,
            "quanta": quanta,
        },
    )
    frames = chosen.network.get("steps", ConvNetworkConfig.model_fields["steps"].default)
    dataset = load_dataset(chosen.data, data_dir, steps=frames, coding=chosen.network.get("coding"))
    network, source = make_network(chosen, dataset)
    check_buildable(network.levels, network.steps)
    training = override_training(
        chosen,
        {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "loss": loss and loss.value,
            "label_smoothing": 0.0 if loss is LossName.squared_hinge else None,
            "activity_penalty": activity_penalty,
            "augment": augment and augment.value,
            "auto_augment": auto_augment and auto_augment.value,
            "cutout": cutout,
            "mixup": mixup,
            "precision": precision and precision.value,
            "early_stopping": early_stopping,
            "seed": seed,
        },
    )
    fine_tuning = override_fine_tuning(chosen, training, fine_tuning_epochs, fine_tuning_rate)
    reason = try_capture(network, source)
    if reason is not None:
        typer.echo(f"note: the network is trained, but hardware cannot be made of it: {reason}", err=True)
    weights = _read_start(start, chosen.method)
    keep_freed_memory()
    with torchrun_processes(device) as (processes, own_device):
        _check_device(own_device)
        options: dict[str, Any] = {"overwrite": overwrite, "device": own_device, "source": source}
        finished = not overwrite and _describe_earlier(out, processes.is_first)
        try:
            if fine_tuning is None:
                run = train_network(network, training, dataset, out, **options, **weights)
            else:
                if not overwrite:
                    _describe_earlier(out / QCFS_FOLDER, processes.is_first)
                run = train_hybrid(network, training, dataset, out, fine_tuning=fine_tuning, **options)
        except TrainingInterrupted as interrupt:
            if not processes.is_first:
                raise SystemExit(INTERRUPTED) from None
            raise Failure(f"{interrupt}; the same command goes on from there", INTERRUPTED) from None
    if not processes.is_first:
        return
    if finished:
        typer.echo(f"{out} is already trained; --overwrite trains it again")
    show_run(out, run)


def check_buildable(levels: int, steps: int) -> None:
    """Refuse what no hardware can be made for before hours of training, not after."""
    for name, value, most in (("levels", levels, LEVELS_LIMIT), ("steps", steps, STEPS_LIMIT)):
        if not 1 <= value <= most:
            raise ValueError(f"{name} must be between 1 and {most}, not {value}")


def parse_weight_bits(text: str | None) -> int | str | None:
    """Width of the weights, or ``float``; None if not given."""
    if text is None or text == "float":
        return text
    if not (text.isascii() and text.isdigit() and 2 <= int(text[:9]) <= 8):
        raise ValueError(f"weight_bits must be between 2 and 8, or float, not {text}")
    return int(text)


def _read_start(start: Path | None, method: str) -> dict[str, Any]:
    """Weights that training begins with, as :func:`lmht.model.train` takes them."""
    if start is None:
        return {}
    if method == "hybrid":
        raise ValueError(f"start must be left out with method hybrid, not {start}")
    from lmht.model import load_checkpoint

    network, record = load_checkpoint(start)
    return {"start": network.state_dict(), "start_sha256": record.weights_sha256}


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"device must be one that this PyTorch has, not {device!r} ({reason})") from None


def _describe_earlier(out: Path, aloud: bool) -> bool:
    """Say, if ``aloud``, what of an earlier, interrupted training is taken over; True if the run is finished."""
    from lmht.model.checkpoint import CONFIG_FILE, read_run_config
    from lmht.model.run_state import RESUME_FILE, read_training_run

    if (out / RESUME_FILE).exists():
        run = read_training_run(out)
        if aloud:
            typer.echo(f"going on with {out} after epoch {len(run.history)} of {run.training.epochs}")
        return False
    return (out / CONFIG_FILE).exists() and read_run_config(out).finished


def show_run(out: Path, run: RunConfig) -> None:
    """Say what a run is and what it reached, and with a conversion what came before."""
    network = run.network
    held = "" if run.best_accuracy is None else f", validation {run.best_accuracy:.2%}"
    test = "" if run.test_accuracy is None else f", test {run.test_accuracy:.2%}"
    neurons = f"L = {network.levels}, T = {network.steps}"
    if network.activation == "qcfs":
        neurons = f"QCFS, Q = {network.qcfs_levels}"
    weights = "weights in float" if network.weight_bits is None else f"{network.weight_bits}-bit weights"
    typer.echo(
        f"{out}: {network.architecture}, {neurons}, {weights}; "
        f"epoch {run.best_epoch} of {len(run.history)}{held}{test}"
    )
    before = run.conversion
    if before is not None and before.test_accuracy is not None and before.source_test_accuracy is not None:
        typer.echo(
            f"test accuracy of the QCFS network (Q = {before.quanta}) {before.source_test_accuracy:.2%}, "
            f"converted {before.test_accuracy:.2%}, of this network {run.test_accuracy:.2%}"
        )
