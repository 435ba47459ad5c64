"""State of a training between two epochs, from which it resumes: one safetensors file, never pickle."""

from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from .checkpoint import CheckpointError, check_state
from .config import RunConfig, explain_validation_error
from .files import write_atomically
from .network import Network
from .parallel import Processes
from .spiking_network import SpikingNetwork

__all__ = ["RESUME_FILE", "TrainingState", "load_training_state", "read_training_run", "save_training_state"]

RESUME_FILE = "resume.safetensors"


@dataclass
class TrainingState:
    """What one epoch hands to the next.

    No random state is among it: all random numbers of an epoch come from a generator seeded with the run's
    seed and the epoch's number.

    Attributes
    ----------
    network : Network or SpikingNetwork
        Network in training.
    optimizer : torch.optim.Optimizer
        Its optimizer.
    best : dict of torch.Tensor
        Copy of the network's state after the best epoch so far.
    run : RunConfig or None
        Record of the run up to this epoch; None before the first.
    processes : Processes
        Who trains it together; no part of what is saved.
    """

    network: Network | SpikingNetwork
    optimizer: torch.optim.Optimizer
    best: dict[str, torch.Tensor]
    run: RunConfig | None = None
    processes: Processes = field(default_factory=Processes)


def save_training_state(run_dir: Path, state: TrainingState) -> None:
    """Write the state as one file, replaced at once: an interruption leaves the previous state or this."""
    assert state.run is not None, "there is nothing to save before the first epoch"
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    for index, slots in state.optimizer.state_dict()["state"].items():
        for slot, tensor in slots.items():
            if tensor is not None:
                tensors[f"optimizer.{index}.{slot}"] = tensor
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    content = safetensors.torch.save(own, metadata={"run": state.run.model_dump_json()})
    write_atomically(run_dir / RESUME_FILE, content)


def read_training_run(run_dir: Path) -> RunConfig:
    """Record of the run in its resume file.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    path = run_dir / RESUME_FILE
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return RunConfig.model_validate_json(metadata["run"])
    except ValidationError as error:
        raise CheckpointError(f"{path}: {explain_validation_error(error)}") from None
    except KeyError:
        raise CheckpointError(f"{path}: the record of the run is missing from its header") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a valid safetensors file ({error})") from None


def load_training_state(run_dir: Path, state: TrainingState) -> None:
    """Bring the fresh ``state`` to that of the resume file, in place.

    Raises
    ------
    CheckpointError
        If the file is damaged or belongs to another network.
    """
    path = run_dir / RESUME_FILE
    run = read_training_run(run_dir)
    groups: dict[str, dict[str, torch.Tensor]] = {"network": {}, "best": {}, "optimizer": {}}
    for name, tensor in safetensors.torch.load_file(path).items():
        group, _, rest = name.partition(".")
        if group not in groups:
            raise CheckpointError(f"{path}: tensor {name} is unknown")
        groups[group][rest] = tensor
    for group in ("network", "best"):
        check_state(path, groups[group], state.network.state_dict())
    state.network.load_state_dict(groups["network"])
    state.best = groups["best"]
    _load_optimizer(path, state.optimizer, groups["optimizer"])
    state.run = run


def _load_optimizer(path: Path, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, slot = name.partition(".")
        if not index.isdigit() or int(index) >= len(parameters):
            raise CheckpointError(
                f"{path}: tensor optimizer.{name} belongs to none of {len(parameters)} parameters"
            )
        expected = parameters[int(index)].shape
        if slot != "step" and tensor.shape != expected:
            found, allowed = tuple(tensor.shape), tuple(expected)
            raise CheckpointError(f"{path}: tensor optimizer.{name} has shape {found}, expected {allowed}")
        slots.setdefault(int(index), {})[slot] = tensor
    content = optimizer.state_dict()
    content["state"] = slots
    optimizer.load_state_dict(content)
