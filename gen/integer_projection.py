"""One input of an integer layer: a convolution over the map of its source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmht.rtl.checks import STEPS_LIMIT, check_choice, check_range
from lmht.rtl.projection import STRIDES, Pooling

__all__ = ["IntegerProjection", "check_array"]

IntArray = NDArray[np.int64]
Shape = tuple[int, int, int]
Pair = tuple[int, int]


def check_array(name: str, value: object, shape: tuple[int | None, ...], low: int, high: int) -> IntArray:
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
class IntegerProjection:
    """Synapses from the map of a source to the accumulators of a layer.

    The levels of the source are pooled, then convolved as by :func:`torch.nn.functional.conv2d` (zero padding), and the
    result is shifted left. A fully connected layer is the convolution whose kernel covers the whole map.

    Parameters
    ----------
    source : int
        Index of the layer that feeds it, or :data:`~lmht.rtl.projection.IMAGE`.
    input_shape : tuple of int
        Channels, height and width of the source's map, before pooling.
    weights : numpy.ndarray of int64, shape (N, C / groups, KH, KW)
        ``w``, symmetric.
    weight_bits : int
        ``WB``, 2 to 24 (2 to 8 for a layer's first projection).
    shift : int
        Left shift of the sum of products, 0 to 24.
    stride, padding : tuple of int
        Rows and columns. Strides are 1, 2, 4 or 8; padding (with zeros) is less than the kernel.
    groups : int
        Groups of channels that do not meet.
    pooling : Pooling or None
        Of the source's levels, before the convolution.
    input_steps : int
        ``T_in``: steps of the source; 1 for an analog image.
    input_max_level : int
        ``K_in`` before pooling: 255 for pixels, ``L`` of the source otherwise.

    Raises
    ------
    TypeError, ValueError
        If a field has the wrong type, shape or range; the message names field, value and allowed range.
    """

    source: int
    input_shape: Shape
    weights: IntArray
    weight_bits: int = 4
    shift: int = 0
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    pooling: Pooling | None = None
    input_steps: int = 1
    input_max_level: int = 255

    def __post_init__(self) -> None:
        check_range("weight_bits", self.weight_bits, 2, 24)
        check_range("projection shift", self.shift, 0, 24)
        check_range("input_steps", self.input_steps, 1, STEPS_LIMIT)
        check_range("input_max_level", self.input_max_level, 1, 255)
        for name, size in zip(("channels", "height", "width"), self.input_shape, strict=True):
            check_range(f"input_shape {name}", size, 1, 65536)
        if self.pooling is not None and 0 in self.pooled_shape:
            _, height, width = self.input_shape
            raise ValueError(
                f"pooling window must fit the {height} x {width} map, not be {self.pooling.size}"
            )
        limit = 2 ** (self.weight_bits - 1) - 1
        weights = check_array("weights", self.weights, (None, None, None, None), -limit, limit)
        object.__setattr__(self, "weights", weights)
        check_range("groups", self.groups, 1, self.input_shape[0])
        for name, channels in (("input channels", self.input_shape[0]), ("output channels", len(weights))):
            if channels % self.groups:
                raise ValueError(f"groups must divide the {channels} {name}, not {self.groups}")
        if weights.shape[1] * self.groups != self.input_shape[0]:
            raise ValueError(
                f"weights must have {self.input_shape[0] // self.groups} input channels, not {weights.shape[1]}"
            )
        for axis, name in enumerate(("rows", "columns")):
            kernel, size = weights.shape[2 + axis], self.pooled_shape[1 + axis]
            check_choice(f"{name} of stride", self.stride[axis], STRIDES)
            check_range(f"{name} of padding", self.padding[axis], 0, kernel - 1)
            check_range(f"{name} of kernel", kernel, 1, size + 2 * self.padding[axis])

    @classmethod
    def dense(cls, weights: IntArray, *, input_shape: Shape, **others: object) -> IntegerProjection:
        """Fully connected: `weights` of shape (N, J), inputs in PyTorch's order ``(channel, y, x)`` of `input_shape`
        behind the pooling; `others` as the class takes them."""
        pooling = others.get("pooling")
        _, height, width = input_shape
        if isinstance(pooling, Pooling):
            height, width = pooling.pooled(height, width)
        inputs = input_shape[0] * height * width
        if weights.ndim != 2 or weights.shape[1] != inputs:
            raise ValueError(f"weights must have shape (any, {inputs}), not {weights.shape}")
        shaped = weights.reshape(len(weights), input_shape[0], height, width)
        return cls(weights=shaped, input_shape=input_shape, **others)  # type: ignore[arg-type]

    @property
    def kernel(self) -> Pair:
        return self.weights.shape[2], self.weights.shape[3]

    @property
    def pooled_shape(self) -> Shape:
        """Channels, height and width of the map that the kernel sees."""
        channels, height, width = self.input_shape
        if self.pooling is None:
            return self.input_shape
        return channels, *self.pooling.pooled(height, width)

    @property
    def pooled_max_level(self) -> int:
        """Largest level of the map that the kernel sees."""
        return self.input_max_level if self.pooling is None else self.pooling.max_level(self.input_max_level)

    @property
    def output_shape(self) -> Shape:
        """Channels, height and width of the output map."""
        height, width = (
            (size + 2 * padding - kernel) // stride + 1
            for size, padding, kernel, stride in zip(
                self.pooled_shape[1:], self.padding, self.kernel, self.stride, strict=True
            )
        )
        return len(self.weights), height, width

    @property
    def is_dense(self) -> bool:
        """Whether it is fully connected: the kernel covers the whole map, without pooling."""
        return self.pooling is None and self._covers_map

    @property
    def _covers_map(self) -> bool:
        return self.groups == 1 and self.kernel == self.pooled_shape[1:] and self.padding == (0, 0)

    def describe(self) -> str:
        """Notation of a layer with this first projection, such as ``P2-32C3``; only the channels if the kernel covers
        the whole map."""
        channels, (rows, columns) = len(self.weights), self.kernel
        if self._covers_map:
            text = str(channels)
        else:
            text = f"{channels}C{rows}" + (f"x{columns}" if columns != rows else "")
            text += f"s{self.stride[0]}" if self.stride[0] != 1 else ""
            text += f"g{self.groups}" if self.groups != 1 else ""
        if self.pooling is None:
            return text
        height, width = self.pooling.size
        mark = "P" if self.pooling.kind == "sum" else "M"
        return f"{mark}{height}" + (f"x{width}" if width != height else "") + f"-{text}"
