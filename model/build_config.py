"""What a function that builds a network is told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from .conv_config import ConvNetworkConfig
from .neurons import QCFS
from .window_neurons import WindowLMHT

__all__ = ["BuildConfig"]


@dataclass(frozen=True)
class BuildConfig:
    """Shape of a network, and where its neurons come from.

    Attributes
    ----------
    input_shape : tuple of int
        Channels, height and width of an image.
    classes : int
        Number of classes.
    network : ConvNetworkConfig
        The whole configuration: levels, steps, threshold and so on, should a builder want them.
    """

    input_shape: tuple[int, int, int]
    classes: int
    network: ConvNetworkConfig

    @classmethod
    def of(cls, network: ConvNetworkConfig) -> BuildConfig:
        """What the builder of this network is told."""
        return cls(network.input_shape, network.classes, network)

    def make_neuron(self) -> nn.Module:
        """New neurons with the thresholds, steps, mixing and leak of the configuration, for one layer.

        QCFS, from which such neurons are made, in the first step of hybrid training.
        """
        network = self.network
        if network.activation == "qcfs":
            return QCFS(network.qcfs_levels, network.threshold)
        make = partial(WindowLMHT, network.levels, network.steps, network.threshold, network.initial_membrane)
        return make(
            mixing=network.mixing,
            leak=network.leak,
            fraction_bits=network.fraction_bits,
            detach=network.detach,
        )

    def scale(self, channels: int) -> int:
        """Channels of a layer at the configuration's width: rounded, at least 1."""
        return max(1, round(channels * self.network.width))
