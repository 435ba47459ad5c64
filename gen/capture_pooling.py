"""Capture of what has no weights: pooling, flattening, and what does nothing outside training."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from lmht.gen.capture_values import Currents, Spikes, UnmappedError, Value

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "dropout",
    "flatten",
    "global_mean",
    "max_pool",
]

Size = int | tuple[int, ...] | list[int]
Kind = Literal["sum", "max"]

# Arguments have the names and the order of torch.nn.functional.


def avg_pool(
    input: Value,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Spikes:
    """Average pooling: the sum over a window, whose division goes into the consumer's scale."""
    if divisor_override is not None:
        raise UnmappedError(f"divisor_override {divisor_override} is not mapped; leave it out")
    return _pool(input, "sum", kernel_size, stride, padding, ceil_mode)


def max_pool(
    input: Value,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Spikes:
    """Max pooling."""
    if _pair(dilation) != (1, 1):
        raise UnmappedError(f"dilation {_pair(dilation)} is not mapped; use 1")
    if return_indices:
        raise UnmappedError("return_indices is not mapped; leave it out")
    return _pool(input, "max", kernel_size, stride, padding, ceil_mode)


def adaptive_avg_pool(input: Value, output_size: Size) -> Spikes:
    """Average pooling to a given size."""
    return _adaptive(input, "sum", output_size)


def adaptive_max_pool(input: Value, output_size: Size, return_indices: bool = False) -> Spikes:
    """Max pooling to a given size."""
    if return_indices:
        raise UnmappedError("return_indices is not mapped; leave it out")
    return _adaptive(input, "max", output_size)


def global_mean(input: Value, dim: Size | None = None, keepdim: bool = False) -> Spikes:
    """Average over all pixels: ``x.mean((2, 3))``."""
    axes = (dim,) if isinstance(dim, int) else tuple(dim or ())
    spikes = _pool_input(input, "sum")
    if sorted(axis % 4 for axis in axes) != [2, 3]:
        found = f"dimensions {axes}" if axes else "everything"
        raise UnmappedError(f"a mean over {found} is not mapped; average over height and width, (2, 3)")
    return replace(spikes.pooled("sum", spikes.shape[1:]), flat=not keepdim)


def flatten(input: Value, *sizes: object, **named_sizes: object) -> Value:
    """The map of every image as a vector, by whichever sizes: the capture checks the shape that comes of it."""
    return replace(input, flat=True)


def dropout(input: Value, p: float = 0.5, training: bool = False, inplace: bool = False) -> Value:
    """Nothing, outside training."""
    if training:
        raise UnmappedError("dropout would stay on outside training; pass training=self.training")
    return input


def _pool(
    value: Value, kind: Kind, kernel_size: Size, stride: Size | None, padding: Size, ceil_mode: bool
) -> Spikes:
    spikes = _pool_input(value, kind)
    kernel = _pair(kernel_size)
    steps = kernel if stride is None or stride in ((), []) else _pair(stride)
    if steps != kernel:
        raise UnmappedError(
            f"windows that overlap or leave gaps are not mapped: stride {steps} must be the kernel {kernel}"
        )
    if _pair(padding) != (0, 0):
        raise UnmappedError(f"padding {_pair(padding)} is not mapped; use 0")
    size = spikes.shape[1:]
    if ceil_mode and (size[0] % kernel[0] or size[1] % kernel[1]):
        raise UnmappedError(
            f"ceil_mode with windows {kernel} that do not fill the map {size} is not mapped; use False"
        )
    return spikes.pooled(kind, kernel)


def _adaptive(value: Value, kind: Kind, output_size: Size) -> Spikes:
    spikes = _pool_input(value, kind)
    height, width = spikes.shape[1:]
    wanted = (
        (output_size, output_size) if output_size is None or isinstance(output_size, int) else output_size
    )
    rows, columns = (
        found if size is None else size for size, found in zip(wanted, (height, width), strict=True)
    )
    if min(rows, columns) < 1 or height % rows or width % columns:
        raise UnmappedError(
            f"output_size {(rows, columns)} does not divide the map {(height, width)}, so that windows overlap; "
            "use sizes that divide it"
        )
    return spikes.pooled(kind, (height // rows, width // columns))


def _pool_input(value: Value, kind: Kind) -> Spikes:
    name = "average" if kind == "sum" else "max"
    if isinstance(value, Currents):
        raise UnmappedError(
            f"{name} pooling in front of neurons is not mapped; put it behind the neurons, onto their spikes"
        )
    if value.flat:
        raise UnmappedError("its input is flattened; pool maps of (rows, channels, height, width)")
    return value


def _pair(size: Size) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    sizes = tuple(size)
    return (sizes[0], sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])
