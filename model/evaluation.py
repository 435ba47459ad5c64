"""Accuracy of a network."""

import torch
from torch import nn

from .coding import seed_coding

__all__ = ["BATCH_SIZE", "EVALUATION_SEED", "classify", "evaluate", "predict"]

EVALUATION_SEED = 0
"""Of the random input spikes of every measurement."""

BATCH_SIZE = 250
"""Images at a time, and with them drawn their spikes."""


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
    return float((predict(network, images, batch_size) == labels.cpu()).double().mean())


def predict(network: nn.Module, images: torch.Tensor, batch_size: int = BATCH_SIZE) -> torch.Tensor:
    """Class of every image, int64, shape (N,), on the CPU; images and modes as for :func:`evaluate`."""
    return classify(network, images, batch_size).argmax(dim=1)


@torch.no_grad()
def classify(network: nn.Module, images: torch.Tensor, batch_size: int = BATCH_SIZE) -> torch.Tensor:
    """Logits of every image, shape (N, classes), on the CPU; images and modes as for :func:`evaluate`."""
    was_training = network.training
    network.eval()
    seed_coding(network, EVALUATION_SEED)
    device = next(network.parameters()).device
    logits = [network(batch.to(device)).cpu() for batch in images.split(batch_size)]
    network.train(was_training)
    return torch.cat(logits)
