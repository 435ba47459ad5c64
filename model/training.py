"""Training with back-propagation through time: seeded, interruptible, and resumed to the same result."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch

from .activity import ActivityMeter
from .batches import Part, shuffled_batches, split_dataset
from .checkpoint import CONFIG_FILE, WEIGHTS_FILE, save_checkpoint
from .coding import seed_coding, uses_random_coding
from .config import ConversionRecord, ConvNetworkConfig, EpochRecord, NetworkConfig, RunConfig, TrainingConfig
from .data import Dataset
from .evaluation import evaluate
from .files import write_atomically
from .losses import training_loss
from .network import Network
from .own_network import OwnSource
from .parallel import current_processes, join_network
from .progress import TrainingProgress
from .quantization import QuantConv2d, QuantLinear
from .run_folder import RunError, find_earlier_run
from .run_state import RESUME_FILE, TrainingState, load_training_state, save_training_state
from .source_commit import source_commit
from .spike_fields import check_frames
from .spiking_network import SpikingNetwork
from .zoo import build_network

__all__ = ["RunError", "TrainingInterrupted", "train"]

# Stands in the record until the weights are written; 64 zeros are no file's digest.
NO_DIGEST = "0" * 64

# The first seed of input spikes: they must not follow the order of the images, which has the seeds below.
CODING_SEEDS = 2**52

# Distance between the seeds of two processes, beyond all others.
PROCESS_SEEDS = 2**53


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted from the keyboard; the state of the last whole epoch is saved."""


def train(
    network_config: NetworkConfig | ConvNetworkConfig,
    training_config: TrainingConfig,
    dataset: Dataset,
    out_dir: str | Path,
    *,
    resume: bool = True,
    overwrite: bool = False,
    progress: bool = True,
    device: str = "cpu",
    start: Mapping[str, torch.Tensor] | None = None,
    conversion: ConversionRecord | None = None,
    start_sha256: str | None = None,
    source: OwnSource | None = None,
) -> RunConfig:
    """Train a network and keep its best epoch in ``out_dir``.

    The best epoch is the last one whose validation accuracy is not below any earlier one. After every epoch
    the folder holds ``model.safetensors`` and ``config.json`` (see :func:`load_checkpoint`) and
    ``resume.safetensors``, which is removed at the end. On a CPU, with the same number of threads, an
    interrupted and resumed training gives bit-identical weights to an uninterrupted one.

    Where PyTorch's default process group is initialized, its processes train one network together: each calls this
    function with the same arguments but for ``device``, and computes its share of every batch. The first one alone
    writes files; all return the same record. Loss, gradients and batch statistics are those of one process with
    the whole batch, up to the order of sums.

    Parameters
    ----------
    network_config : NetworkConfig or ConvNetworkConfig
        Network to train; its image and its classes must be those of the data set.
    training_config : TrainingConfig
        Recipe; the number of processes divides its ``batch_size``.
    dataset : Dataset
        Images and labels.
    out_dir : path
        Folder of the run, created if needed, the same for all processes.
    resume : bool
        Whether an unfinished run of the same configuration in ``out_dir`` is continued, and a finished one
        returned as it is.
    overwrite : bool
        Whether a run in ``out_dir`` is removed and training starts anew.
    progress : bool
        Whether to show a progress bar if the error output is a terminal.
    device : str
        Where to compute, such as ``"cpu"`` or ``"cuda"``.
    start : mapping of torch.Tensor, optional
        State of a network of the same configuration, from which training starts; fresh weights if not given.
    conversion : ConversionRecord, optional
        Kept in the record of the run; says where ``start`` came from.
    start_sha256 : str, optional
        Likewise, SHA-256 of the weights' file where ``start`` is another run's.
    source : OwnSource, optional
        File of a network of the user's, of which ``out_dir`` gets a copy.

    Returns
    -------
    RunConfig
        The record of the run, as in ``config.json``.

    Raises
    ------
    ValueError
        If network and data set, or the start, do not suit each other, the user's network cannot be built, an activity
        penalty is asked for without LM-HT neurons, or batches or batch norms cannot be shared among the processes.
    RunError
        If ``out_dir`` holds another run, or the loss is no longer finite.
    CheckpointError
        If a file of the run to be continued is damaged.
    ProcessLostError
        If another process has ended.
    TrainingInterrupted
        On Ctrl-C; calling again continues after the last whole epoch.
    """
    processes = current_processes()
    _check_suits(network_config, dataset)
    folder = Path(out_dir)
    part = split_dataset(training_config, dataset, torch.device(device))
    processes.check_batch(min(training_config.batch_size, len(part.images)))
    # Before anything is removed: a network of the user's may fail.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training_config.seed)
        network = build_network(network_config, folder, source)
    if training_config.activity_penalty:
        ActivityMeter(network)
    join_network(network, processes)
    wanted = RunConfig(
        dataset=dataset.name,
        network=network_config,
        training=training_config,
        finished=False,
        best_epoch=1,
        best_accuracy=None,
        test_accuracy=None,
        weights_sha256=NO_DIGEST,
        history=(),
        conversion=conversion,
        start_sha256=start_sha256,
        commit=source_commit(),
    )
    if overwrite:
        # In this order an interruption leaves a folder that is refused or that holds no run.
        for name in (RESUME_FILE, CONFIG_FILE, WEIGHTS_FILE):
            (folder / name).unlink(missing_ok=True)
    with processes.watch():
        # All read what is there after all have removed it, and before the first one writes.
        processes.wait()
        earlier = find_earlier_run(folder, wanted, resume)
        processes.wait()
    if earlier is not None and earlier.finished:
        (folder / RESUME_FILE).unlink(missing_ok=True)
        return earlier
    state = _fresh_state(network.to(part.device), training_config)
    state.processes = processes
    if start is not None:
        _load_start(state.network, start)
    if earlier is not None:
        load_training_state(folder, state)
    if processes.is_first:
        folder.mkdir(parents=True, exist_ok=True)
        if source is not None:
            write_atomically(folder / source.path.name, source.content)
    with processes.watch():
        run = _train_epochs(folder, state, wanted, part, progress)
        return processes.first(lambda: _finish(folder, state, run, dataset))


