"""Random changes of training images."""

import torch
from torch.nn import functional as F

__all__ = ["random_crop_flip", "random_shift"]


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
