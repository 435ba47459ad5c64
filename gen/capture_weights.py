"""Capture of what has weights: convolutions, linear layers, batch norms, neurons, and the sum of two branches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from lmht.gen.capture_values import Currents, Spikes, UnmappedError, Value
from lmht.gen.fold_batch_norm import float64, fold_norm
from lmht.gen.folded import FloatArray, FoldedLayer, FoldedNeuron, FoldedProjection
from lmht.gen.input_affine import fold_affine, image_affine
from lmht.model import QuantConv2d, QuantLinear, WindowLMHT, quantize_symmetric
from lmht.rtl.checks import LEVELS_LIMIT, STEPS_LIMIT
from lmht.rtl.projection import STRIDES

__all__ = ["NO_NORMALIZATION", "add_currents", "convolve", "describe_neurons", "multiply", "normalize"]

NO_NORMALIZATION = (
    "before its first weights, an image may only be normalized: a gain and an offset for each channel, as "
    "(x - mean) / std or a batch norm"
)


def convolve(value: Value, module: nn.Conv2d, weight_bits: int) -> Currents:
    """A convolution; plain weights are rounded to `weight_bits`, channel by channel."""
    spikes, affine = _weight_input(value)
    if spikes.flat:
        raise UnmappedError("its input is flattened; convolve maps of (rows, channels, height, width)")
    if module.padding_mode != "zeros":
        raise UnmappedError(f"padding_mode {module.padding_mode} is not mapped; use zeros")
    if tuple(module.dilation) != (1, 1):
        raise UnmappedError(f"dilation {tuple(module.dilation)} is not mapped; use 1")
    stride = (module.stride[0], module.stride[1])
    if not set(stride) <= set(STRIDES):
        raise UnmappedError(f"stride {stride} is not mapped; use {', '.join(map(str, STRIDES))}")
    padding = _padding(module)
    for axis, kernel in enumerate(module.kernel_size):
        if padding[axis] >= kernel:
            raise UnmappedError(
                f"padding {padding} is not mapped for kernel {module.kernel_size}; use less than the kernel"
            )
    found = _currents(
        spikes, module, weight_bits, stride=stride, padding=padding, groups=module.groups, flat=False
    )
    return _of_affine(found, affine)


def _padding(module: nn.Conv2d) -> tuple[int, int]:
    if module.padding == "same":
        if any(kernel % 2 == 0 for kernel in module.kernel_size):
            raise UnmappedError(
                f"padding 'same' of kernel {module.kernel_size} is one-sided and not mapped; use an odd kernel"
            )
        return module.kernel_size[0] // 2, module.kernel_size[1] // 2
    if isinstance(module.padding, str):
        return 0, 0
    return module.padding[0], module.padding[1]


def multiply(value: Value, module: nn.Linear, weight_bits: int) -> Currents:
    """A linear layer: the convolution whose kernel covers the whole map."""
    spikes, affine = _weight_input(value)
    if not spikes.flat:
        raise UnmappedError(
            "its input is a map and only its last dimension would be multiplied; flatten it before"
        )
    inputs = int(np.prod(spikes.shape))
    if module.in_features != inputs:
        raise UnmappedError(f"in_features is {module.in_features}, and its input has {inputs}")
    return _of_affine(_currents(spikes, module, weight_bits, kernel=spikes.shape[1:], flat=True), affine)


def _of_affine(currents: Currents, affine: tuple[FloatArray, FloatArray] | None) -> Currents:
    return currents if affine is None else replace(currents, layer=fold_affine(currents.layer, *affine))


def _weight_input(value: Value) -> tuple[Spikes, tuple[FloatArray, FloatArray] | None]:
    """The pixels or spikes that weights see, and gain and offset of every channel of a normalized image."""
    if isinstance(value, Spikes):
        return value, None
    image = image_affine(value)
    if image is not None:
        spikes, gain, offset = image
        return spikes, (gain, offset)
    if not value.is_weighted and value.is_timeless:
        raise UnmappedError(f"its input is the image, normalized, which is not mapped; {NO_NORMALIZATION}")
    raise UnmappedError(
        "its input is a current or a sum; put neurons in front, so that it takes their spikes or the image"
    )


def _currents(
    spikes: Spikes,
    module: nn.Conv2d | nn.Linear,
    weight_bits: int,
    *,
    flat: bool,
    kernel: tuple[int, int] | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> Currents:
    _check_finite(weight=module.weight, bias=module.bias)
    if isinstance(module, QuantConv2d | QuantLinear) and module.weight_bits is not None:
        weight_bits = module.weight_bits
        integers, steps = module.integer_weight()
    else:
        integers, steps = quantize_symmetric(module.weight.detach(), weight_bits)
    weights = integers.cpu().numpy().astype(np.int64)
    if kernel is not None:
        weights = weights.reshape(len(weights), -1, *kernel)
    projection = FoldedProjection(
        source=spikes.source,
        input_shape=spikes.source_shape,
        weights=weights,
        scale=float64(steps),
        weight_bits=weight_bits,
        stride=stride,
        padding=padding,
        groups=groups,
        pooling=spikes.pooling,
    )
    bias = np.zeros(len(weights)) if module.bias is None else float64(module.bias)
    layer = FoldedLayer(projections=(projection,), bias=bias, neuron=None)
    return Currents(layer=layer, flat=flat, is_weighted=True)


def normalize(value: Value, module: nn.BatchNorm1d | nn.BatchNorm2d) -> Currents:
    """A batch norm with its running statistics, folded into the currents that it takes."""
    if module.running_mean is None or module.running_var is None:
        raise UnmappedError("it has no running statistics; use track_running_stats=True")
    _check_finite(
        weight=module.weight,
        bias=module.bias,
        running_mean=module.running_mean,
        running_var=module.running_var,
    )
    if (module.running_var < 0).any():
        raise UnmappedError(f"running_var must be at least 0, not {module.running_var.min():g}")
    if (module.running_var + module.eps <= 0).any():
        raise UnmappedError("running_var + eps must be above 0, not 0: it gives nan")
    currents = value.as_currents() if isinstance(value, Spikes) else value
    if currents.flat and currents.shape[1:] != (1, 1):
        raise UnmappedError(
            "it has statistics of its own for every pixel of a flattened map; put it before the flattening"
        )
    return replace(currents, layer=fold_norm(currents.layer, module))


def add_currents(first: Value, second: Value) -> Currents:
    """The sum of two branches in front of neurons; the first one with weights is the layer's main projection."""
    branches = [value.as_currents() if isinstance(value, Spikes) else value for value in (first, second)]
    if sum(len(branch.layer.projections) for branch in branches) > 2:
        raise UnmappedError(
            "a sum of more than two branches is not mapped; put neurons behind every sum of two"
        )
    if first.is_timeless != second.is_timeless:
        raise UnmappedError(
            "the image and spikes cannot be added: the image has no steps; convolve it into neurons first"
        )
    if (first.shape, first.flat) != (second.shape, second.flat):
        raise UnmappedError(f"branches must have the same shape, not {first.shape} and {second.shape}")
    main, other = sorted(branches, key=lambda branch: not branch.is_weighted)
    layer = FoldedLayer(
        projections=main.layer.projections + other.layer.projections,
        bias=main.layer.bias + other.layer.bias,
        neuron=None,
    )
    return replace(main, layer=layer)


def describe_neurons(module: WindowLMHT) -> FoldedNeuron:
    """The numbers of neurons, in the ranges that the hardware has."""
    try:
        neuron = FoldedNeuron.of(module)
    except (TypeError, ValueError) as error:
        raise UnmappedError(str(error)) from None
    for name, found, limit in (("levels", neuron.levels, LEVELS_LIMIT), ("steps", neuron.steps, STEPS_LIMIT)):
        if found > limit:
            raise UnmappedError(f"{name} must be between 1 and {limit}, not {found}")
    return neuron


def _check_finite(**tensors: torch.Tensor | None) -> None:
    for name, tensor in tensors.items():
        if tensor is not None and not torch.isfinite(tensor).all():
            worst = tensor[~torch.isfinite(tensor)].flatten()[0].item()
            raise UnmappedError(f"{name} must be finite, not {worst}")
