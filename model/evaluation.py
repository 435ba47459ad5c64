"""Accuracy of a network."""

import torch
from torch import nn

from .coding import seed_coding

__all__ = ["BATCH_SIZE", "EVALUATION_SEED", "evaluate"]

EVALUATION_SEED = 0
"""Of the random input spikes of every measurement."""

BATCH_SIZE = 250
"""Images at a time, and with them drawn their spikes."""


@torch.no_grad()
def evaluate(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, batch_size: int = BATCH_SIZE
) -> float:
    """Part of the images, 0 to 1, whose largest logit is that of their label; the lowest index wins ties.

    The network is put into evaluation mode for the measurement and then back. Random input spikes are drawn with the
    seed :data:`EVALUATION_SEED`: the same images have the same spikes in every measurement.

    Parameters
    ----------
    network : Network or SpikingNetwork
        Network to measure.
    images : torch.Tensor, shape (N, C, H, W)
        Images as for :meth:`Network.forward`.
    labels : torch.Tensor of int64, shape (N,)
        Class of every image.
    batch_size : int
        Images at a time.

    Raises
    ------
    ValueError
        If there are no images, or not as many labels as images.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(
            f"labels must be as many as the images, and at least 1, not {len(labels)} for {len(images)}"
        )
    was_training = network.training
    network.eval()
    seed_coding(network, EVALUATION_SEED)
    device = next(network.parameters()).device
    correct = 0
    for batch, expected in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        predicted = network(batch.to(device)).argmax(dim=1)
        correct += int((predicted == expected.to(device)).sum())
    network.train(was_training)
    return correct / len(images)
