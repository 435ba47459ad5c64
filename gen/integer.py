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

from lmht.gen.integer_projection import IntegerProjection, check_array
from lmht.rtl.checks import LEVELS_LIMIT, STEPS_LIMIT, check_range
from lmht.rtl.projection import IMAGE

__all__ = ["PIXEL_MAX", "IntegerLayer", "IntegerNetwork"]

PIXEL_MAX = 255

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerLayer:
    """One layer, a convolution or fully connected, in integers.

    Parameters
    ----------
    projections : tuple of IntegerProjection
        Its inputs, one or two, the first with weights of 2 to 8 bits:
        ``A[u, n, y, x] = sum_p 2^shift_p sum_j w_p[n, j] k_p[u, j]``.
    bias : numpy.ndarray of int64, shape (T, N)
        ``B[t, n]`` in units of ``θ 2^-F``, of one logit in a classifier.
    multipliers : numpy.ndarray of int64, shape (T, T_in, N), or (T, 1, N) if the mixing is diagonal
        ``G[t, u, n]``, unsigned; ``T`` is 1 to 32. A classifier has ``T = 1`` and the same number for every ``u``.
        One multiplier a step is ``G[t, 0, n]`` where ``T_in`` is 1, and ``G[t, n]`` of diagonal mixing where it is not.
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
    multiplier_bits : int
        ``GB``, 1 to 24.

    Raises
    ------
    TypeError, ValueError
        If a field has the wrong type, shape or range; the message names field, value and allowed range.
    """

    projections: tuple[IntegerProjection, ...]
    bias: IntArray
    multipliers: IntArray
    shift: int
    levels: int | None
    fraction_bits: int = 8
    leak: IntArray | None = None
    leak_bits: int = 8
    initial_membrane: int = 0
    multiplier_bits: int = 12

    def __post_init__(self) -> None:
        check_range("multiplier_bits", self.multiplier_bits, 1, 24)
        check_range("shift", self.shift, 0, 63)
        check_range("fraction_bits", self.fraction_bits, 0, 24)
        check_range("leak_bits", self.leak_bits, 1, 16)
        check_range("initial_membrane", self.initial_membrane, -(2**47), 2**47 - 1)
        check_range("projections", len(self.projections), 1, 2)
        first = self.projections[0]
        if first.source != IMAGE:
            check_range("weight_bits of the first projection", first.weight_bits, 2, 8)
        for projection in self.projections[1:]:
            for name in ("output_shape", "input_steps"):
                if getattr(projection, name) != getattr(first, name):
                    raise ValueError(
                        f"projections must have the same {name}, "
                        f"not {getattr(first, name)} and {getattr(projection, name)}"
                    )
        channels = self.channels
        checked = {
            "multipliers": check_array(
                "multipliers", self.multipliers, (None, None, channels), 0, 2**self.multiplier_bits - 1
            ),
        }
        steps = checked["multipliers"].shape[0]
        check_range("steps", steps, 1, STEPS_LIMIT)
        checked["bias"] = check_array("bias", self.bias, (steps, channels), -(2**47), 2**47 - 1)
        terms = checked["multipliers"].shape[1]
        if terms != first.input_steps and not (terms == 1 and steps == first.input_steps):
            raise ValueError(
                f"multipliers must have {first.input_steps} input steps as the projections, not {terms}"
            )
        if self.leak is not None:
            highest = 2 ** (self.leak_bits + 1) - 1
            checked["leak"] = check_array("leak", self.leak, (steps,), 0, highest)
        for name, array in checked.items():
            object.__setattr__(self, name, array)
        if self.levels is None:
            self._check_classifier()
        else:
            check_range("levels", self.levels, 1, LEVELS_LIMIT)

    def _check_classifier(self) -> None:
        if self.steps != 1 or self.shift != 0 or self.leak is not None or self.initial_membrane != 0:
            raise ValueError("a classifier must have 1 step, shift 0, no leak and initial_membrane 0")
        if (self.multipliers != self.multipliers[:, :1]).any():
            raise ValueError("multipliers of a classifier must be the same at every input step")
        if self.shape[1:] != (1, 1):
            raise ValueError(
                f"a classifier must have one output pixel, not {self.shape[1]} x {self.shape[2]}"
            )

    @property
    def is_classifier(self) -> bool:
        return self.levels is None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the layer's map, before any pooling by a consumer."""
        return self.projections[0].output_shape

    @property
    def channels(self) -> int:
        """Output channels ``N``."""
        return self.projections[0].weights.shape[0]

    @property
    def neurons(self) -> int:
        """Neurons: channels times pixels."""
        channels, height, width = self.shape
        return channels * height * width

    @property
    def steps(self) -> int:
        """Time steps ``T`` of the output; 1 for a classifier."""
        return self.multipliers.shape[0]

    @property
    def diagonal(self) -> bool:
        """Whether the mixing is diagonal: a step takes the accumulator of the same step alone."""
        return self.multipliers.shape[1] < self.input_steps

    def full_multipliers(self) -> IntArray:
        """``G[t, u, n]`` of shape (T, T_in, N), with the zeros that diagonal mixing does not store."""
        if not self.diagonal:
            return self.multipliers
        return self.multipliers * np.eye(self.steps, dtype=np.int64)[:, :, None]

    @property
    def input_steps(self) -> int:
        """Level fields ``T_in`` of the inputs; 1 for an analog image."""
        return self.projections[0].input_steps


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerNetwork:
    """A network in integers: layers in an order in which every layer comes after its sources.

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
        for index, layer in enumerate(self.layers):
            for projection in layer.projections:
                check_range(f"layer {index}: source", projection.source, IMAGE, index - 1)
                self._check_source(index, projection)
            if layer.is_classifier != (index == len(self.layers) - 1):
                raise ValueError(f"layer {index}: the last layer, and no other, must be a classifier")
        for source in range(IMAGE, len(self.layers) - 1):
            if not self.consumers(source):
                name = "the image" if source == IMAGE else f"layer {source}"
                raise ValueError(f"{name} must feed a layer, not none")

    def _check_source(self, index: int, projection: IntegerProjection) -> None:
        if projection.source == IMAGE:
            expected = (self.input_shape, 1, PIXEL_MAX)
        else:
            source = self.layers[projection.source]
            expected = (source.shape, source.steps, source.levels or 0)
        found = (projection.input_shape, projection.input_steps, projection.input_max_level)
        for name, have, want in zip(
            ("input_shape", "input_steps", "input_max_level"), found, expected, strict=True
        ):
            if have != want:
                raise ValueError(f"layer {index}: {name} must be {want} as its source says, not {have}")

    def consumers(self, source: int) -> tuple[tuple[int, int], ...]:
        """Index of the layer and number of the projection of everything that a source feeds."""
        return tuple(
            (index, number)
            for index, layer in enumerate(self.layers)
            for number, projection in enumerate(layer.projections)
            if projection.source == source
        )

    @property
    def is_sequence(self) -> bool:
        """Whether every layer has one input, the layer before it."""
        return all(
            len(layer.projections) == 1 and layer.projections[0].source == index - 1
            for index, layer in enumerate(self.layers)
        )

    @property
    def inputs(self) -> int:
        """Bytes of an image."""
        return int(np.prod(self.input_shape))

    @property
    def classes(self) -> int:
        return self.layers[-1].channels

    @property
    def architecture(self) -> str:
        """``784-128-10`` for a fully connected sequence; otherwise the layers as ``1x28x28-16C3-P2-32C3-P2-10``.

        ``16C3``: 16 channels, kernel 3 (``s2``: its stride, where it is not 1); ``P2``, ``M2``: average and max
        pooling; ``+3``: residual branch from layer 3. The image and the last channels stand at the ends.
        """
        if self.is_sequence and all(layer.projections[0].is_dense for layer in self.layers):
            return "-".join(str(width) for width in (self.inputs, *(layer.channels for layer in self.layers)))
        parts = ["x".join(str(size) for size in self.input_shape)]
        for layer in self.layers:
            parts.append(layer.projections[0].describe())
            parts[-1] += "".join(f"+{projection.source}" for projection in layer.projections[1:])
        return "-".join(parts)
