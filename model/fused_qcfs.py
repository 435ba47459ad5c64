"""QCFS, forward and backward, as the window of one step that it is: the passes of the neurons, and a sum for θ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .fused import backward_window, forward_window, in_rows
from .window import BLOCK_NEURONS, Staircase, compute_type

__all__ = ["fused_qcfs"]


@dataclass(frozen=True)
class _ClippedStaircase(Staircase):
    """A staircase whose gradient passes wherever it is not clipped."""

    def window(self, dtype: torch.dtype) -> tuple[float, float]:
        """From 0 to the last value below ``(L + 1) θ``; the other way round for a θ below 0."""
        end = torch.tensor((self.levels + 1) * self.theta, dtype=dtype)
        last = torch.nextafter(end, torch.zeros_like(end)).item()
        return min(0.0, last), max(0.0, last)


def fused_qcfs(z: torch.Tensor, theta: torch.Tensor, levels: int) -> torch.Tensor:
    """``a = θ clamp(floor(z Q / θ + 1/2) / Q, 0, 1)`` with the gradient passed straight through the floor.

    This is what a neuron with Q levels, threshold ``θ / Q`` and ``v[-1]`` half of it sends at its only step, and is
    computed so (Theorem 4.2). Backward, with ``g`` the gradient of ``a``::

        dz = g where 0 <= floor(z Q / θ + 1/2) <= Q, else 0
        dθ = (sum of g k θ / Q - sum of dz z) / θ, with k the step of the staircase, a = θ k / Q

    float64 is computed in float64, everything else in float32, also under autocast; the output is rounded to the type
    of ``z``. Both sums, which nearly cancel, are added up in float64.

    Parameters
    ----------
    z : torch.Tensor
        Input, floating point, in the units of θ; it need not be contiguous.
    theta : torch.Tensor, scalar
        Upper end θ.
    levels : int
        Steps Q of the staircase.

    Returns
    -------
    torch.Tensor, shape and type of ``z``
        ``a``, contiguous. Its gradient cannot be differentiated again: that raises a ``RuntimeError``.
    """
    output: torch.Tensor = _FusedQCFS.apply(z, theta, levels)
    return output


class _FusedQCFS(torch.autograd.Function):
    """Autograd's view of the activation."""

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, theta: torch.Tensor, levels: int) -> torch.Tensor:
        unit = theta.item() / levels
        ctx.staircase = _ClippedStaircase(unit, levels, unit / 2)
        output = forward_window(z.unsqueeze(0), None, torch.ones((), device=z.device), ctx.staircase)[0][0]
        ctx.save_for_backward(z, theta, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        z, theta, output = ctx.saved_tensors
        upstream, one = in_rows(gradients[0].unsqueeze(0)), torch.ones((1, 1), device=z.device)
        found, below, _ = backward_window(
            upstream, in_rows(z.unsqueeze(0)), None, one, one[0, 0], ctx.staircase, z.dtype
        )
        unit = ctx.staircase.theta
        sum_theta = (unit * _level_sum(upstream[0], output.flatten(), unit) - below[0, 0]) / theta
        return found.view(z.shape), sum_theta.to(theta.dtype), None


def _level_sum(upstream: torch.Tensor, output: torch.Tensor, unit: float) -> torch.Tensor:
    """``sum of g k`` in float64, of blocks in the type that windows are computed in."""
    size = BLOCK_NEURONS if upstream.is_cpu else max(1, len(upstream))
    kind = compute_type(upstream.dtype)
    blocks = zip(upstream.split(size), output.split(size), strict=True)
    # In half precision the output is not k units but what that was rounded to.
    sums = [torch.dot(g.to(kind), (a.to(kind) / unit).round_()) for g, a in blocks]
    return torch.stack(sums).double().sum()
