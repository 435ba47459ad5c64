"""Records of what training and conversion gave, and the base of all configurations."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["Config", "ConversionRecord", "EpochRecord", "ImageShape", "WeightBits"]


class Config(BaseModel):
    """Base of configurations and records: frozen, with exactly the fields declared, of exactly their types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _check_image_shape(input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    if min(input_shape) < 1:
        raise ValueError(f"input_shape must be three numbers of at least 1, not {input_shape}")
    return input_shape


ImageShape = Annotated[tuple[int, int, int], Field(strict=False), AfterValidator(_check_image_shape)]
"""Channels, height and width of an image: the field ``input_shape`` of a configuration."""


WeightBits = Annotated[
    Annotated[int, Field(ge=2, le=8)] | None,
    BeforeValidator(lambda value: None if value == "float" else value),
]
"""Width of integer weights; None, written ``float`` where there is no None, trains in floating point."""


class EpochRecord(Config):
    """What one epoch gave.

    Attributes
    ----------
    epoch : int
        Number of the epoch, from 1.
    loss : float
        Mean training loss, label smoothing and activity penalty included.
    train_accuracy : float
        Accuracy (0 to 1) on the augmented training images while they were trained on.
    validation_accuracy : float or None
        Accuracy (0 to 1) on the images held out, after the epoch; None if none are.
    learning_rate : float
        Learning rate of the last update.
    coding_seed : int or None
        Seed of the random input spikes that were trained on; None if nothing draws any.
    """

    epoch: int = Field(ge=1)
    loss: float
    train_accuracy: float = Field(ge=0, le=1)
    validation_accuracy: float | None = Field(ge=0, le=1)
    learning_rate: float = Field(ge=0)
    coding_seed: int | None = Field(default=None, ge=0)


class ConversionRecord(Config):
    """How a QCFS network became a spiking one, and what either reached.

    Attributes
    ----------
    source_sha256 : str
        SHA-256 of the QCFS network's ``model.safetensors``.
    quanta : int
        Steps Q of its staircase.
    source_validation_accuracy, source_test_accuracy : float or None
        Its accuracy (0 to 1) on the images held out and on the test images; None if not measured.
    validation_accuracy, test_accuracy : float or None
        The same of the spiking network after conversion, before any fine-tuning.
    """

    source_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    quanta: int = Field(ge=1)
    source_validation_accuracy: float | None = Field(ge=0, le=1)
    source_test_accuracy: float | None = Field(ge=0, le=1)
    validation_accuracy: float | None = Field(ge=0, le=1)
    test_accuracy: float | None = Field(ge=0, le=1)
