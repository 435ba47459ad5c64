"""Neurons in the order in which they lie in memory."""

from collections.abc import Callable

import torch

__all__ = ["in_memory_order"]


def in_memory_order(run: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    """What `run` makes of the values, in their memory format.

    Neurons are independent of each other: where a 4-D tensor is in the channels-last format, `run` sees it as the
    (N, H, W, C) that it is in memory, which needs no copy, whichever format the convolutions prefer. It must return 4-D
    tensors in the same order of dimensions; their number of rows is its own.
    """
    if values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last):
        return run(values.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return run(values)
