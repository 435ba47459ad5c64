"""Windows of 16-bit floating point on a CPU: share by share in float32, by the passes in C."""

from __future__ import annotations

import torch

from . import native
from .window import WindowBlock

__all__ = ["HALF_TYPES", "backward_half", "forward_half"]

HALF_TYPES = (torch.bfloat16, torch.float16)


def forward_half(
    work: WindowBlock, currents: torch.Tensor, output: torch.Tensor, bits: torch.Tensor | None
) -> None:
    """Fire all neurons of ``currents``, (T, N), into ``output``, and mark the windows in ``bits``.

    A share is small enough for its float32 copy to stay in a cache: a whole one would cost more time than the neurons.
    """
    library = native.library()
    currents = currents.detach()  # threads of their own do not know that autograd is not to record this

    def run(_: int, start: int, stop: int) -> None:
        mixed = _mix(work, currents[:, start:stop].float())
        marks = None if bits is None else torch.zeros_like(bits[:, start:stop])
        count = stop - start
        mixed_at = native.pointer(mixed)
        library.forward(work.native_window(count), 0, count, mixed_at, mixed_at, native.pointer(marks))
        output[:, start:stop].copy_(mixed)
        if bits is not None and marks is not None:
            bits[:, start:stop] = marks

    native.over_neurons(work.neurons, run)


def backward_half(
    work: WindowBlock,
    upstream: torch.Tensor,
    currents: torch.Tensor | None,
    bits: torch.Tensor | None,
    found: torch.Tensor | None,
    learns_omega: bool,
    learns_leak: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``dI`` into ``found``; the sums for Ω and λ in float64, of the shares and then of all."""
    library = native.library()
    upstream, currents = upstream.detach(), None if currents is None else currents.detach()
    omega = None if work.omega is None else work.omega.contiguous()
    shares = native.share_count(work.neurons)
    sum_omega = torch.zeros((shares, work.steps, work.steps), dtype=torch.float64)
    sum_leak = torch.zeros(shares, dtype=torch.float64)

    def run(share: int, start: int, stop: int) -> None:
        count = stop - start
        wide = None if currents is None else currents[:, start:stop].float()
        mixed = _mix(work, wide) if learns_leak and wide is not None else None
        marks = None if bits is None else bits[:, start:stop].contiguous()
        part = None if found is None else torch.empty((work.steps, count))
        given = upstream[:, start:stop].float()
        tensors = (mixed, marks, given, wide if learns_omega else None, omega, part)
        sums = (sum_omega[share].data_ptr() if learns_omega else None, sum_leak[share].data_ptr())
        library.backward(work.native_window(count), 0, count, *map(native.pointer, tensors), *sums)
        if found is not None and part is not None:
            found[:, start:stop] = part

    native.over_neurons(work.neurons, run)
    return sum_omega.sum(dim=0), sum_leak.sum()


def _mix(work: WindowBlock, wide: torch.Tensor) -> torch.Tensor:
    """``J = Ω I``; autocast leaves an operation with ``out`` alone."""
    return wide if work.omega is None else torch.mm(work.omega, wide, out=torch.empty_like(wide))
