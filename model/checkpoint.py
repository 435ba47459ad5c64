"""Checkpoints: weights in ``model.safetensors``, everything else in ``config.json``, never pickle."""

import hashlib
from pathlib import Path

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError

from .config import RunConfig, explain_validation_error
from .files import write_atomically
from .network import Network
from .own_network import OwnNetworkError
from .spiking_network import SpikingNetwork
from .zoo import build_network

__all__ = ["CheckpointError", "load_checkpoint", "read_run_config", "save_checkpoint"]

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


class CheckpointError(ValueError):
    """A checkpoint is missing or damaged; the message names file, field, what was found and allowed."""


def save_checkpoint(run_dir: str | Path, state: dict[str, torch.Tensor], run: RunConfig) -> RunConfig:
    """Write a checkpoint, creating the folder if needed; each file is replaced at once.

    Parameters
    ----------
    run_dir : path
        Folder for ``model.safetensors`` and ``config.json``.
    state : dict of torch.Tensor
        ``network.state_dict()``.
    run : RunConfig
        Record of the run; its ``weights_sha256`` is replaced by that of the file written.

    Returns
    -------
    RunConfig
        The record as written.
    """
    folder = Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    # Cloned, since safetensors refuses one tensor under two names, as a layer used in two places has it.
    content = safetensors.torch.save(
        {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in state.items()
        }
    )
    run = run.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
    write_atomically(folder / WEIGHTS_FILE, content)
    write_atomically(folder / CONFIG_FILE, (run.model_dump_json(indent=2) + "\n").encode())
    return run


def read_run_config(run_dir: str | Path) -> RunConfig:
    """Read ``config.json`` of a run.

    Raises
    ------
    CheckpointError
        If it is missing, is no JSON, or a field is missing, unknown or out of range.
    """
    path = Path(run_dir) / CONFIG_FILE
    content = _read_bytes(path)
    try:
        return RunConfig.model_validate_json(content)
    except ValidationError as error:
        raise CheckpointError(f"{path}: {explain_validation_error(error)}") from None


def load_checkpoint(run_dir: str | Path) -> tuple[Network | SpikingNetwork, RunConfig]:
    """Load the network of a run, in evaluation mode on the CPU, and the record of the run.

    A network of the user's is built by the copy of their file in the folder: this runs it.

    Returns
    -------
    network : Network or SpikingNetwork
        The latter if it has convolutions (``run.network`` is a :class:`ConvNetworkConfig`).
    run : RunConfig
        The record.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged, or the weights are not those of the configuration.
    """
    run = read_run_config(run_dir)
    path = Path(run_dir) / WEIGHTS_FILE
    content = _read_bytes(path)
    state = parse_tensors(path, content)
    try:
        network = build_network(run.network, run_dir)
    except OwnNetworkError as error:
        raise CheckpointError(str(error)) from error
    check_state(path, state, network.state_dict())
    digest = hashlib.sha256(content).hexdigest()
    if digest != run.weights_sha256:
        raise CheckpointError(
            f"{path}: SHA-256 is {digest}, expected {run.weights_sha256} as {CONFIG_FILE} says"
        )
    network.load_state_dict(state)
    return network.eval(), run


def parse_tensors(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file already read; ``path`` is for the error message."""
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a valid safetensors file ({_one_line(error)})") from None


def check_state(path: Path, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Check names, shapes, types and values of ``state`` against the fresh state ``expected``.

    Raises
    ------
    CheckpointError
        At the first difference, or at a value that is not finite.
    """
    for name in expected:
        if name not in state:
            raise CheckpointError(f"{path}: tensor {name} is missing")
    for name, tensor in state.items():
        if name not in expected:
            raise CheckpointError(f"{path}: tensor {name} is unknown to the network of {CONFIG_FILE}")
        fresh = expected[name]
        if tensor.shape != fresh.shape:
            found, allowed = tuple(tensor.shape), tuple(fresh.shape)
            raise CheckpointError(f"{path}: tensor {name} has shape {found}, expected {allowed}")
        if tensor.dtype != fresh.dtype:
            raise CheckpointError(f"{path}: tensor {name} has type {tensor.dtype}, expected {fresh.dtype}")
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: tensor {name} has values that are not finite")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
