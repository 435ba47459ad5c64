"""Training images: which are held out, and in what batches the others come."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .augmentation import random_crop_flip, random_shift
from .config import TrainingConfig
from .data import Dataset, stratified_split
from .network import analog_image

__all__ = ["Part", "shuffled_batches", "split_dataset"]


@dataclass(frozen=True)
class Part:
    """Training images that take part in the updates, those held out, and where computation runs."""

    images: torch.Tensor
    labels: torch.Tensor
    held_images: torch.Tensor
    held_labels: torch.Tensor
    device: torch.device


def split_dataset(config: TrainingConfig, dataset: Dataset, device: torch.device) -> Part:
    """Hold out the validation images, and bring all to the device.

    Raises
    ------
    ValueError
        If fewer than 2 images are left for training.
    """
    labels = dataset.train_labels
    held_out = round(config.validation_fraction * len(labels))
    kept, held = stratified_split(labels, held_out, config.seed)
    if len(kept) < 2:
        raise ValueError(
            f"validation_fraction must leave at least 2 images, not {len(kept)} of {len(labels)}"
        )
    images = dataset.train_images
    return Part(
        images[kept].to(device),
        labels[kept].to(device),
        images[held].to(device),
        labels[held].to(device),
        device,
    )


def shuffled_batches(
    config: TrainingConfig, part: Part, updates: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of one epoch; the rest that does not fill a batch waits for the next epoch's order."""
    order = torch.randperm(len(part.images), generator=generator).to(part.device)
    for chosen in order[: updates * config.batch_size].split(config.batch_size):
        images = part.images[chosen]
        if config.augment == "shift":
            images = random_shift(images, config.shift_pixels, generator)
        elif config.augment == "crop-flip":
            images = random_crop_flip(images, config.shift_pixels, generator)
        yield analog_image(images), part.labels[chosen]
