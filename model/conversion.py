"""Conversion of a QCFS network into a spiking one, layer by layer (MODEL.md, "Hybrid training", step 2)."""

import copy
from pathlib import Path
from typing import Any, overload

import torch

from .checkpoint import CONFIG_FILE, load_checkpoint, save_checkpoint
from .checks import check_integer
from .config import ConversionRecord, ConvNetworkConfig, NetworkConfig, RunConfig, TrainingConfig
from .data import Dataset, stratified_split
from .evaluation import evaluate
from .files import write_atomically
from .module_conversion import replace_qcfs
from .network import Network, QCFSLayer
from .own_network import read_own_source
from .qcfs_network import QCFSNetwork
from .run_folder import RunError
from .run_state import RESUME_FILE
from .spiking_network import SpikingNetwork

__all__ = ["convert_qcfs", "convert_run", "convert_with_config", "measure_conversion"]


@overload
def convert_qcfs(network: Network, levels: int, steps: int) -> Network: ...


@overload
def convert_qcfs(network: QCFSNetwork, levels: int, steps: int) -> SpikingNetwork: ...


def convert_qcfs(network: Network | QCFSNetwork, levels: int, steps: int) -> Network | SpikingNetwork:
    """Replace every QCFS by LM-HT neurons of L levels and T steps; weights and batch norms stay.

    With the upper end ``θ_q`` that a layer learned, its neurons get ``θ = θ_q / L``, ``v[-1] = θ / 2``,
    ``Ω = 1/T`` and ``λ = 1``. Both then reach up to ``θ_q``: QCFS in one pass, the neurons as the largest mean
    of ``θ k[t]`` over the window, ``L θ``. With ``J = sum_u I[u] / T`` the levels of a window sum to
    ``clamp(floor((T J + θ/2) / θ), 0, L T)``, so that (Theorem 4.2 (ii))::

        mean_t θ k[t] = θ_q clamp(floor(J L T / θ_q + 1/2) / (L T), 0, 1)

    which is QCFS of ``J`` where ``Q = L T``. The next layer's currents have the same mean, since weights, batch
    norm, average pooling and residual sums are affine: the whole network then computes what the QCFS network does, up
    to rounding. For any other Q, L and T both have the same expectation (Theorem 4.4).

    Parameters
    ----------
    network : Network or QCFSNetwork
        With ``activation="qcfs"``; it is left as it is.
    levels, steps : int
        L and T of the spiking network, at least 1.

    Returns
    -------
    Network or SpikingNetwork
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
    return convert_with_config(network, levels, steps)[0]


def convert_with_config(
    network: Network | QCFSNetwork, levels: int, steps: int
) -> tuple[Network | SpikingNetwork, NetworkConfig | ConvNetworkConfig]:
    """What :func:`convert_qcfs` gives, and the configuration from which :func:`build_network` builds the same."""
    levels = check_integer("levels", levels, 1)
    steps = check_integer("steps", steps, 1)
    if network.config.activation != "qcfs":
        raise ValueError(f"activation must be qcfs for conversion, not {network.config.activation}")
    spiking = {"activation": "lmht", "levels": levels, "steps": steps, "quanta": None, "theta": None}
    if isinstance(network, QCFSNetwork):
        return _convert_module(network, spiking)
    return _convert_layers(network, spiking)


def _convert_layers(network: Network, spiking: dict[str, Any]) -> tuple[Network, NetworkConfig]:
    thetas = []
    for index, layer in enumerate(network.layers):
        if isinstance(layer, QCFSLayer):
            upper_end = layer.activation.theta.item()
            if upper_end <= 0:
                raise ValueError(f"layer {index}: theta must be above 0 for conversion, not {upper_end:g}")
            thetas.append(upper_end / spiking["levels"])
    changes = spiking | {"thetas": thetas, "initial_membranes": [theta / 2 for theta in thetas]}
    converted = Network(NetworkConfig.model_validate(network.config.model_dump() | changes))
    state = {name: value for name, value in network.state_dict().items() if ".activation." not in name}
    # What is new, the logits of Ω and λ, begins with zeros: Ω = 1/T and λ = 1.
    converted.load_state_dict(converted.state_dict() | state)
    return converted.eval(), converted.config


def _convert_module(
    network: QCFSNetwork, spiking: dict[str, Any]
) -> tuple[SpikingNetwork, ConvNetworkConfig]:
    config = network.config
    module = copy.deepcopy(network.module).cpu()
    replace_qcfs(module, spiking["levels"], spiking["steps"], mixing=config.mixing, leak=config.leak)
    converted = SpikingNetwork(module, input_shape=config.input_shape, classes=config.classes).eval()
    neurons = converted.neurons()
    changes = spiking | {
        "thetas": {name: neuron.theta for name, neuron in neurons.items()},
        "initial_membranes": {name: neuron.initial_membrane for name, neuron in neurons.items()},
    }
    return converted, ConvNetworkConfig.model_validate(config.model_dump() | changes)


def measure_conversion(
    source: RunConfig, converted: Network | SpikingNetwork, dataset: Dataset | None = None
) -> ConversionRecord:
    """Record of a conversion, with the accuracies before fine-tuning if the data set is at hand.

    Parameters
    ----------
    source : RunConfig
        Record of the QCFS network's run.
    converted : Network or SpikingNetwork
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
    if source.network.activation != "qcfs":
        raise RunError(f"{run_dir}: activation must be qcfs for conversion, not {source.network.activation}")
    assert isinstance(network, Network | QCFSNetwork)
    converted, config = convert_with_config(network, levels, steps)
    record = measure_conversion(source, converted, dataset)
    changes = {
        "network": config,
        "best_accuracy": record.validation_accuracy,
        "test_accuracy": record.test_accuracy,
        "conversion": record,
    }
    (folder / RESUME_FILE).unlink(missing_ok=True)
    if isinstance(config, ConvNetworkConfig) and config.is_own:
        own = read_own_source(config.net, run_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / own.path.name, own.content)
    return save_checkpoint(folder, converted.state_dict(), source.model_copy(update=changes))


def _held_out(config: TrainingConfig, dataset: Dataset) -> torch.Tensor:
    count = round(config.validation_fraction * len(dataset.train_labels))
    return stratified_split(dataset.train_labels, count, config.seed)[1]
