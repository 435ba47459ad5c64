"""Random changes of training images."""

import numpy as np
import torch
from torch.nn import functional as F

__all__ = ["cutout", "mixup", "random_crop_flip", "random_shift"]


def random_shift(images: torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Move every image by its own random whole number of pixels, ``-pixels..pixels`` down and to the right.

    Parameters
    ----------
    images : torch.Tensor, shape (N, C, H, W)
        Images of any type; pixels that enter at the border are 0, those that leave are lost.
    pixels : int
        Largest shift, at least 0.
    generator : torch.Generator
        Source of the shifts.

    Returns
    -------
    torch.Tensor, shape (N, C, H, W)
        Shifted copies.
    """
    count, _, height, width = images.shape
    padded = F.pad(images, (pixels, pixels, pixels, pixels))
    offsets = torch.randint(0, 2 * pixels + 1, (2, count, 1), generator=generator)
    rows = (offsets[0] + torch.arange(height)).to(images.device)
    columns = (offsets[1] + torch.arange(width)).to(images.device)
    examples = torch.arange(count, device=images.device)
    channels_last = padded.permute(0, 2, 3, 1)[examples[:, None, None], rows[:, :, None], columns[:, None, :]]
    return channels_last.permute(0, 3, 1, 2)


def random_crop_flip(images: torch.Tensor, padding: int, generator: torch.Generator) -> torch.Tensor:
    """Crop every image at random out of itself with a black border, and mirror each with probability 1/2.

    Parameters
    ----------
    images : torch.Tensor, shape (N, C, H, W)
        Images of any type.
    padding : int
        Width of the border in pixels, at least 0.
    generator : torch.Generator
        Source of the places, and then of the mirroring.

    Returns
    -------
    torch.Tensor, shape (N, C, H, W)
        Changed copies.
    """
    cropped = random_shift(images, padding, generator)
    mirrored = torch.randint(2, (len(images), 1, 1, 1), generator=generator).bool().to(images.device)
    return torch.where(mirrored, cropped.flip(3), cropped)


def cutout(images: torch.Tensor, length: int, generator: torch.Generator) -> torch.Tensor:
    """Blacken one square of every image (DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks
    with Cutout", 2017).

    Parameters
    ----------
    images : torch.Tensor, shape (N, C, H, W)
        Images of any type.
    length : int
        Side of the square in pixels, at least 1.
    generator : torch.Generator
        Source of its middle: any pixel, so that a part of the square may lie outside the image.

    Returns
    -------
    torch.Tensor, shape (N, C, H, W)
        Changed copies.
    """
    inside = []
    for size in images.shape[2:]:
        first = torch.randint(size, (len(images), 1), generator=generator) - length // 2
        places = torch.arange(size)
        inside.append(((first <= places) & (places < first + length)).to(images.device))
    rows, columns = inside
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def mixup(
    images: torch.Tensor, labels: torch.Tensor, classes: int, alpha: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add to every image of a batch another one of it (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR
    2018).

    Parameters
    ----------
    images : torch.Tensor of floating point, shape (N, C, H, W)
        Batch.
    labels : torch.Tensor of int64, shape (N,)
        Class of every image.
    classes : int
        Number of classes.
    alpha : float
        Both parameters of the beta distribution that the share of the first image is drawn from, above 0; one share
        for the batch.
    generator : torch.Generator
        Source of the partners, then of the share.

    Returns
    -------
    images : torch.Tensor, shape (N, C, H, W)
        ``share * images + (1 - share) * images[partners]``.
    targets : torch.Tensor of float32, shape (N, classes)
        Probabilities of the classes, mixed in the same way.
    """
    partners = torch.randperm(len(images), generator=generator).to(images.device)
    # PyTorch draws beta variates from its global generator alone.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    targets = F.one_hot(labels, classes).float()
    mixed = (share * values + (1 - share) * values[partners] for values in (images, targets))
    first, second = mixed
    return first, second
