"""QCFS networks with convolutions: any ``nn.Module`` with QCFS activations, from images to logits in one pass."""

from __future__ import annotations

import torch
from torch import nn

from .activations import ConversionError, find_activations
from .coded_network import make_coded_network
from .conv_config import ConvNetworkConfig
from .neurons import QCFS
from .quantization import quantize_module
from .spiking_network import SpikingNetwork
from .tracing import describe_place

__all__ = ["QCFSNetwork", "wrap_module"]


class QCFSNetwork(SpikingNetwork):
    """Network around a module whose activations are :class:`QCFS`, the first step of hybrid training.

    There is no time yet: the module sees the images once and gives their logits; ``steps`` is 1.

    Parameters
    ----------
    module : torch.nn.Module
        From currents of an image, (B, C, H, W), to (B, classes).
    config : ConvNetworkConfig
        Its configuration, with ``activation="qcfs"``.

    Attributes
    ----------
    config : ConvNetworkConfig
        As given.

    Raises
    ------
    ConversionError
        If the module holds something with which no spiking network could do the same.
    UntraceableError
        If the module's ``forward`` cannot be followed.
    """

    def __init__(self, module: nn.Module, config: ConvNetworkConfig) -> None:
        super().__init__(module, input_shape=config.input_shape, classes=config.classes)
        self.config = config

    def activations(self) -> dict[str, QCFS]:
        """QCFS activations by their names in the module, in its order."""
        return {name: part for name, part in self.module.named_modules() if isinstance(part, QCFS)}

    def _count_steps(self) -> int:
        found = find_activations(self.module)
        for node in found.relus:
            raise ConversionError(
                f"{describe_place(found.root, node)}: it must be QCFS, as the configuration's make_neuron() gives it"
            )
        return 1

    @torch.no_grad()
    def spike_levels(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Refused: there are no spikes before conversion.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("activation must be lmht for spikes, not qcfs: convert the network first")


def wrap_module(module: nn.Module, config: ConvNetworkConfig) -> SpikingNetwork:
    """Network around a module that a builder made: weights quantized, thresholds as the configuration says.

    Raises
    ------
    TypeError
        As :func:`lmht.model.quantize_module`.
    ValueError
        As :class:`SpikingNetwork` and :class:`QCFSNetwork`, or if thresholds are given for other neurons than those
        of the module.
    """
    quantized = quantize_module(module, config.weight_bits)
    if config.activation == "qcfs":
        return QCFSNetwork(quantized, config)
    network = make_coded_network(quantized, config)
    for field, attribute in (("thetas", "theta"), ("initial_membranes", "initial_membrane")):
        values = getattr(config, field)
        if values is not None:
            _set_all(network, field, attribute, values)
    return network


def _set_all(network: SpikingNetwork, field: str, attribute: str, values: dict[str, float]) -> None:
    neurons = network.neurons()
    if values.keys() != neurons.keys():
        name = min(values.keys() ^ neurons.keys())
        what = "is missing" if name in neurons else "is none of them"
        raise ValueError(f"{field} must have one number for each of the network's neurons; {name!r} {what}")
    for name, value in values.items():
        setattr(neurons[name], attribute, value)
