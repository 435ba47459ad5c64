"""Hybrid training: a QCFS network, its conversion, and fine-tuning with STBP (MODEL.md, "Hybrid training")."""

from pathlib import Path

from .checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_checkpoint
from .config import ConvNetworkConfig, NetworkConfig, RunConfig, TrainingConfig
from .conversion import convert_with_config, measure_conversion
from .data import Dataset
from .network import Network
from .own_network import OwnSource, read_own_source
from .qcfs_network import QCFSNetwork
from .run_state import RESUME_FILE
from .training import train

__all__ = ["QCFS_FOLDER", "default_fine_tuning_config", "train_hybrid"]

QCFS_FOLDER = "qcfs"
"""Subfolder of a hybrid run that holds the run of its QCFS network."""


def default_fine_tuning_config(
    training: TrainingConfig, *, epochs: int | None = None, learning_rate: float | None = None
) -> TrainingConfig:
    """Recipe of the fine-tuning that follows ``training``: a tenth of its epochs and learning rate, no warm-up.

    The paper fine-tunes for 30 epochs after 300. Batches, augmentation, seed and the images held out stay the
    same.

    Parameters
    ----------
    training : TrainingConfig
        Recipe of the QCFS network.
    epochs : int, optional
        Epochs of fine-tuning.
    learning_rate : float, optional
        Its highest learning rate.

    Raises
    ------
    pydantic.ValidationError
        A ValueError, if one of them lies outside its range.
    """
    changes = {
        "epochs": max(1, round(training.epochs / 10)) if epochs is None else epochs,
        "learning_rate": training.learning_rate / 10 if learning_rate is None else learning_rate,
        "warmup_epochs": 0.0,
    }
    return TrainingConfig.model_validate(training.model_dump() | changes)


def train_hybrid(
    network_config: NetworkConfig | ConvNetworkConfig,
    training_config: TrainingConfig,
    dataset: Dataset,
    out_dir: str | Path,
    *,
    fine_tuning: TrainingConfig | None = None,
    overwrite: bool = False,
    progress: bool = True,
    device: str = "cpu",
    source: OwnSource | None = None,
) -> RunConfig:
    """Train a QCFS network, convert it, and fine-tune the spiking network.

    ``out_dir/qcfs`` becomes the run of the QCFS network, ``out_dir`` that of the spiking one; its record says
    what either reached and how accurate the network was between conversion and fine-tuning. An interrupted call goes
    on where it was, in any of the stages, and gives the same result.

    Parameters
    ----------
    network_config : NetworkConfig or ConvNetworkConfig
        The QCFS network, with ``activation="qcfs"``; its ``levels`` and ``steps`` are those of the spiking
        network.
    training_config : TrainingConfig
        Recipe of the QCFS network, but for its ``activity_penalty``: that is for the fine-tuning, where there are
        spikes.
    dataset : Dataset
        Images and labels.
    out_dir : path
        Folder of the run, created if needed.
    fine_tuning : TrainingConfig, optional
        Recipe of the fine-tuning; :func:`default_fine_tuning_config` by default.
    overwrite, progress, device, source
        As in :func:`lmht.model.train`, for both trainings.

    Returns
    -------
    RunConfig
        The record of the spiking network's run.

    Raises
    ------
    ValueError
        If the configuration is not one of a QCFS network, does not suit the data set, the network holds what cannot
        be converted, or a threshold was learned that is not above 0.
    RunError, CheckpointError, TrainingInterrupted
        As in :func:`lmht.model.train`.
    """
    if network_config.activation != "qcfs":
        raise ValueError(f"activation must be qcfs for hybrid training, not {network_config.activation}")
    folder = Path(out_dir)
    if overwrite:
        # Before the QCFS network: an interruption must not leave an old result beside its new source.
        for name in (RESUME_FILE, CONFIG_FILE, WEIGHTS_FILE):
            (folder / name).unlink(missing_ok=True)
    qcfs_run = train(
        network_config,
        training_config.model_copy(update={"activity_penalty": 0.0}),
        dataset,
        folder / QCFS_FOLDER,
        overwrite=overwrite,
        progress=progress,
        device=device,
        source=source,
    )
    network, _ = load_checkpoint(folder / QCFS_FOLDER)
    if isinstance(network_config, ConvNetworkConfig) and network_config.is_own:
        source = source or read_own_source(network_config.net, folder / QCFS_FOLDER)
    assert isinstance(network, Network | QCFSNetwork)
    converted, config = convert_with_config(network, network_config.levels, network_config.steps)
    return train(
        config,
        fine_tuning or default_fine_tuning_config(training_config),
        dataset,
        folder,
        progress=progress,
        device=device,
        start=converted.state_dict(),
        conversion=measure_conversion(qcfs_run, converted, dataset),
        source=source,
    )
