"""Configurations: what a network is, how it is trained, and the record of a run."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .neurons import default_threshold

__all__ = [
    "EpochRecord",
    "NetworkConfig",
    "RunConfig",
    "TrainingConfig",
    "default_training_config",
    "explain_validation_error",
    "parse_architecture",
]

MAX_LAYER_WIDTH = 65536


def parse_architecture(architecture: str) -> tuple[int, ...]:
    """Layer widths of an architecture such as ``"784-128-10"``, inputs first.

    Raises
    ------
    ValueError
        If there are fewer than two numbers, or one is not a number from 1 to 65536.
    """
    parts = architecture.split("-")
    for part in parts:
        if not (part.isascii() and part.isdigit()):
            raise ValueError(
                f"architecture {architecture!r} must be numbers joined by '-', not contain {part!r}"
            )
        # The length is looked at first, since int() refuses numbers of thousands of digits in its own words.
        if len(part) > 9 or not 1 <= int(part) <= MAX_LAYER_WIDTH:
            raise ValueError(
                f"architecture {architecture!r} must have widths between 1 and {MAX_LAYER_WIDTH}, not {part}"
            )
    if len(parts) < 2:
        raise ValueError(
            f"architecture {architecture!r} must have at least 2 numbers, inputs and classes, not 1"
        )
    return tuple(int(part) for part in parts)


def explain_validation_error(error: ValidationError) -> str:
    """First complaint of a pydantic error as one line: ``field: what is wrong, not value``.

    Complaints that say all, such as those of text that is no JSON, come without the value.
    """
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("value_error", "missing", "json_invalid"):
        return f"{field}: {message}" if field else message
    shown = repr(first["input"])
    return f"{field}: {message}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NetworkConfig(_Config):
    """Shape and neurons of a fully connected network.

    Attributes
    ----------
    architecture : str
        Widths joined by ``-``, inputs first and classes last, such as ``"784-128-10"``.
    input_shape : tuple of int
        Channels, height and width of an image; their product is the first width.
    levels : int
        Threshold levels L of every hidden neuron, at least 1.
    steps : int
        Time steps T of a window, at least 1.
    weight_bits : int or None
        Width of the integer weights, 2 to 8; None trains in floating point.
    mixing : {"learned", "identity", "uniform"}
        Temporal mixing Ω, see :class:`lmht.model.LMHT`.
    leak : "learned" or float
        Membrane leak λ, see :class:`lmht.model.LMHT`; a number from 0 to 1.5 fixes it.
    theta : float or None
        Threshold θ of every hidden neuron, above 0; None is 2/L for more than one level and 1 for one.
    initial_membrane : float
        Membrane ``v[-1]`` in the units of ``theta``.

    Raises
    ------
    pydantic.ValidationError
        A ValueError that names the field; :func:`explain_validation_error` makes one line of it.
    """

    architecture: str
    input_shape: Annotated[tuple[int, int, int], Field(strict=False)] = (1, 28, 28)
    levels: int = Field(default=2, ge=1)
    steps: int = Field(default=2, ge=1)
    weight_bits: int | None = Field(default=4, ge=2, le=8)
    mixing: Literal["learned", "identity", "uniform"] = "learned"
    leak: Literal["learned"] | Annotated[float, Field(ge=0, le=1.5)] = "learned"
    theta: float | None = Field(default=None, gt=0)
    initial_membrane: float = 0.0

    @field_validator("architecture")
    @classmethod
    def _architecture_parses(cls, architecture: str) -> str:
        parse_architecture(architecture)
        return architecture

    @field_validator("input_shape")
    @classmethod
    def _input_shape_is_positive(cls, input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(input_shape) < 1:
            raise ValueError(f"input_shape must be three numbers of at least 1, not {input_shape}")
        return input_shape

    @model_validator(mode="after")
    def _inputs_match_image(self) -> NetworkConfig:
        pixels, inputs = math.prod(self.input_shape), self.widths[0]
        if inputs != pixels:
            shape = "x".join(str(size) for size in self.input_shape)
            raise ValueError(
                f"architecture {self.architecture!r} must begin with {pixels}, the pixels of a {shape} "
                f"image, not {inputs}"
            )
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Layer widths, inputs first."""
        return parse_architecture(self.architecture)

    @property
    def threshold(self) -> float:
        """Threshold θ with the default filled in."""
        return default_threshold(self.levels) if self.theta is None else self.theta


class TrainingConfig(_Config):
    """How a network is trained.

    The learning rate rises linearly over the first ``warmup_epochs`` and then falls along half a cosine to 0
    at the end of ``epochs``. Weight decay acts on the weights of the linear layers alone.

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
    label_smoothing : float
        Part of the target probability spread evenly over all classes.
    augment : {"none", "shift"}
        ``shift`` moves every image by up to ``shift_pixels`` in each direction, at random.
    shift_pixels : int
        Largest shift in pixels.
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
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augment: Literal["none", "shift"] = "none"
    shift_pixels: int = Field(default=1, ge=0, le=16)
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    early_stopping: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)


def default_training_config(dataset_name: str) -> TrainingConfig:
    """Recipe for a data set: the one tuned for ``digits``, or that for ``mnist`` for any other name."""
    if dataset_name == "digits":
        return TrainingConfig(
            epochs=60, batch_size=64, learning_rate=5e-3, weight_decay=1e-2, label_smoothing=0.05
        )
    return TrainingConfig(
        epochs=40,
        batch_size=128,
        learning_rate=4e-3,
        weight_decay=1e-2,
        augment="shift",
        validation_fraction=1 / 12,
    )


class EpochRecord(_Config):
    """What one epoch gave.

    Attributes
    ----------
    epoch : int
        Number of the epoch, from 1.
    loss : float
        Mean training loss, label smoothing included.
    train_accuracy : float
        Accuracy (0 to 1) on the augmented training images while they were trained on.
    validation_accuracy : float or None
        Accuracy (0 to 1) on the images held out, after the epoch; None if none are.
    learning_rate : float
        Learning rate of the last update.
    """

    epoch: int = Field(ge=1)
    loss: float
    train_accuracy: float = Field(ge=0, le=1)
    validation_accuracy: float | None = Field(ge=0, le=1)
    learning_rate: float = Field(ge=0)


class RunConfig(_Config):
    """What ``config.json`` of a run says: configurations, how far training came and what it reached.

    Attributes
    ----------
    format_version : int
        Version of the file's layout.
    dataset : str
        Name of the data set.
    network, training
        The configurations of the run.
    finished : bool
        Whether training ran to its end, early stopping included.
    best_epoch : int
        Epoch, from 1, of the weights in ``model.safetensors``.
    best_accuracy : float or None
        Their validation accuracy (0 to 1); None if nothing is held out.
    test_accuracy : float or None
        Their accuracy on the test images (0 to 1), measured once training is finished.
    weights_sha256 : str
        SHA-256 of ``model.safetensors``.
    history : tuple of EpochRecord
        One record per epoch trained.
    """

    format_version: Literal[1] = 1
    dataset: str
    network: NetworkConfig
    training: TrainingConfig
    finished: bool
    best_epoch: int = Field(ge=1)
    best_accuracy: float | None = Field(ge=0, le=1)
    test_accuracy: float | None = Field(ge=0, le=1)
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    history: tuple[EpochRecord, ...]
