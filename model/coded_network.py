"""A module with what its configuration puts around it: the coding of the image in front, output neurons behind."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .build_config import BuildConfig
from .coding import make_window_coding
from .conv_config import ConvNetworkConfig
from .spike_fields import has_output_neurons
from .spiking_network import SpikingNetwork

__all__ = ["make_coded_network"]


def make_coded_network(module: nn.Module, config: ConvNetworkConfig) -> SpikingNetwork:
    """Spiking network around a module whose weights are quantized.

    With a coding that makes spikes, or with output neurons (behind a batch norm), the module becomes the part
    ``network`` of a sequence with ``coding`` and ``output``.

    Raises
    ------
    ValueError
        As :class:`SpikingNetwork`.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    coding = make_window_coding(config.coding, config.steps, config.fraction_bits)
    if coding is not None:
        parts["coding"] = coding
    parts["network"] = module
    if has_output_neurons(config.readout):
        norm = nn.BatchNorm1d(config.classes)
        neuron = BuildConfig.of(config).make_neuron()
        parts["output"] = nn.Sequential(OrderedDict(norm=norm, neuron=neuron))
    return SpikingNetwork(
        nn.Sequential(parts) if len(parts) > 1 else module,
        input_shape=config.input_shape,
        classes=config.classes,
        readout=config.readout,
        frames=config.coding == "frames",
    )
