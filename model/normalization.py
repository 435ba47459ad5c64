"""Batch normalization over time and batch together."""

import torch
from torch import nn

from .checks import check_integer

__all__ = ["TimeBatchNorm"]


class TimeBatchNorm(nn.BatchNorm1d):
    """Batch norm whose statistics run over all steps, all examples and all positions of a channel.

    One mean and one variance per channel serve every step, so that the norm folds into the layer's one set of
    weights. Parameters, running statistics and their update are those of :class:`torch.nn.BatchNorm1d`.

    Parameters
    ----------
    features : int
        Number C of channels, at least 1.

    Raises
    ------
    TypeError, ValueError
        If ``features`` is not an integer of at least 1.
    """

    def __init__(self, features: int) -> None:
        super().__init__(check_integer("features", features, 1))

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """Normalize ``current`` of shape (T, batch, C) or (T, batch, C, H, W); the shape is kept.

        Raises
        ------
        ValueError
            If there are fewer than three dimensions or the third is not C.
        """
        if current.dim() < 3 or current.shape[2] != self.num_features:
            raise ValueError(
                f"current must have shape (T, batch, {self.num_features}, ...), not {tuple(current.shape)}"
            )
        merged = current.flatten(0, 1)
        if merged.dim() > 2:
            merged = merged.flatten(2)
        return super().forward(merged).view_as(current)
