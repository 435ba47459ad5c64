"""Which function, method or module without weights is which operation of the capture."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lmht.gen import capture_pooling as pooling
from lmht.gen.capture_values import Currents, Spikes, UnmappedError, Value
from lmht.gen.capture_weights import add_currents
from lmht.gen.input_affine import apply_constant
from lmht.model import LMHT, QCFS, TimeBatchNorm

__all__ = ["FUNCTIONS", "METHODS", "REASONS", "WEIGHTLESS", "asks_for_size"]


def _add(input: Any, other: Any, *, alpha: float = 1) -> Value:
    if isinstance(input, int) and input == 0 and isinstance(other, Spikes | Currents):
        return other  # where the built-in sum() begins
    if not (isinstance(input, Spikes | Currents) and isinstance(other, Spikes | Currents)):
        if alpha != 1:
            raise UnmappedError(f"alpha {alpha} is not mapped; leave it out")
        return _with_constant(lambda value, constant: apply_constant(value, offset=constant), input, other)
    if alpha != 1:
        raise UnmappedError(f"alpha {alpha} is not mapped; leave it out")
    return add_currents(input, other)


def _subtract(input: Any, other: Any) -> Value:
    if isinstance(input, Spikes | Currents):
        return apply_constant(input, offset=-_number(other))
    return apply_constant(other, gain=-1.0, offset=_number(input))


def _multiply(input: Any, other: Any) -> Value:
    return _with_constant(lambda value, constant: apply_constant(value, gain=constant), input, other)


def _divide(input: Any, other: Any) -> Value:
    divisor = _number(other)
    if not (divisor != 0).all():
        raise UnmappedError("the image must not be divided by 0")
    return apply_constant(input, gain=1 / divisor)


def _with_constant(rule: Callable[[Value, Any], Value], input: Any, other: Any) -> Value:
    """Of two operands the value and the constant, in whichever order they come."""
    first = isinstance(input, Spikes | Currents)
    return rule(input, _number(other)) if first else rule(other, _number(input))


def _number(constant: Any) -> Any:
    if isinstance(constant, Spikes | Currents):
        raise UnmappedError(
            "two branches of the network can be added, and no more; multiply by constants only"
        )
    return np.asarray(constant, dtype=np.float64)


def _same(input: Value) -> Value:
    return input


FUNCTIONS: dict[object, Callable[..., Value]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add), _add),
    **dict.fromkeys((operator.sub, torch.sub), _subtract),
    **dict.fromkeys((operator.mul, torch.mul), _multiply),
    **dict.fromkeys((operator.truediv, torch.div), _divide),
    **dict.fromkeys((F.avg_pool2d, torch._C._nn.avg_pool2d), pooling.avg_pool),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), pooling.max_pool),
    F.adaptive_avg_pool2d: pooling.adaptive_avg_pool,
    F.adaptive_max_pool2d: pooling.adaptive_max_pool,
    torch.mean: pooling.global_mean,
    **dict.fromkeys((torch.flatten, torch.reshape), pooling.flatten),
    **dict.fromkeys((F.dropout, F.dropout2d, torch.dropout), pooling.dropout),
}

METHODS: dict[str, Callable[..., Value]] = {
    **dict.fromkeys(("add", "add_"), _add),
    "sub": _subtract,
    "mul": _multiply,
    "div": _divide,
    **dict.fromkeys(("flatten", "reshape", "view"), pooling.flatten),
    "mean": pooling.global_mean,
    **dict.fromkeys(("clone", "contiguous"), _same),
}

WEIGHTLESS: dict[type[nn.Module], Callable[[Any, Any], Value]] = {
    nn.AvgPool2d: lambda value, module: pooling.avg_pool(
        value,
        module.kernel_size,
        module.stride,
        module.padding,
        module.ceil_mode,
        divisor_override=module.divisor_override,
    ),
    nn.MaxPool2d: lambda value, module: pooling.max_pool(
        value,
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.ceil_mode,
        module.return_indices,
    ),
    nn.AdaptiveAvgPool2d: lambda value, module: pooling.adaptive_avg_pool(value, module.output_size),
    nn.AdaptiveMaxPool2d: lambda value, module: pooling.adaptive_max_pool(
        value, module.output_size, module.return_indices
    ),
    nn.Flatten: lambda value, module: pooling.flatten(value),
    **dict.fromkeys(
        (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d), lambda value, module: _same(value)
    ),
}
"""Modules without weights; they may be called in several places."""

REASONS: dict[type[nn.Module], str] = {
    LMHT: "its steps are a dimension of their own; use WindowLMHT, whose steps are merged into the batch",
    QCFS: "it is no spiking neuron; use WindowLMHT",
    TimeBatchNorm: "its steps are a dimension of their own; use BatchNorm1d or BatchNorm2d",
    nn.ReLU: "it is no spiking neuron; use WindowLMHT",
}
"""What to do instead of modules that are easily taken for accepted ones."""


def asks_for_size(operation: str, target: object, arguments: tuple[Any, ...]) -> bool:
    """Whether a call asks for the shape of a tensor only: ``x.shape``, ``x.size(0)``, ``x.dim()``."""
    if operation == "call_method":
        return target in ("size", "dim")
    return target is getattr and arguments[1] in ("shape", "ndim")
