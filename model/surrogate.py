"""Staircase of spike levels with its surrogate gradient, and rounding that passes the gradient on."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["RoundHalfUp", "StraightThrough", "SurrogateStaircase"]


class SurrogateStaircase(torch.autograd.Function):
    """``θ clamp(floor(m / θ), 0, L)`` with the rectangular surrogate gradient, 1 from θ/2 to (L + 1/2) θ."""

    @staticmethod
    def forward(ctx: Any, membrane: torch.Tensor, theta: float, levels: int) -> torch.Tensor:
        inside = (membrane >= theta / 2) & (membrane <= (levels + 0.5) * theta)
        ctx.save_for_backward(inside)
        return torch.floor(membrane / theta).clamp_(0, levels).mul_(theta)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


class RoundHalfUp(torch.autograd.Function):
    """``floor(x + 1/2)``, as hardware rounds, with the gradient passed straight through."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return torch.floor(value + 0.5)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


class StraightThrough(torch.autograd.Function):
    """A value that was rounded in whatever way, with the gradient of the value before."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None
