"""Quantization-aware layers: they train with exactly the integer weights that the hardware will hold."""

from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn import functional as F

from .checks import check_integer

__all__ = ["QuantConv2d", "QuantLinear", "quantize_module", "quantize_symmetric"]


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


class _QuantWeight(nn.Module):
    """What the quantized layers share: a ``weight`` that is rounded wherever it is used."""

    weight: torch.Tensor
    weight_bits: int | None

    def effective_weight(self) -> torch.Tensor:
        """Weight used by the forward pass, of the shape of ``weight``: ``q * scale``, or itself without bits."""
        if self.weight_bits is None:
            return self.weight
        return _FakeQuantize.apply(self.weight, self.weight_bits)

    def integer_weight(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Integers and scales that the forward pass uses.

        Returns
        -------
        q : torch.Tensor of int64, the shape of ``weight``
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

    def extra_repr(self) -> str:
        """Arguments as shown by ``repr``."""
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}"


class QuantLinear(_QuantWeight, nn.Linear):
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
        in_features = check_integer("in_features", in_features, 1)
        out_features = check_integer("out_features", out_features, 1)
        super().__init__(in_features, out_features, bias=bias)
        self.weight_bits = _check_bits(weight_bits)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Apply the layer to the last dimension: (..., J) to (..., N)."""
        return F.linear(value, self.effective_weight(), self.bias)


class QuantConv2d(_QuantWeight, nn.Conv2d):
    """Convolution whose weight is quantized in the forward pass and trained straight through.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels, at least 1.
    kernel_size, stride, padding, dilation, groups, bias, padding_mode
        As in :class:`torch.nn.Conv2d`, but for a bias only if asked for: batch norm mostly follows.
    weight_bits : int or None
        Width of the integer weights, 2 to 8; None leaves the weight in floating point. Every output channel has
        a scale of its own.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument lies outside its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        *,
        weight_bits: int | None = 4,
    ) -> None:
        in_channels = check_integer("in_channels", in_channels, 1)
        out_channels = check_integer("out_channels", out_channels, 1)
        weight_bits = _check_bits(weight_bits)
        shape = (kernel_size, stride, padding, dilation, groups)
        super().__init__(in_channels, out_channels, *shape, bias=bias, padding_mode=padding_mode)
        self.weight_bits = weight_bits

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Convolve: (rows, C, H, W) to (rows, N, H', W')."""
        if self.kernel_size == (1, 1) and self.padding in (0, (0, 0), "valid"):
            # The gradient of PyTorch 2.13 with a stride, channels-last and fewer than 16 channels writes outside its
            # memory: the pixels are chosen first.
            rows, columns = self.stride
            chosen = value[:, :, ::rows, ::columns]
            return nn.functional.conv2d(chosen, self.effective_weight(), self.bias, groups=self.groups)
        return self._conv_forward(value, self.effective_weight(), self.bias)


def quantize_module(module: nn.Module, weight_bits: int | None) -> nn.Module:
    """Replace every ``nn.Conv2d`` and ``nn.Linear`` in a module by its quantized version, in place.

    Weights and biases are taken over, the same parameters under the same names. A layer used in several places
    stays one layer; layers that are quantized already stay as they are.

    Parameters
    ----------
    module : torch.nn.Module
        Network, changed in place.
    weight_bits : int or None
        As in :class:`QuantLinear`.

    Returns
    -------
    torch.nn.Module
        The same module; where it is itself a layer to be replaced, its replacement.

    Raises
    ------
    TypeError
        If a layer is of a class derived from these: its own behaviour would be lost.
    ValueError
        If ``weight_bits`` lies outside its range.
    """
    weight_bits = _check_bits(weight_bits)
    replaced: dict[nn.Module, nn.Module] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not isinstance(layer, _QuantWeight):
            replaced[layer] = _quantized(name, layer, weight_bits)
    for parent in list(module.modules()):
        # Not named_children(), which leaves out the second name of a layer used twice.
        for name, child in parent._modules.items():
            if child in replaced:
                parent._modules[name] = replaced[child]
    return replaced.get(module, module)


def _quantized(name: str, layer: nn.Conv2d | nn.Linear, bits: int | None) -> nn.Module:
    has_bias = layer.bias is not None
    found: QuantConv2d | QuantLinear
    if type(layer) is nn.Linear:
        found = QuantLinear(layer.in_features, layer.out_features, bias=has_bias, weight_bits=bits)
    elif type(layer) is nn.Conv2d:
        found = QuantConv2d(
            layer.in_channels,
            layer.out_channels,
            cast("Any", layer.kernel_size),
            cast("Any", layer.stride),
            cast("Any", layer.padding),
            cast("Any", layer.dilation),
            layer.groups,
            has_bias,
            cast("Any", layer.padding_mode),
            weight_bits=bits,
        )
    else:
        raise TypeError(
            f"layer {name!r} must be an nn.Conv2d or nn.Linear itself, not a {type(layer).__name__}"
        )
    found.weight, found.bias = layer.weight, layer.bias
    return found.train(layer.training)


def _check_bits(weight_bits: int | None) -> int | None:
    return None if weight_bits is None else check_integer("weight_bits", weight_bits, 2, 8)
