"""A network trained with the hardware's roundings: outside training it computes with the integers of its hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from .neurons import LMHT

if TYPE_CHECKING:
    from lmht.sim.network_integers import NetworkIntegers

    from .network import Network
    from .spiking_network import SpikingNetwork

__all__ = ["has_hardware_rounding", "integers_of", "run_as_hardware"]


def has_hardware_rounding(network: nn.Module) -> bool:
    """Whether some of a network's neurons have ``fraction_bits``."""
    return any(isinstance(part, LMHT) and part.fraction_bits is not None for part in network.modules())


def integers_of(network: Network | SpikingNetwork) -> NetworkIntegers:
    """The integers that the compiler makes of a network as it stands now.

    Raises
    ------
    ValueError
        If hardware has not what the network is made of.
    """
    # The compiler and its golden model stand above this package; only here is it asked for them.
    from lmht.sim.network_integers import NetworkIntegers

    return NetworkIntegers(network)


def run_as_hardware(network: Network | SpikingNetwork, images: torch.Tensor) -> torch.Tensor:
    """Logits of a network with ``fraction_bits``.

    In training its modules compute, with the roundings of the integers that the compiler makes of its weights and
    running statistics at that moment; gradients pass straight through. In evaluation the integers compute, to the bit.
    """
    integers = integers_of(network)
    return integers.train_pass(network.run_modules, images) if network.training else integers.logits(images)
