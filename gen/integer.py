"""The integer network: what the hardware computes with, layer by layer (NUMERICS.md, "Per layer").

It is the border between compiler and everything behind it: the passes produce an :class:`IntegerNetwork`, and
golden model, planner and memory images need nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmht.rtl.checks import check_range

__all__ = ["PIXEL_MAX", "IntegerLayer", "IntegerNetwork"]

PIXEL_MAX = 255

IntArray = NDArray[np.int64]


def _check_array(name: str, value: object, shape: tuple[int | None, ...], low: int, high: int) -> IntArray:
    """A read-only int64 copy of `value`; ``None`` in `shape` allows any size of at least 1."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an array of integers, not {type(value).__name__}")
    sizes_fit = value.ndim == len(shape) and all(
        size >= 1 if wanted is None else size == wanted
        for size, wanted in zip(value.shape, shape, strict=True)
    )
    if not sizes_fit:
        wanted_text = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape ({wanted_text}), not {value.shape}")
    outside = (value < low) | (value > high)
    if outside.any():
        raise ValueError(f"{name} must be between {low} and {high}, not {value[outside].flat[0]}")
    array = np.array(value, dtype=np.int64, order="C")
    array.flags.writeable = False
    return array


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerLayer:
    """One fully connected layer in integers.

    Parameters
    ----------
    weights : numpy.ndarray of int64, shape (N, J)
        ``w[n, j]``, symmetric; inputs in hardware order ``j = (y * width + x) * channels + channel``.
    bias : numpy.ndarray of int64, shape (N,)
        ``b[n]`` in accumulator units, added once per input step.
    multipliers : numpy.ndarray of int64, shape (T, T_in, N)
        ``G[t, u, n]``, unsigned. A classifier has ``T = 1`` and the same number for every ``u``.
    shift : int
        ``S``, 0 to 63; 0 for a classifier.
    levels : int or None
        ``L``, 1 to 15; None for a classifier.
    fraction_bits : int
        ``F``, 0 to 24; θ is ``2^F``.
    leak : numpy.ndarray of int64, shape (T,), or None
        ``q[t]``, 0 to ``2^(FL+1) - 1``; None if the leak is the identity.
    leak_bits : int
        ``FL``, 1 to 16.
    initial_membrane : int
        ``v[-1, n]`` in units of ``θ 2^-F``, the same for every neuron.
    weight_bits : int
        ``WB``, 2 to 8.
    multiplier_bits : int
        ``GB``, 1 to 24.
    input_max_level : int
        ``K_in``: 255 for pixels, ``L`` of the layer before otherwise.

    Raises
    ------
    TypeError, ValueError
        If a field has the wrong type, shape or range; the message names field, value and allowed range.
    """

    weights: IntArray
    bias: IntArray
    multipliers: IntArray
    shift: int
    levels: int | None
    fraction_bits: int = 8
    leak: IntArray | None = None
    leak_bits: int = 8
    initial_membrane: int = 0
    weight_bits: int = 4
    multiplier_bits: int = 12
    input_max_level: int = PIXEL_MAX

    def __post_init__(self) -> None:
        check_range("weight_bits", self.weight_bits, 2, 8)
        check_range("multiplier_bits", self.multiplier_bits, 1, 24)
        check_range("shift", self.shift, 0, 63)
        check_range("fraction_bits", self.fraction_bits, 0, 24)
        check_range("leak_bits", self.leak_bits, 1, 16)
        check_range("initial_membrane", self.initial_membrane, -(2**47), 2**47 - 1)
        check_range("input_max_level", self.input_max_level, 1, PIXEL_MAX)
        limit = 2 ** (self.weight_bits - 1) - 1
        weights = _check_array("weights", self.weights, (None, None), -limit, limit)
        neurons = weights.shape[0]
        checked = {
            "weights": weights,
            "bias": _check_array("bias", self.bias, (neurons,), -(2**47), 2**47 - 1),
            "multipliers": _check_array(
                "multipliers", self.multipliers, (None, None, neurons), 0, 2**self.multiplier_bits - 1
            ),
        }
        check_range("steps", checked["multipliers"].shape[0], 1, 8)
        check_range("input_steps", checked["multipliers"].shape[1], 1, 8)
        if self.leak is not None:
            highest = 2 ** (self.leak_bits + 1) - 1
            checked["leak"] = _check_array("leak", self.leak, (checked["multipliers"].shape[0],), 0, highest)
        for name, array in checked.items():
            object.__setattr__(self, name, array)
        if self.levels is None:
            self._check_classifier()
        else:
            check_range("levels", self.levels, 1, 15)

    def _check_classifier(self) -> None:
        if self.steps != 1 or self.shift != 0 or self.leak is not None or self.initial_membrane != 0:
            raise ValueError("a classifier must have 1 step, shift 0, no leak and initial_membrane 0")
        if (self.multipliers != self.multipliers[:, :1]).any():
            raise ValueError("multipliers of a classifier must be the same at every input step")

    @property
    def is_classifier(self) -> bool:
        return self.levels is None

    @property
    def neurons(self) -> int:
        """Output channels ``N``."""
        return self.weights.shape[0]

    @property
    def inputs(self) -> int:
        """Inputs ``J``."""
        return self.weights.shape[1]

    @property
    def steps(self) -> int:
        """Time steps ``T`` of the output; 1 for a classifier."""
        return self.multipliers.shape[0]

    @property
    def input_steps(self) -> int:
        """Level fields ``T_in`` of the input; 1 for an analog image."""
        return self.multipliers.shape[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerNetwork:
    """A fully connected network in integers.

    Parameters
    ----------
    name : str
        What the network is called in reports.
    input_shape : tuple of int
        Channels, height and width of an image of bytes.
    layers : tuple of IntegerLayer
        From the image to the classes; the last one, and no other, is a classifier.
    logit_scale : float
        ``float logit ≈ logit * logit_scale``, one factor for all classes.
    meta : mapping
        Where the network comes from (data set, accuracies); plain JSON values, not used in any
        arithmetic.

    Raises
    ------
    TypeError, ValueError
        If the layers do not fit each other.
    """

    name: str
    input_shape: tuple[int, int, int]
    layers: tuple[IntegerLayer, ...]
    logit_scale: float = 1.0
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))
        if len(self.input_shape) != 3:
            raise ValueError(f"input_shape must be (channels, height, width), not {self.input_shape}")
        for size_name, size in zip(("channels", "height", "width"), self.input_shape, strict=True):
            check_range(f"input_shape {size_name}", size, 1, 65536)
        if not self.layers:
            raise ValueError("layers must hold at least 1 layer, not 0")
        if not (np.isfinite(self.logit_scale) and self.logit_scale > 0):
            raise ValueError(f"logit_scale must be finite and above 0, not {self.logit_scale}")
        channels, height, width = self.input_shape
        expected = (channels * height * width, 1, PIXEL_MAX)
        for index, layer in enumerate(self.layers):
            found = (layer.inputs, layer.input_steps, layer.input_max_level)
            for name, have, want in zip(
                ("inputs", "input_steps", "input_max_level"), found, expected, strict=True
            ):
                if have != want:
                    raise ValueError(f"layer {index}: {name} must be {want} as its source says, not {have}")
            if layer.is_classifier != (index == len(self.layers) - 1):
                raise ValueError(f"layer {index}: the last layer, and no other, must be a classifier")
            expected = (layer.neurons, layer.steps, layer.levels or 0)

    @property
    def inputs(self) -> int:
        """Bytes of an image."""
        return self.layers[0].inputs

    @property
    def classes(self) -> int:
        return self.layers[-1].neurons

    @property
    def architecture(self) -> str:
        """Widths joined by ``-``, such as ``784-128-10``."""
        return "-".join(str(width) for width in (self.inputs, *(layer.neurons for layer in self.layers)))
