"""Training images: which are held out, and in what batches the others come."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .augmentation import cutout, mixup, random_crop_flip, random_shift
from .auto_augment import auto_augment
from .config import TrainingConfig
from .data import Dataset, stratified_split
from .network import analog_image

__all__ = ["Part", "shuffled_batches", "split_dataset"]


@dataclass(frozen=True)
class Part:
    """Training images that take part in the updates, those held out, where computation runs, and how many classes."""

    images: torch.Tensor
    labels: torch.Tensor
    held_images: torch.Tensor
    held_labels: torch.Tensor
    device: torch.device
    classes: int


def split_dataset(config: TrainingConfig, dataset: Dataset, device: torch.device) -> Part:
    """Hold out the validation images, and bring all to the device.

    Raises
    ------
    ValueError
        If fewer than 2 images are left for training, or AutoAugment is asked for other than grey or RGB images.
    """
    channels = dataset.input_shape[0]
    if config.auto_augment != "none" and (dataset.frames is not None or channels not in (1, 3)):
        found = f"{channels} channels" if dataset.frames is None else "frames"
        raise ValueError(
            f"auto_augment must be none for data set {dataset.name} with its {found}, not {config.auto_augment}: "
            "it is for grey and RGB images"
        )
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
        len(dataset.classes),
    )


def shuffled_batches(
    config: TrainingConfig, part: Part, updates: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of one epoch; the rest that does not fill a batch waits for the next epoch's order.

    Yields
    ------
    images : torch.Tensor of float32
        As the network takes them.
    targets : torch.Tensor
        Classes, ``int64`` of shape (batch,); with ``mixup`` their probabilities, ``float32`` of shape (batch, classes).
    """
    order = torch.randperm(len(part.images), generator=generator).to(part.device)
    for chosen in order[: updates * config.batch_size].split(config.batch_size):
        examples = part.images[chosen]
        # Frames beside each other as channels: what is done to one is done to all of an example.
        images = examples.flatten(1, -3)
        if config.augment == "shift":
            images = random_shift(images, config.shift_pixels, generator)
        elif config.augment == "crop-flip":
            images = random_crop_flip(images, config.shift_pixels, generator)
        if config.auto_augment != "none":
            images = auto_augment(images, config.auto_augment, generator)
        if config.cutout:
            images = cutout(images, config.cutout, generator)
        currents, labels = analog_image(images.unflatten(1, examples.shape[1:-2])), part.labels[chosen]
        if config.mixup:
            yield mixup(currents, labels, part.classes, config.mixup, generator)
        else:
            yield currents, labels
