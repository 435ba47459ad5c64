"""Conversion of a QCFS network into a spiking one, layer by layer (MODEL.md, "Hybrid training", step 2)."""

from pathlib import Path

import torch

from .checkpoint import CONFIG_FILE, load_checkpoint, save_checkpoint
from .checks import check_integer
from .config import ConversionRecord, NetworkConfig, RunConfig, TrainingConfig
from .data import Dataset, stratified_split
from .evaluation import evaluate
from .network import Network, QCFSLayer
from .run_folder import RunError
from .run_state import RESUME_FILE

__all__ = ["convert_qcfs", "convert_run", "measure_conversion"]


def convert_qcfs(network: Network, levels: int, steps: int) -> Network:
    """Replace every QCFS by LM-HT neurons of L levels and T steps; weights and batch norms stay.

    With the upper end ``θ_q`` that a layer learned, its neurons get ``θ = θ_q / L``, ``v[-1] = θ / 2``,
    ``Ω = 1/T`` and ``λ = 1``. Both then reach up to ``θ_q``: QCFS in one pass, the neurons as the largest mean
    of ``θ k[t]`` over the window, ``L θ``. With ``J = sum_u I[u] / T`` the levels of a window sum to
    ``clamp(floor((T J + θ/2) / θ), 0, L T)``, so that (Theorem 4.2 (ii))::

        mean_t θ k[t] = θ_q clamp(floor(J L T / θ_q + 1/2) / (L T), 0, 1)

    which is QCFS of ``J`` where ``Q = L T``. The next layer's currents have the same mean, since weights and batch
    norm are affine: the whole network then computes what the QCFS network does, up to rounding. For any other
    Q, L and T both have the same expectation (Theorem 4.4).

    Parameters
    ----------
    network : Network
        With ``activation="qcfs"``; it is left as it is.
    levels, steps : int
        L and T of the spiking network, at least 1.

    Returns
    -------
    Network
        Spiking network on the CPU, in evaluation mode. Ω and λ may be learned, unless the configuration fixes
        them.

    Raises
    ------
    TypeError
        If ``levels`` or ``steps`` is no integer.
    ValueError
        If the network has no QCFS activations, one has an upper end of 0 or less, or ``levels`` or ``steps``
        is below 1.
    """
    check_integer("levels", levels, 1)
    check_integer("steps", steps, 1)
    if network.config.activation != "qcfs":
        raise ValueError(f"activation must be qcfs for conversion, not {network.config.activation}")
    thetas = []
    for index, layer in enumerate(network.layers):
        if isinstance(layer, QCFSLayer):
            upper_end = layer.activation.theta.item()
            if upper_end <= 0:
                raise ValueError(f"layer {index}: theta must be above 0 for conversion, not {upper_end:g}")
            thetas.append(upper_end / levels)
    changes = {
        "activation": "lmht",
        "levels": levels,
        "steps": steps,
        "quanta": None,
        "theta": None,
        "thetas": thetas,
        "initial_membranes": [theta / 2 for theta in thetas],
    }
    converted = Network(NetworkConfig.model_validate(network.config.model_dump() | changes))
    state = {name: value for name, value in network.state_dict().items() if ".activation." not in name}
    # What is new, the logits of Ω and λ, begins with zeros: Ω = 1/T and λ = 1.
    converted.load_state_dict(converted.state_dict() | state)
    return converted.eval()


def measure_conversion(
    source: RunConfig, converted: Network, dataset: Dataset | None = None
) -> ConversionRecord:
    """Record of a conversion, with the accuracies before fine-tuning if the data set is at hand.

    Parameters
    ----------
    source : RunConfig
        Record of the QCFS network's run.
    converted : Network
        Network that :func:`convert_qcfs` made of it.
    dataset : Dataset, optional
        Data set of the run; the images held out are those that were held out in training.

    Raises
    ------
    ValueError
        If ``dataset`` is another one.
    """
    validation = test = None
    if dataset is not None:
        if dataset.name != source.dataset:
            raise ValueError(f"dataset must be {source.dataset}, as in training, not {dataset.name}")
        held = _held_out(source.training, dataset)
        if len(held) > 0:
            validation = evaluate(converted, dataset.train_images[held], dataset.train_labels[held])
        test = evaluate(converted, dataset.test_images, dataset.test_labels)
    assert isinstance(source.network, NetworkConfig), "networks with convolutions are not converted"
    return ConversionRecord(
        source_sha256=source.weights_sha256,
        quanta=source.network.qcfs_levels,
        source_validation_accuracy=source.best_accuracy,
        source_test_accuracy=source.test_accuracy,
        validation_accuracy=validation,
        test_accuracy=test,
    )


def convert_run(
    run_dir: str | Path,
    out_dir: str | Path,
    levels: int,
    steps: int,
    dataset: Dataset | None = None,
    *,
    overwrite: bool = False,
) -> RunConfig:
    """Convert the QCFS network of a finished run and write the spiking one as a run of its own.

    Parameters
    ----------
    run_dir, out_dir : path
        Folder of the QCFS network's run, and of the new one, created if needed.
    levels, steps : int
        L and T, at least 1.
    dataset : Dataset, optional
        Data set of the run, to measure the accuracy.
    overwrite : bool
        Whether a finished run in ``out_dir`` is replaced.

    Returns
    -------
    RunConfig
        The record written. Recipe, history and best epoch are those of the QCFS network; the accuracies and
        ``conversion`` are measured after conversion.

    Raises
    ------
    CheckpointError
        If a file of the run is missing or damaged.
    RunError
        If the run is unfinished, or ``out_dir`` holds a run and is not to be replaced, or is ``run_dir``.
    ValueError
        If the run cannot be converted, see :func:`convert_qcfs`.
    """
    folder = Path(out_dir)
    if folder.resolve() == Path(run_dir).resolve():
        raise RunError(f"{out_dir} holds the network to be converted; choose another folder")
    if not overwrite and any((folder / name).exists() for name in (CONFIG_FILE, RESUME_FILE)):
        raise RunError(f"{out_dir} already holds a run; choose another folder or overwrite")
    network, source = load_checkpoint(run_dir)
    if not source.finished:
        raise RunError(f"{run_dir} holds an unfinished run; train it to its end before conversion")
    if not isinstance(network, Network):
        raise RunError(
            f"{run_dir} holds {source.network.architecture}; only fully connected networks are converted"
        )
    converted = convert_qcfs(network, levels, steps)
    record = measure_conversion(source, converted, dataset)
    changes = {
        "network": converted.config,
        "best_accuracy": record.validation_accuracy,
        "test_accuracy": record.test_accuracy,
        "conversion": record,
    }
    (folder / RESUME_FILE).unlink(missing_ok=True)
    return save_checkpoint(folder, converted.state_dict(), source.model_copy(update=changes))


def _held_out(config: TrainingConfig, dataset: Dataset) -> torch.Tensor:
    count = round(config.validation_fraction * len(dataset.train_labels))
    return stratified_split(dataset.train_labels, count, config.seed)[1]
