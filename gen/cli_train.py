"""``lmht train``: data set and numbers in, a run folder out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmht.gen.cli_errors import INTERRUPTED, Failure
from lmht.gen.cli_options import DataDir, DataName, MethodName, MixingName
from lmht.gen.cli_spikes import CodingName, IntegrationName, LossName, ReadoutName, parse_integration

if TYPE_CHECKING:
    from lmht.model import ConvNetworkConfig, Dataset, NetworkConfig, OwnSource, RunConfig, TrainingConfig

__all__ = ["check_buildable", "show_run", "train"]

_DEFAULT_NETS = {"digits": "64-64-10", "mnist": "784-128-10", "fashion-mnist": "784-256-10", "n-mnist": "2312-128-10"}


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
    data: Annotated[DataName, typer.Option(help="Data set; the digits come with lmht.")] = DataName.digits,
    data_dir: DataDir = None,
    method: Annotated[
        MethodName, typer.Option(help="stbp: spikes from the start; hybrid: QCFS, conversion, fine-tuning.")
    ] = MethodName.stbp,
    net: Annotated[
        str | None,
        typer.Option(
            help="Layer widths, inputs first; mnist-cnn, lenet, vgg11, 13 or 16, resnet18, 19, 20 or 34; or "
            "FILE.py:FUNCTION for a network of your own.  [default: 64-64-10, 784-128-10, 2312-128-10 or resnet20]"
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(help="Factor of the channels of a network with convolutions.  [default: 1]"),
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
    integration: Annotated[
        IntegrationName | None,
        typer.Option(help="continuous: no mixing, leak 1 (IF); discontinuous: no mixing, leak 0, no memory."),
    ] = None,
    coding: Annotated[
        CodingName | None,
        typer.Option(
            help="The image as currents, as spikes at a constant rate, or as random spikes; event data as a frame for "
            "each step.  [default: direct, or frames]"
        ),
    ] = None,
    readout: Annotated[
        ReadoutName, typer.Option(help="Currents of the last layer, or spikes of output neurons (L = 1).")
    ] = ReadoutName.mean,
    quanta: Annotated[int | None, typer.Option(help="Steps Q of QCFS.  [default: L x T]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per update.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay of the weights.")] = None,
    loss: Annotated[LossName, typer.Option(help="Loss of the classes.")] = LossName.cross_entropy,
    activity_penalty: Annotated[
        float, typer.Option(help="Added to the loss per level of the neurons' mean level: fewer spikes.")
    ] = 0.0,
    augment: Annotated[AugmentName | None, typer.Option(help="Random changes of training images.")] = None,
    precision: Annotated[
        PrecisionName, typer.Option(help="bfloat16 is quicker with convolutions on processors made for it.")
    ] = PrecisionName.float32,
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

    What is not given comes from a recipe for the data set. FUNCTION takes one argument with input_shape, classes and
    make_neuron() and returns a torch.nn.Module; the folder of the run keeps a copy of FILE.py.

    \b
    Examples:
      lmht train --out runs/digits
      lmht train --data mnist --data-dir DIR --net 784-128-10 --levels 2 --steps 2 --weight-bits 4 --out runs/mnist
      lmht train --data mnist --data-dir DIR --net mnist-cnn --out runs/mnist-cnn
      lmht train --data cifar10 --data-dir DIR --net resnet20 --precision bfloat16 --out runs/resnet20
      lmht train --data image-folder --data-dir DIR --net vgg11 --width 0.25 --out runs/vgg11
      lmht train --data mnist --data-dir DIR --net mynet.py:build --out runs/mynet
      lmht train --levels 1 --steps 4 --mixing identity --leak 1 --out runs/integrate-and-fire
      lmht train --levels 1 --steps 1 --integration discontinuous --coding bernoulli --out runs/rate
      lmht train --data n-mnist --data-dir DIR --net 2312-128-10 --steps 4 --out runs/n-mnist
      lmht train --method hybrid --levels 2 --steps 2 --fine-tuning-epochs 5 --out runs/hybrid
      lmht train --method hybrid --data mnist --data-dir DIR --net mnist-cnn --out runs/hybrid-cnn
      torchrun --nproc-per-node 2 -m lmht.gen.cli train --batch-size 64 --out runs/two-processes
    """
    from lmht.model import ConvNetworkConfig, TrainingInterrupted, load_dataset, train_hybrid
    from lmht.model import train as train_network
    from lmht.model.hybrid import QCFS_FOLDER
    from lmht.model.parallel import torchrun_processes

    dataset = load_dataset(data.value, data_dir, steps=steps)
    neurons: dict[str, Any] = {
        "levels": levels,
        "steps": steps,
        "weight_bits": weight_bits,
        **parse_integration(integration, mixing, leak),
        "theta": theta,
        "initial_membrane": initial_membrane,
        "coding": coding.value if coding else "direct" if dataset.frames is None else "frames",
        "readout": readout.value,
    }
    name = net or _DEFAULT_NETS.get(data.value, "resnet20")
    network, source = _network(name, dataset, method, width, quanta, neurons)
    check_buildable(levels, steps)
    recipe = _recipe(
        data.value,
        network.net if isinstance(network, ConvNetworkConfig) else None,
        {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "loss": loss.value,
            "label_smoothing": 0.0 if loss is LossName.squared_hinge else None,
            "activity_penalty": activity_penalty,
            "augment": augment and augment.value,
            "precision": precision.value,
            "early_stopping": early_stopping,
            "seed": seed,
        },
    )
    fine_tuning = _fine_tuning(method, recipe, fine_tuning_epochs, fine_tuning_rate)
    with torchrun_processes(device) as (processes, own_device):
        _check_device(own_device)
        options: dict[str, Any] = {"overwrite": overwrite, "device": own_device, "source": source}
        finished = not overwrite and _describe_earlier(out, processes.is_first)
        try:
            if fine_tuning is None:
                run = train_network(network, recipe, dataset, out, **options)
            else:
                if not overwrite:
                    _describe_earlier(out / QCFS_FOLDER, processes.is_first)
                run = train_hybrid(network, recipe, dataset, out, fine_tuning=fine_tuning, **options)
        except TrainingInterrupted as interrupt:
            if not processes.is_first:
                raise SystemExit(INTERRUPTED) from None
            raise Failure(f"{interrupt}; the same command goes on from there", INTERRUPTED) from None
    if not processes.is_first:
        return
    if finished:
        typer.echo(f"{out} is already trained; --overwrite trains it again")
    show_run(out, run)


