"""Configuration of training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .records import Config

__all__ = ["TrainingConfig"]


class TrainingConfig(Config):
    """How a network is trained.

    The learning rate rises linearly over the first ``warmup_epochs`` and then falls along half a cosine to 0
    at the end of ``epochs``. Weight decay acts on the weights of linear layers and convolutions alone.

    Attributes
    ----------
    epochs, batch_size : int
        Passes over the training part and examples per update.
    learning_rate, weight_decay, momentum : float
        Of the optimizer; ``momentum`` is used by ``sgd`` only.
    optimizer : {"sgd", "adamw"}
        Update rule.
    warmup_epochs : float
        Length of the rise of the learning rate, in epochs.
    loss : {"cross-entropy", "squared-hinge"}
        Of the classes' values (:mod:`lmht.model.losses`).
    label_smoothing : float
        Part of the target probability spread evenly over all classes; 0 with ``squared-hinge``.
    activity_penalty : float
        Added to the loss for every level of the mean spike level of all neurons and steps
        (:class:`lmht.model.activity.ActivityMeter`); 0 leaves it out. Trades accuracy for spikes, and with them cycles
        and energy.
    augment : {"none", "shift", "crop-flip"}
        ``shift`` moves every image by up to ``shift_pixels`` in each direction, at random; ``crop-flip`` crops it
        out of a border of that many black pixels, which is the same, and mirrors every other one.
    shift_pixels : int
        Largest shift in pixels.
    auto_augment : {"none", "cifar10", "imagenet"}
        Policy of AutoAugment (:mod:`lmht.model.auto_augment`), applied after ``augment`` to grey or RGB images.
    cutout : int
        Side in pixels of the square that is blackened in every image, after that; 0 for none.
    mixup : float
        Parameter of the distribution by which pairs of images and their classes are mixed, at last
        (:func:`lmht.model.augmentation.mixup`); 0 mixes none. Not with ``squared-hinge``. The training accuracy then
        counts the class of the larger share.
    precision : {"float32", "bfloat16"}
        ``bfloat16`` runs convolutions and linear layers of the updates in that type (autocast), which is several
        times as fast on processors made for it; weights, neurons and all measuring stay in float32.
    validation_fraction : float
        Part of the training images that is held out to choose the best epoch; 0 keeps the last epoch.
    early_stopping : int or None
        Epochs without a better validation accuracy after which training stops; None never stops early.
    seed : int
        Seed of weights, split, order and augmentation.
    """

    epochs: int = Field(default=20, ge=1, le=100_000)
    batch_size: int = Field(default=128, ge=2, le=65536)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    warmup_epochs: float = Field(default=1.0, ge=0)
    loss: Literal["cross-entropy", "squared-hinge"] = "cross-entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    activity_penalty: float = Field(default=0.0, ge=0)
    augment: Literal["none", "shift", "crop-flip"] = "none"
    shift_pixels: int = Field(default=1, ge=0, le=16)
    auto_augment: Literal["none", "cifar10", "imagenet"] = "none"
    cutout: int = Field(default=0, ge=0, le=1024)
    mixup: float = Field(default=0.0, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    early_stopping: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _soft_targets_are_probabilities(self) -> TrainingConfig:
        for field in ("label_smoothing", "mixup"):
            if self.loss == "squared-hinge" and (value := getattr(self, field)) != 0:
                raise ValueError(f"{field} must be 0 with loss squared-hinge, not {value}")
        return self
