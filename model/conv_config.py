"""Configuration of a convolutional network."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from .qcfs_fields import check_qcfs_fields, first_threshold, staircase_levels
from .records import Config, ImageShape, WeightBits
from .spike_fields import Coding, Readout, check_spike_fields

__all__ = ["NET_NAMES", "ConvNetworkConfig"]

NET_NAMES = (
    "mnist-cnn",
    "lenet",
    "vgg11",
    "vgg13",
    "vgg16",
    "resnet18",
    "resnet19",
    "resnet20",
    "resnet34",
    "resnet19-lmht",
    "vgg13-lmht",
    "vgg16-lmht",
)
"""Networks that come with lmht."""

_OWN = re.compile(r"[^/\\:]+\.py:[A-Za-z_]\w*", re.ASCII)


class ConvNetworkConfig(Config):
    """Shape and neurons of a network with convolutions: one that comes with lmht, or one of the user's.

    Attributes
    ----------
    net : str
        One of :data:`NET_NAMES`, or ``FILE.py:FUNCTION`` without a folder for a network of the user's.
    source_sha256 : str or None
        SHA-256 of the user's file, of which the folder of the run keeps a copy; None for the others.
    width : float
        Factor of the channels of every layer, above 0 and at most 16; the user's function is told.
    input_shape : tuple of int
        Channels, height and width of an image.
    classes : int
        Number of classes, at least 1.
    levels, steps, weight_bits, mixing, leak, theta, initial_membrane
        Of all neurons and weights, as in :class:`lmht.model.NetworkConfig`.
    activation, quanta
        As there; with ``qcfs``, the neurons that a builder gets are QCFS.
    thetas, initial_membranes : dict of float or None
        Threshold and absolute membrane ``v[-1]`` of neurons by their names in the network's module, as conversion
        sets them; None takes ``theta`` and ``initial_membrane`` in all layers.
    fraction_bits, detach, coding, readout
        As in :class:`lmht.model.NetworkConfig`.

    Raises
    ------
    pydantic.ValidationError
        A ValueError that names the field.
    """

    net: str
    source_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    width: float = Field(default=1.0, gt=0, le=16)
    input_shape: ImageShape
    classes: int = Field(ge=1, le=65536)
    levels: int = Field(default=2, ge=1)
    steps: int = Field(default=2, ge=1)
    weight_bits: WeightBits = 4
    mixing: Literal["learned", "identity", "uniform"] = "learned"
    leak: Literal["learned"] | Annotated[float, Field(ge=0, le=1.5)] = "learned"
    theta: float | None = Field(default=None, gt=0)
    initial_membrane: float = 0.0
    activation: Literal["lmht", "qcfs"] = "lmht"
    quanta: int | None = Field(default=None, ge=1)
    thetas: dict[str, Annotated[float, Field(gt=0)]] | None = None
    initial_membranes: dict[str, float] | None = None
    fraction_bits: int | None = Field(default=None, ge=0, le=16)
    detach: bool | None = None
    coding: Coding = "direct"
    readout: Readout = "mean"

    @field_validator("net")
    @classmethod
    def _net_is_known(cls, net: str) -> str:
        if net not in NET_NAMES and not _OWN.fullmatch(net):
            raise ValueError(f"net must be one of {', '.join(NET_NAMES)}, or FILE.py:FUNCTION, not {net!r}")
        return net

    @model_validator(mode="after")
    def _own_file_has_digest(self) -> ConvNetworkConfig:
        if self.is_own and self.source_sha256 is None:
            raise ValueError(f"source_sha256 must be that of the file for net {self.net!r}, not None")
        if not self.is_own and self.source_sha256 is not None:
            raise ValueError(f"source_sha256 must be None for net {self.net!r}, not {self.source_sha256}")
        return self

    @model_validator(mode="after")
    def _qcfs_can_be_converted(self) -> ConvNetworkConfig:
        check_qcfs_fields(self)
        check_spike_fields(self)
        return self

    @property
    def is_own(self) -> bool:
        """Whether the network is built by a function of the user's."""
        return self.net not in NET_NAMES

    @property
    def architecture(self) -> str:
        """Name to show, with a width other than 1: ``"resnet20"``, ``"vgg11x0.25"``."""
        return self.net if self.width == 1 else f"{self.net}x{self.width:g}"

    @property
    def threshold(self) -> float:
        """Threshold θ of neurons that have none of their own; with ``qcfs``, the upper end at the start."""
        return first_threshold(self)

    @property
    def qcfs_levels(self) -> int:
        """Steps Q of the QCFS staircase with the default, L T, filled in."""
        return staircase_levels(self)