def _network(
    net: str,
    dataset: Dataset,
    method: MethodName,
    width: float | None,
    quanta: int | None,
    neurons: dict[str, Any],
) -> tuple[NetworkConfig | ConvNetworkConfig, OwnSource | None]:
    """Configuration of ``--net``, and the file of a network of the user's."""
    from lmht.model import NET_NAMES, ConvNetworkConfig, NetworkConfig, is_own_net, read_own_source

    shape: dict[str, Any] = {"input_shape": dataset.input_shape, "quanta": quanta}
    shape["activation"] = "lmht" if method is MethodName.stbp else "qcfs"
    if net[:1].isdigit() and not is_own_net(net):
        if width is not None:
            raise ValueError(f"width must be left out with layer widths as net, not {width}")
        return NetworkConfig.model_validate({"architecture": net} | shape | neurons), None
    if net not in NET_NAMES and not is_own_net(net):
        raise ValueError(
            f"net must be layer widths such as 784-128-10, one of {', '.join(NET_NAMES)}, or FILE.py:FUNCTION, "
            f"not {net!r}"
        )
    source = None if net in NET_NAMES else read_own_source(net)
    given = {
        "net": net if source is None else source.net,
        "source_sha256": None if source is None else source.sha256,
        "classes": len(dataset.classes),
        "width": 1.0 if width is None else width,
    }
    return ConvNetworkConfig.model_validate(given | shape | neurons), source


def check_buildable(levels: int, steps: int) -> None:
    """Refuse what no hardware can be made for before hours of training, not after."""
    for name, value, most in (("levels", levels, 15), ("steps", steps, 8)):
        if not 1 <= value <= most:
            raise ValueError(f"{name} must be between 1 and {most}, not {value}")


def _recipe(dataset: str, net: str | None, given: dict[str, str | int | float | None]) -> TrainingConfig:
    from lmht.model import TrainingConfig, default_training_config

    default = default_training_config(dataset, net).model_dump()
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
