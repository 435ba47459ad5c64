"""Data-parallel training: several processes, each with its share of every batch, that train one network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from .coding import BernoulliCoding
from .joined_norm import join_norms

__all__ = ["ProcessLostError", "Processes", "current_processes", "join_network", "torchrun_processes"]

_T = TypeVar("_T")


class ProcessLostError(RuntimeError):
    """Another process of a training has ended, and this one cannot go on without it."""


@dataclass(frozen=True)
class Processes:
    """The processes of a training, as one of them sees them; by default it is alone.

    All methods but :meth:`share` must be called by every process, in the same order.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    count : int
        How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    def check_batch(self, size: int) -> None:
        """Refuse batches that cannot be shared equally.

        Raises
        ------
        ValueError
            If the number of processes does not divide the size of a batch.
        """
        if size % self.count:
            raise ValueError(
                f"batch_size, or all training images where they are fewer, must be divisible by {self.count}, the "
                f"number of processes, not {size}"
            )

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """Rows of a joined batch, shape (B, ...), that are this process's: B / count of them, in order of rank."""
        return batch if self.count == 1 else batch.chunk(self.count)[self.rank]

    def sum(self, *totals: torch.Tensor) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.count > 1:
            for total in totals:
                dist.all_reduce(total)

    def first(self, work: Callable[[], _T]) -> _T:
        """Let the first process alone do some work, and hand its result, of any type, to all."""
        if self.count == 1:
            return work()
        results: list[Any] = [work() if self.is_first else None]
        dist.broadcast_object_list(results)
        return results[0]

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.count > 1:
            dist.barrier()

    def average_gradients(self, network: nn.Module) -> None:
        """Replace the gradients of a network by their means over all processes.

        A parameter without a gradient, as a user's network may have it, has none in any process.
        """
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        # Not torch's DistributedDataParallel: it keeps the threads of a closed group alive, which may abort a program
        # that ends. Its gain, sums that run beside the backward pass, is small for networks of these sizes.
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(joined)
        joined.div_(self.count)
        for gradient, mean in zip(gradients, joined.split([part.numel() for part in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Turn what PyTorch raises in the block when another process has ended into a :class:`ProcessLostError`."""
        try:
            yield
        except RuntimeError as error:
            if self.count > 1 and _tells_of_loss(error):
                raise ProcessLostError(
                    f"process {self.rank} of {self.count} cannot go on: another one has ended"
                ) from error
            raise


def _tells_of_loss(error: RuntimeError) -> bool:
    # Gloo has no exceptions of its own.
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def current_processes() -> Processes:
    """The processes of PyTorch's default process group; one alone where there is no group."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return Processes()


@contextmanager
def torchrun_processes(device: str) -> Iterator[tuple[Processes, str]]:
    """Join the processes that ``torchrun`` started, for the length of a block.

    Parameters
    ----------
    device : str
        Where to compute; for several processes ``"cpu"`` or ``"cuda"``, of which each takes the GPU with its number
        on its machine.

    Yields
    ------
    Processes
        This process alone if ``torchrun`` did not start it, or started no other.
    str
        Device of this process.

    Raises
    ------
    ValueError
        If the device is another, or there is none for this process.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield Processes(), device
        return
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda for several processes, not {device!r}")
    if device == "cuda":
        number = int(os.environ["LOCAL_RANK"])
        if number >= torch.cuda.device_count():
            raise ValueError(
                f"device must be cpu for more processes than the {torch.cuda.device_count()} GPUs of a machine, "
                "not 'cuda'"
            )
        torch.cuda.set_device(number)
        device = f"cuda:{number}"
    dist.init_process_group("gloo" if device == "cpu" else "nccl")
    try:
        yield current_processes(), device
    finally:
        dist.destroy_process_group()


def join_network(network: nn.Module, processes: Processes) -> None:
    """Make a network compute in training as one process with the joined batch would, in place.

    Batch norms take the statistics of all processes (:class:`~lmht.model.joined_norm.JoinedBatchNorm`), and random
    input spikes are those of the joined batch. What a module of the user's draws itself, such as dropout, stays its
    own, and so do means over the batch that are no batch norm's.

    Raises
    ------
    ValueError
        As :func:`~lmht.model.joined_norm.join_norms`.
    """
    if processes.count == 1:
        return
    join_norms(network)
    for part in network.modules():
        if isinstance(part, BernoulliCoding):
            part.__class__ = _JoinedCoding


class _JoinedCoding(BernoulliCoding):
    """In training, the spikes of this process's images are drawn among those of the joined batch."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Draw the spikes: (B, ...) to (T B, ...)."""
        if not self.training:
            return super().forward(images)
        processes = current_processes()
        # A uniform number belongs to a place in the joined batch; only this process's are looked at.
        spikes = super().forward(images.repeat(processes.count, *[1] * (images.dim() - 1)))
        return spikes.unflatten(0, (self.steps, processes.count, -1))[:, processes.rank].flatten(0, 1)