def _load_start(network: Network | SpikingNetwork, start: Mapping[str, torch.Tensor]) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in sorted(shapes.keys() | start.keys()):
        found = tuple(start[name].shape) if name in start else "none"
        if found != shapes.get(name, "none"):
            raise ValueError(f"start must have for {name} the shape {shapes.get(name, 'none')}, not {found}")
    network.load_state_dict(start)


def _check_suits(config: NetworkConfig | ConvNetworkConfig, dataset: Dataset) -> None:
    if config.input_shape != dataset.input_shape:
        raise ValueError(
            f"input_shape must be {dataset.input_shape} for data set {dataset.name}, not {config.input_shape}"
        )
    check_frames(config, dataset)
    if isinstance(config, ConvNetworkConfig):
        if config.classes != len(dataset.classes):
            raise ValueError(
                f"classes must be {len(dataset.classes)}, those of data set {dataset.name}, not {config.classes}"
            )
    elif config.widths[-1] != len(dataset.classes):
        raise ValueError(
            f"architecture must end with {len(dataset.classes)}, the classes of data set {dataset.name}, "
            f"not {config.widths[-1]}"
        )


def _fresh_state(network: Network | SpikingNetwork, config: TrainingConfig) -> TrainingState:
    quantized = (QuantLinear, QuantConv2d)
    # By their identity: two layers may share a weight.
    weights = {id(layer.weight): layer.weight for layer in network.modules() if isinstance(layer, quantized)}
    others = [parameter for parameter in network.parameters() if id(parameter) not in weights]
    groups = [
        {"params": list(weights.values()), "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    else:
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    return TrainingState(network, optimizer, best={})


def _train_epochs(
    folder: Path, state: TrainingState, wanted: RunConfig, part: Part, progress: bool
) -> RunConfig:
    config = wanted.training
    run = state.run or wanted
    updates = max(1, len(part.images) // config.batch_size)
    done = len(run.history)
    processes = state.processes
    with TrainingProgress(config.epochs, updates, done, enabled=progress and processes.is_first) as bar:
        try:
            while len(run.history) < config.epochs and not _has_stalled(run):
                with torch.random.fork_rng(devices=[]):
                    record = _train_epoch(state, config, part, len(run.history) + 1, updates, bar)
                run = _add_record(state, run, record)
                state.run = run
                if processes.is_first:
                    save_training_state(folder, state)
                    run = save_checkpoint(folder, state.best, run)
                bar.epoch(record, run.best_accuracy)
        except KeyboardInterrupt:
            saved = f"{len(run.history)} of {config.epochs} epochs are saved in {folder}"
            raise TrainingInterrupted(f"training was interrupted; {saved}") from None
    return run


def _train_epoch(
    state: TrainingState, config: TrainingConfig, part: Part, epoch: int, updates: int, bar: TrainingProgress
) -> EpochRecord:
    processes = state.processes
    state.network.train()
    # Of its own for order and augmentation; what the network draws, such as dropout, comes from the global one.
    seed = config.seed * 1_000_003 + epoch
    generator = torch.Generator().manual_seed(seed)
    # A module's own draws, such as those of dropout, must not be the same for the images of every process.
    torch.manual_seed(seed + processes.rank * PROCESS_SEEDS)
    coding_seed = seed + CODING_SEEDS if uses_random_coding(state.network) else None
    if coding_seed is not None:
        seed_coding(state.network, coding_seed)
    loss_sum = torch.zeros((), dtype=torch.float64, device=part.device)
    correct = torch.zeros((), dtype=torch.int64, device=part.device)
    seen = 0
    rate = 0.0
    for update, batch in enumerate(shuffled_batches(config, part, updates, generator)):
        images, labels = (processes.share(tensor) for tensor in batch)
        rate = _learning_rate(config, (epoch - 1) * updates + update, updates)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        meter = ActivityMeter(state.network) if config.activity_penalty else nullcontext()
        with meter, torch.autocast(part.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = state.network(images).float()
        loss = training_loss(config, logits, labels, state.network.peak)
        if isinstance(meter, ActivityMeter):
            loss = loss + config.activity_penalty * meter.mean_level()
        state.optimizer.zero_grad()
        loss.backward()
        processes.average_gradients(state.network)
        state.optimizer.step()
        seen += len(labels)
        loss_sum += loss.detach() * len(labels)
        # Of mixed images, the class of the larger share.
        wanted = labels.argmax(dim=1) if labels.is_floating_point() else labels
        correct += (logits.detach().argmax(dim=1) == wanted).sum()
        bar.update()
    processes.sum(loss_sum, correct)
    seen *= processes.count
    mean_loss = loss_sum.item() / seen
    if not math.isfinite(mean_loss):
        raise RunError(
            f"the loss is {mean_loss} in epoch {epoch}; lower learning_rate, now {config.learning_rate}"
        )
    held = len(part.held_labels) > 0
    accuracy = (
        processes.first(lambda: evaluate(state.network, part.held_images, part.held_labels)) if held else None
    )
    return EpochRecord(
        epoch=epoch,
        loss=mean_loss,
        train_accuracy=correct.item() / seen,
        validation_accuracy=accuracy,
        learning_rate=rate,
        coding_seed=coding_seed,
    )


def _learning_rate(config: TrainingConfig, update: int, updates: int) -> float:
    """Rate of one update: linear rise over the warm-up, then half a cosine to 0 at the end of training."""
    warmup = min(config.warmup_epochs, config.epochs) * updates
    if update < warmup:
        return config.learning_rate * (update + 1) / (warmup + 1)
    position = (update - warmup) / (config.epochs * updates - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * position))


def _add_record(state: TrainingState, run: RunConfig, record: EpochRecord) -> RunConfig:
    """Add an epoch to the run, and keep its weights if no epoch was better."""
    accuracy = record.validation_accuracy
    changes: dict[str, object] = {"history": (*run.history, record)}
    if accuracy is None or run.best_accuracy is None or accuracy >= run.best_accuracy:
        state.best = {name: tensor.detach().clone() for name, tensor in state.network.state_dict().items()}
        changes |= {"best_epoch": record.epoch, "best_accuracy": accuracy}
    return run.model_copy(update=changes)


def _has_stalled(run: RunConfig) -> bool:
    patience = run.training.early_stopping
    return patience is not None and len(run.history) - run.best_epoch >= patience


def _finish(folder: Path, state: TrainingState, run: RunConfig, dataset: Dataset) -> RunConfig:
    state.network.load_state_dict(state.best)
    accuracy = evaluate(state.network, dataset.test_images, dataset.test_labels)
    run = save_checkpoint(
        folder, state.best, run.model_copy(update={"finished": True, "test_accuracy": accuracy})
    )
    (folder / RESUME_FILE).unlink(missing_ok=True)
    return run
