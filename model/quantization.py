"""Quantization-aware linear layer: trains with exactly the integer weights that the hardware will hold."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .checks import check_integer

__all__ = ["QuantLinear", "quantize_symmetric"]


def quantize_symmetric(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Round a weight to signed integers, symmetric about 0, with one scale per output channel.

    ``scale[n] = max|W[n]| / (2^(bits-1) - 1)`` and ``q = round(W / scale)``, half to even (NUMERICS.md, "From
    the trained network to the integers").

    Parameters
    ----------
    weight : torch.Tensor, shape (N, ...)
        Weight; the first dimension is the output channel.
    bits : int
        Width of the integers, sign included, 2 to 8.

    Returns
    -------
    q : torch.Tensor, the shape and type of ``weight``
        Integers from ``-(2^(bits-1) - 1)`` to ``2^(bits-1) - 1``.
    scale : torch.Tensor, shape (N,)
        Value of one integer step, above 0. A channel of zeros has scale 1.
    """
    limit = 2 ** (bits - 1) - 1
    scale = weight.flatten(1).abs().amax(dim=1) / limit
    # Besides a channel of zeros, this catches one so small that the division underflowed.
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    per_channel = scale.view(-1, *[1] * (weight.dim() - 1))
    return torch.round(weight / per_channel).clamp_(-limit, limit), scale


class _FakeQuantize(torch.autograd.Function):
    """``q * scale`` with the gradient passed straight through.

    A function of its own, since ``W + (q * scale - W)`` would not be exactly ``q * scale`` in floating point.
    """

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, bits: int) -> torch.Tensor:
        q, scale = quantize_symmetric(weight, bits)
        return q * scale.view(-1, *[1] * (weight.dim() - 1))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


class QuantLinear(nn.Linear):
    """Linear layer whose weight is quantized in the forward pass and trained straight through.

    Parameters
    ----------
    in_features, out_features : int
        Sizes, at least 1.
    bias : bool
        Whether a bias, kept in floating point, is added.
    weight_bits : int or None
        Width of the integer weights, 2 to 8; None leaves the weight in floating point.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument lies outside its range.
    """

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = False, weight_bits: int | None = 4
    ) -> None:
        check_integer("in_features", in_features, 1)
        check_integer("out_features", out_features, 1)
        if weight_bits is not None:
            check_integer("weight_bits", weight_bits, 2, 8)
        super().__init__(in_features, out_features, bias=bias)
        self.weight_bits = weight_bits

    def effective_weight(self) -> torch.Tensor:
        """Weight used by the forward pass, shape (N, J): ``q * scale``, or the plain weight without bits."""
        if self.weight_bits is None:
            return self.weight
        return _FakeQuantize.apply(self.weight, self.weight_bits)

    def integer_weight(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Integers and scales that the forward pass uses.

        Returns
        -------
        q : torch.Tensor of int64, shape (N, J)
            Signed weights, ``|q| <= 2^(weight_bits-1) - 1``.
        scale : torch.Tensor of float32, shape (N,)
            Value of one integer step per output channel, above 0.

        Raises
        ------
        ValueError
            If the layer is not quantized.
        """
        if self.weight_bits is None:
            raise ValueError("weight_bits must be between 2 and 8 for integer weights, not None")
        q, scale = quantize_symmetric(self.weight.detach(), self.weight_bits)
        return q.to(torch.int64), scale

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Apply the layer to the last dimension: (..., J) to (..., N)."""
        return F.linear(value, self.effective_weight(), self.bias)

    def extra_repr(self) -> str:
        """Arguments as shown by ``repr``."""
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}"
