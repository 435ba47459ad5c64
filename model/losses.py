"""Losses of training."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .training_config import TrainingConfig

__all__ = ["squared_hinge", "training_loss"]


def squared_hinge(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Squared hinge loss, one class against the rest: the mean over images and classes of ``max(0, 1 - y s)^2``.

    ``y`` is 1 for the class of the image and -1 for all others. The gradient with respect to a score is
    ``-2 y max(0, 1 - y s) / n`` with ``n`` scores in all.

    Parameters
    ----------
    scores : torch.Tensor, shape (batch, classes)
        ``s``.
    labels : torch.Tensor of int64, shape (batch,)
        Class of every image.
    """
    signs = torch.full_like(scores, -1.0).scatter_(1, labels.unsqueeze(1), 1.0)
    return F.relu(1 - signs * scores).square().mean()


def training_loss(
    config: TrainingConfig, values: torch.Tensor, labels: torch.Tensor, peak: float | None
) -> torch.Tensor:
    """Loss of a recipe, a scalar.

    Parameters
    ----------
    config : TrainingConfig
        Recipe.
    values : torch.Tensor, shape (batch, classes)
        What the network gives.
    labels : torch.Tensor
        Class of every image, ``int64`` of shape (batch,), or with cross entropy the probabilities of all classes,
        floating point of shape (batch, classes).
    peak : float or None
        Largest value that output neurons give, their threshold. The squared hinge then sees ``2 values / peak - 1``,
        from -1 to 1: its loss is 0 where the right neuron does all it can and the others are silent. None for values
        without bounds, which it sees as they are.
    """
    if config.loss == "squared-hinge":
        return squared_hinge(values if peak is None else 2 * values / peak - 1, labels)
    return F.cross_entropy(values, labels, label_smoothing=config.label_smoothing)
