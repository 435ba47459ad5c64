"""Configurations: what a network is, how it is trained, and the record of a run."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from .conv_config import ConvNetworkConfig
from .qcfs_fields import check_qcfs_fields, first_threshold, staircase_levels
from .records import Config, ConversionRecord, EpochRecord, ImageShape, WeightBits
from .spike_fields import Coding, Readout, check_spike_fields
from .training_config import TrainingConfig

__all__ = [
    "ConvNetworkConfig",
    "ConversionRecord",
    "EpochRecord",
    "NetworkConfig",
    "RunConfig",
    "TrainingConfig",
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
    complaints = error.errors()
    first, field = complaints[0], _field(complaints[0]["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("value_error", "missing", "json_invalid"):
        return f"{field}: {message}" if field else message
    # Of a union every branch complains: all together say what is allowed.
    for other in complaints[1:]:
        if _field(other["loc"]) == field and other["msg"].startswith("Input should be "):
            message += " or " + other["msg"].removeprefix("Input should be ")
    shown = repr(first["input"])
    return f"{field}: {message}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _field(location: tuple[int | str, ...]) -> str:
    """Name of a field; between the names stand branches of unions, such as `constrained-int`, which say nothing."""
    return ".".join(str(part) for part in location if isinstance(part, int) or part.isidentifier())


class NetworkConfig(Config):
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
        Membrane ``v[-1]`` before the first step, absolute as ``theta`` is, not a multiple of it: half a threshold is
        ``theta / 2``.
    activation : {"lmht", "qcfs"}
        Of the hidden layers: LM-HT neurons, or one pass of QCFS, the first step of hybrid training. With
        ``qcfs``, ``levels`` and ``steps`` are those of the spiking network that it is meant for, and
        ``theta`` is the upper end of the activation at the start, 2 if None.
    quanta : int or None
        Steps Q of the QCFS staircase, at least 1; None is ``levels * steps``. Only with ``qcfs``.
    thetas, initial_membranes : tuple of float or None
        Threshold and absolute membrane ``v[-1]`` of every hidden layer, as conversion sets them; None takes ``theta``
        and ``initial_membrane`` in all layers.
    fraction_bits : int or None
        Fraction bits of the membrane with which neurons are trained as hardware rounds them, see
        :class:`lmht.model.LMHT`; None trains them in floating point.
    detach : bool or None
        Whether no gradient passes through the membrane from step to step; None is the neurons' own rule, see
        :class:`lmht.model.LMHT`.
    coding : {"direct", "constant", "bernoulli", "frames", "mean-frames"}
        The image enters as currents, the same at all steps; as spikes of IF neurons whose currents are its pixels; or
        as random spikes with the pixels as probabilities (:mod:`lmht.model.coding`). With ``frames`` an example is T
        frames, of which one enters at each step, its pixels as currents; with ``mean-frames`` it is an image, the mean
        of ten frames (:func:`lmht.model.event_frames.mean_picture`), which enters as currents.
    readout : {"mean", "last-step", "spike-count", "first-to-spike"}
        What of the last layer decides (:func:`lmht.model.readout.read_out`): its currents, or with one level the spikes
        of output neurons, which then stand behind a batch norm as in the other layers.

    Raises
    ------
    pydantic.ValidationError
        A ValueError that names the field; :func:`explain_validation_error` makes one line of it.
    """

    architecture: str
    input_shape: ImageShape = (1, 28, 28)
    levels: int = Field(default=2, ge=1)
    steps: int = Field(default=2, ge=1)
    weight_bits: WeightBits = 4
    mixing: Literal["learned", "identity", "uniform"] = "learned"
    leak: Literal["learned"] | Annotated[float, Field(ge=0, le=1.5)] = "learned"
    theta: float | None = Field(default=None, gt=0)
    initial_membrane: float = 0.0
    activation: Literal["lmht", "qcfs"] = "lmht"
    quanta: int | None = Field(default=None, ge=1)
    thetas: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False)] | None = None
    initial_membranes: Annotated[tuple[float, ...], Field(strict=False)] | None = None
    fraction_bits: int | None = Field(default=None, ge=0, le=16)
    detach: bool | None = None
    coding: Coding = "direct"
    readout: Readout = "mean"

    @field_validator("architecture")
    @classmethod
    def _architecture_parses(cls, architecture: str) -> str:
        parse_architecture(architecture)
        return architecture

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

    @model_validator(mode="after")
    def _layers_match(self) -> NetworkConfig:
        hidden = len(self.widths) - 2
        for field in ("thetas", "initial_membranes"):
            values, single = getattr(self, field), field[:-1]
            if values is not None and len(values) != hidden:
                raise ValueError(f"{field} must be {hidden}, one per hidden layer, not {len(values)}")
            if values is not None and getattr(self, single):
                raise ValueError(f"{single} must not be given beside {field}, not {getattr(self, single)}")
        return self

    @model_validator(mode="after")
    def _qcfs_can_be_converted(self) -> NetworkConfig:
        if self.activation == "qcfs" and len(self.widths) == 2:
            raise ValueError(f"architecture {self.architecture!r} must have a hidden layer for QCFS")
        check_qcfs_fields(self)
        check_spike_fields(self)
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Layer widths, inputs first."""
        return parse_architecture(self.architecture)

    @property
    def threshold(self) -> float:
        """Threshold θ with the default filled in; with ``qcfs``, the upper end at the start."""
        return first_threshold(self)

    @property
    def qcfs_levels(self) -> int:
        """Steps Q of the QCFS staircase with the default, L T, filled in."""
        return staircase_levels(self)

    def neuron_settings(self, layer: int) -> tuple[float, float]:
        """Threshold θ and membrane ``v[-1]`` of a hidden layer, counted from 0."""
        thetas, membranes = self.thetas, self.initial_membranes
        theta = self.threshold if thetas is None else thetas[layer]
        return theta, self.initial_membrane if membranes is None else membranes[layer]


def _kind_of_network(value: Any) -> str:
    """Convolutional networks have a name, the others an architecture; records of before there were any have that."""
    if isinstance(value, dict):
        return "with convolutions" if "net" in value else "fully connected"
    return "with convolutions" if isinstance(value, ConvNetworkConfig) else "fully connected"


class RunConfig(Config):
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
    conversion : ConversionRecord or None
        Where the weights, or those that fine-tuning began with, came from; None for fresh weights.
    start_sha256 : str or None
        SHA-256 of the ``model.safetensors`` that training began with; None for fresh weights and after a conversion.
    commit : str or None
        Commit of lmht's sources that began the training (:func:`lmht.model.source_commit.source_commit`).
    """

    format_version: Literal[1] = 1
    dataset: str
    network: Annotated[
        Annotated[NetworkConfig, Tag("fully connected")]
        | Annotated[ConvNetworkConfig, Tag("with convolutions")],
        Discriminator(_kind_of_network),
    ]
    training: TrainingConfig
    finished: bool
    best_epoch: int = Field(ge=1)
    best_accuracy: float | None = Field(ge=0, le=1)
    test_accuracy: float | None = Field(ge=0, le=1)
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    history: tuple[EpochRecord, ...]
    conversion: ConversionRecord | None = None
    start_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    commit: str | None = None

    @field_validator("network", mode="before")
    @classmethod
    def _earlier_networks_detached(cls, network: Any) -> Any:
        """Records without ``detach`` are from when all neurons were trained with a detached membrane."""
        if isinstance(network, dict) and "detach" not in network and network.get("mixing") == "identity":
            return network | {"detach": True}
        return network
