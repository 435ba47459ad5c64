"""Formats of maps in memory: the quicker one for convolutions, and neurons in the order in which they lie there."""

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["in_best_format", "in_memory_order", "is_channels_last", "plain_strides"]

_NARROW = 8
"""Channels below which PyTorch 2.13 fails with strided 1 x 1 kernels; 2 to 6 were seen to."""


def in_best_format(images: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """The images in the format for a module, which goes on from layer to layer.

    Mostly channels-last, in which convolutions on a CPU are up to a third faster. With two kinds of strided
    convolutions PyTorch 2.13 then reads and writes beyond their memory, which gives random results or ends the process;
    a module that has one of them gets plain maps:

    * those from or to a single channel, whose strides in the channels-last format name no layout;
    * those with kernel 1 x 1 and few input channels, in the gradient of the weight.
    """
    convolutions = (part for part in module.modules() if isinstance(part, nn.Conv2d))
    if any(_needs_plain_maps(part) for part in convolutions):
        return plain_strides(images)
    return images.contiguous(memory_format=torch.channels_last)


def _needs_plain_maps(convolution: nn.Conv2d) -> bool:
    inputs, outputs = convolution.in_channels, convolution.out_channels
    is_narrow = inputs < _NARROW and tuple(convolution.kernel_size) == (1, 1)
    return max(convolution.stride) > 1 and (is_narrow or 1 in (inputs, outputs))


def plain_strides(values: torch.Tensor) -> torch.Tensor:
    """The values with the strides of PyTorch's contiguous format, also in dimensions of size 1."""
    return values.contiguous().flatten().view(values.shape)


def is_channels_last(values: torch.Tensor) -> bool:
    """Whether a tensor is a map in the channels-last format and in no other, as one with a single channel would be."""
    return (
        values.dim() == 4
        and values.is_contiguous(memory_format=torch.channels_last)
        and not values.is_contiguous()
    )


def in_memory_order(run: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    """What `run` makes of the values, in their memory format.

    Neurons are independent of each other: where a 4-D tensor is in the channels-last format, `run` sees it as the
    (N, H, W, C) that it is in memory, which needs no copy, whichever format the convolutions prefer. It must return 4-D
    tensors in the same order of dimensions; their number of rows is its own.
    """
    if is_channels_last(values):
        return run(values.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return run(values)
