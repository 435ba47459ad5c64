"""Elaboration parameters of a layer's inputs: the synapses between two feature maps, and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmht.rtl.checks import check_choice, check_range
from lmht.rtl.events import EventLayout

__all__ = ["IMAGE", "Pooling", "ProjectionParameters", "open_rows"]

IMAGE = -1
"""Source of a projection that the frame encoder feeds."""

STRIDES = (1, 2, 4, 8)

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """Pooling over windows that do not overlap; what does not fill a window at the right or lower edge is left out.

    Parameters
    ----------
    kind : {"sum", "max"}
        Sum of the levels of a step (average pooling, its division is part of the consumer's scale), or the largest.
    size : tuple of int
        Height and width of a window, 1 … 65,536.
    """

    kind: Literal["sum", "max"]
    size: Pair

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("sum", "max"))
        for name, size in zip(("height", "width"), self.size, strict=True):
            check_range(f"pooling {name}", size, 1, 65536)

    @property
    def window(self) -> int:
        """Pixels of a window."""
        return self.size[0] * self.size[1]

    def pooled(self, height: int, width: int) -> Pair:
        """Height and width behind it."""
        return height // self.size[0], width // self.size[1]

    def max_level(self, level: int) -> int:
        """Largest level behind it."""
        return level * self.window if self.kind == "sum" else level


def open_rows(kernel: int, stride: int, rows: int) -> int:
    """Output rows that one input row reaches: ``ceil(kernel / stride)``, at most all of them."""
    return min(-(-kernel // stride), rows)


@dataclass(frozen=True, kw_only=True)
class ProjectionParameters:
    """One input of a layer: a convolution over the feature map of its source.

    A Linear layer is the case in which the kernel covers the whole map: one output pixel.

    Parameters
    ----------
    source : int
        Layer that feeds it, or :data:`IMAGE`.
    input : EventLayout
        Link that feeds it.
    pool : tuple of int
        Sum pooling folded into the addresses: an event's coordinates are divided by it. Rows and columns that fill
        no window are left out.
    kernel, stride, padding : tuple of int
        Rows and columns. Strides are 1, 2, 4 or 8; padding (with zeros) is less than the kernel.
    channel_groups : int
        ``groups`` of the convolution: input and output channels fall into so many parts that do not meet.
    weight_bits : int
        Width of a weight, 2 … 24.
    shift : int
        Products are shifted left by it before they are added (NUMERICS.md, "Projections"), 0 … 24.
    fifo : int
        Words that a FIFO in front holds, 0 for none.
    """

    source: int
    input: EventLayout
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    pool: Pair = (1, 1)
    channel_groups: int = 1
    weight_bits: int
    shift: int = 0
    fifo: int = 0

    def __post_init__(self) -> None:
        check_range("source", self.source, IMAGE, 65535)
        check_range("weight_bits", self.weight_bits, 2, 24)
        check_range("projection shift", self.shift, 0, 24)
        check_range("fifo", self.fifo, 0, 2**24)
        height, width = self.pooled
        for axis, size in enumerate((height, width)):
            name = ("rows", "columns")[axis]
            check_range(f"{name} of pool", self.pool[axis], 1, (self.input.height, self.input.width)[axis])
            check_choice(f"{name} of stride", self.stride[axis], STRIDES)
            check_range(f"{name} of padding", self.padding[axis], 0, self.kernel[axis] - 1)
            check_range(f"{name} of kernel", self.kernel[axis], 1, size + 2 * self.padding[axis])
        if self.channel_groups < 1 or self.input.channels % self.channel_groups:
            raise ValueError(
                f"channel_groups must divide the {self.input.channels} input channels, not {self.channel_groups}"
            )

    @property
    def pooled(self) -> Pair:
        """Height and width of the map that the kernel sees."""
        return self.input.height // self.pool[0], self.input.width // self.pool[1]

    @property
    def output(self) -> Pair:
        """Height and width of the output map."""
        height, width = (
            (size + 2 * padding - kernel) // stride + 1
            for size, padding, kernel, stride in zip(
                self.pooled, self.padding, self.kernel, self.stride, strict=True
            )
        )
        return height, width

    @property
    def taps(self) -> int:
        """Weights of a kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def open_rows(self) -> int:
        """Output rows that one input row reaches."""
        return open_rows(self.kernel[0], self.stride[0], self.output[0])

    @property
    def max_level(self) -> int:
        """Largest sum of levels at a pixel of the map that the kernel sees."""
        return (self.input.max_level or 1) * self.pool[0] * self.pool[1]
