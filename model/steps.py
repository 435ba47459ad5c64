"""A network with another number of time steps than it was trained with."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch

from .checks import check_integer
from .coding import BernoulliCoding
from .network import Network
from .neurons import LMHT
from .spiking_network import SpikingNetwork

__all__ = ["with_steps"]

_Spiking = TypeVar("_Spiking", Network, SpikingNetwork)


def with_steps(network: _Spiking, steps: int) -> _Spiking:
    """A copy of a network that runs more or fewer steps, with the same weights.

    Meant for neurons without mixing: a network trained on one random sample of its image (Bernoulli coding,
    discontinuous integration) becomes more accurate with every further one.

    Parameters
    ----------
    network : Network or SpikingNetwork
        Stays as it is.
    steps : int
        Steps T of the copy, at least 1.

    Raises
    ------
    TypeError
        If ``steps`` is no integer.
    ValueError
        If it is below 1, or some neurons have learned a mixing, which belongs to the number of steps.
    """
    steps = check_integer("steps", steps, 1)
    copied = copy.deepcopy(network)
    for part in copied.modules():
        if isinstance(part, LMHT):
            _change_steps(part, steps)
        elif isinstance(part, BernoulliCoding):
            part.steps = steps
    if isinstance(copied, Network):
        copied.config = copied.config.model_copy(update={"steps": steps})
    else:
        copied.steps = steps
    return copied


def _change_steps(neuron: LMHT, steps: int) -> None:
    if neuron.mixing == "learned":
        raise ValueError("mixing must be identity or uniform to change the steps, not learned")
    before = neuron.get_buffer("fixed_mixing")
    made = torch.eye(steps) if neuron.mixing == "identity" else torch.full((steps, steps), 1 / steps)
    neuron.fixed_mixing = made.to(before)
    neuron.steps = steps
