"""Codings of an image as input spikes: Bernoulli samples, or the spikes of integrate-and-fire neurons."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from .checks import check_integer
from .neurons import LMHT
from .spike_fields import Coding
from .window_neurons import WindowLMHT

__all__ = ["BernoulliCoding", "make_coding", "make_window_coding", "seed_coding", "uses_random_coding"]

_Neurons = TypeVar("_Neurons", bound=LMHT)


class BernoulliCoding(nn.Module):
    """Rate coding with random spikes: at each step a pixel ``x`` spikes with probability ``x``.

    ``s[t] = 1 if x > u[t], else 0`` with ``u`` uniform in ``0 <= u < 1`` and fresh for every step, image and pixel:
    black never spikes and white always does. No gradient flows to the image.

    Parameters
    ----------
    steps : int
        Steps T of a window, at least 1.

    Attributes
    ----------
    seed : int
        What the generator was last seeded with, 0 at first; :func:`seed_coding` sets it.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument lies outside its range.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = check_integer("steps", steps, 1)
        self.restart(0)

    def restart(self, seed: int) -> None:
        """Seed the generator: what follows depends on the seed and the shapes alone."""
        self.seed = seed
        # On the CPU for all devices, so that the samples are the same everywhere.
        self._state = torch.Generator().manual_seed(seed).get_state()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Draw the spikes.

        Parameters
        ----------
        images : torch.Tensor, shape (B, ...)
            Pixels from 0 to 1.

        Returns
        -------
        torch.Tensor, shape (T B, ...)
            0 or 1, of the images' type; step ``t`` of image ``b`` is row ``t B + b``.
        """
        generator = torch.Generator()
        generator.set_state(self._state)
        uniform = torch.rand(self.steps, *images.shape, generator=generator)
        self._state = generator.get_state()
        return (images > uniform.to(images.device)).to(images.dtype).flatten(0, 1)

    def extra_repr(self) -> str:
        """Arguments as shown by ``repr``."""
        return f"steps={self.steps}"


def make_coding(
    coding: Coding, steps: int, fraction_bits: int | None = None
) -> LMHT | BernoulliCoding | None:
    """Coding in front of a network with a dimension of steps; None if pixels enter as currents.

    Constant-rate coding is that of IF neurons with ``θ = 1`` and the pixels as currents. With ``v[-1] = 1/2`` they
    spike ``round(T x)`` times, as evenly as can be, and no pixel of 8 bits ever lies on a threshold. In hardware they
    are a layer like any other, with the same ``fraction_bits``.
    """
    if coding == "bernoulli":
        return BernoulliCoding(steps)
    return _if_neurons(LMHT, steps, fraction_bits) if coding == "constant" else None


def make_window_coding(
    coding: Coding, steps: int, fraction_bits: int | None = None
) -> WindowLMHT | BernoulliCoding | None:
    """The same for a network whose steps are merged into the batch."""
    if coding == "constant":
        return _if_neurons(WindowLMHT, steps, fraction_bits)
    made = make_coding(coding, steps)
    assert not isinstance(made, LMHT), "IF neurons are made above"
    return made


def _if_neurons(kind: type[_Neurons], steps: int, fraction_bits: int | None) -> _Neurons:
    return kind(1, steps, 1.0, 0.5, mixing="identity", leak=1.0, fraction_bits=fraction_bits)


def uses_random_coding(network: nn.Module) -> bool:
    """Whether a network draws its input spikes."""
    return any(isinstance(part, BernoulliCoding) for part in network.modules())


def seed_coding(network: nn.Module, seed: int) -> None:
    """Seed whatever draws input spikes in a network."""
    for part in network.modules():
        if isinstance(part, BernoulliCoding):
            part.restart(seed)
