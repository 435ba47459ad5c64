"""Batch norm whose statistics run over the batches of all processes, on any device."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.distributed import all_gather, all_reduce, get_world_size
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from .normalization import TimeBatchNorm

__all__ = ["JOINED_NORMS", "JoinedBatchNorm", "join_norms"]


class JoinedBatchNorm(_BatchNorm):
    """What becomes of a batch norm in data-parallel training: it computes as one process with all rows would.

    In training, mean and variance, their running averages and the gradient are those of the rows of all processes of
    the default process group, each of which must have as many. In evaluation it is an ordinary batch norm, and needs
    no other process. :class:`torch.nn.SyncBatchNorm` does the same on a GPU only.
    """

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Normalize ``value`` of shape (rows, C, ...); the shape is kept."""
        self._check_input_dim(value)
        if not self.training:
            return super().forward(value)
        rows = value.numel() // value.shape[1] * get_world_size()
        mean, variance = _joined_statistics(value.detach())
        self._follow(mean, variance * (rows / max(1, rows - 1)))
        return _Normalize.apply(value, self.weight, self.bias, mean, variance, rows, self.eps)

    @torch.no_grad()
    def _follow(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Move the running averages towards the statistics of a batch."""
        if not self.track_running_stats:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        part = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.mul_(1 - part).add_(mean, alpha=part)
        self.running_var.mul_(1 - part).add_(variance, alpha=part)


class _Joined1d(nn.BatchNorm1d, JoinedBatchNorm):
    pass


class _Joined2d(nn.BatchNorm2d, JoinedBatchNorm):
    pass


class _Joined3d(nn.BatchNorm3d, JoinedBatchNorm):
    pass


# Its forward merges steps and batch, and goes on to that of JoinedBatchNorm.
class _JoinedTime(TimeBatchNorm, JoinedBatchNorm):
    pass


_JOINED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _Joined1d,
    nn.BatchNorm2d: _Joined2d,
    nn.BatchNorm3d: _Joined3d,
    TimeBatchNorm: _JoinedTime,
}

JOINED_NORMS = (_Joined1d, _Joined2d)
"""What ``nn.BatchNorm1d`` and ``nn.BatchNorm2d`` become: the same, but in training."""


def join_norms(network: nn.Module) -> None:
    """Turn every batch norm of a network into a :class:`JoinedBatchNorm`, in place; names and tensors stay.

    Raises
    ------
    ValueError
        If a batch norm is of another class, whose own behaviour would be lost.
    """
    for name, part in network.named_modules():
        if not isinstance(part, _BatchNorm) or isinstance(part, JoinedBatchNorm):
            continue
        if type(part) not in _JOINED:
            raise ValueError(
                f"batch norm {name!r} must be an nn.BatchNorm1d, BatchNorm2d, BatchNorm3d or TimeBatchNorm itself to "
                f"be trained by several processes, not a {type(part).__name__}"
            )
        part.__class__ = _JOINED[type(part)]  # type: ignore[assignment]


def _joined_statistics(value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance (divided by the number of rows) of each channel over all processes, each of shape (C,)."""
    # In float32 for bfloat16 too: the type of the result is that of the averages, which are not used otherwise. This
    # is the pass that torch's own batch norm makes, several times as fast as torch.var_mean on channels-last maps.
    kind = torch.promote_types(value.dtype, torch.float32)
    unused = torch.zeros(2, value.shape[1], dtype=kind, device=value.device)
    own = torch.stack(torch.batch_norm_update_stats(value, unused[0], unused[1], 0.0))
    found = [torch.empty_like(own) for _ in range(get_world_size())]
    all_gather(found, own)
    means, variances = torch.stack(found).unbind(dim=1)
    mean = means.mean(dim=0)
    return mean, (variances + (means - mean).square()).mean(dim=0)


class _Normalize(torch.autograd.Function):
    """``y = w x̂ + b`` with ``x̂ = (x - mean) / sqrt(variance + eps)``, differentiated through the statistics.

    With ``g`` the gradient of ``y``, and means over the N rows of all processes::

        dx = w / sqrt(variance + eps) (g - mean(g) - x̂ mean(g x̂))
        dw = sum over own rows of g x̂
        db = sum over own rows of g
    """

    @staticmethod
    def forward(
        ctx: Any,
        value: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        mean: torch.Tensor,
        variance: torch.Tensor,
        rows: int,
        eps: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(value, weight, mean, variance)
        ctx.rows, ctx.eps = rows, eps
        return F.batch_norm(value, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        value, weight, mean, variance = ctx.saved_tensors
        factor = torch.ones_like(mean) if weight is None else weight
        # As if the statistics were constants; what they add to it follows.
        toward_value, toward_weight, toward_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], value, factor, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack((toward_bias, toward_weight)).to(mean.dtype)
        all_reduce(sums)
        inverse = torch.rsqrt(variance + ctx.eps)
        shift, slope = factor * inverse / ctx.rows * sums
        slope = slope * inverse
        shape = (1, -1, *[1] * (value.dim() - 2))
        correction = torch.addcmul((shift - slope * mean).view(shape), value, slope.view(shape))
        return (
            toward_value.sub_(correction),
            None if weight is None else toward_weight,
            toward_bias if ctx.needs_input_grad[2] else None,
            *[None] * 4,
        )
