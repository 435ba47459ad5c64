"""A trained network as its hardware computes it: the logits of its integers, and their roundings for a pass in training."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import cast

import numpy as np
import torch
from torch import nn

from lmht.gen.compile import CompileOptions, fold_and_quantize
from lmht.gen.folded import FloatArray, FoldedLayer, FoldedNetwork
from lmht.gen.integer import PIXEL_MAX, IntegerLayer
from lmht.model import LMHT, Network, SpikingNetwork
from lmht.model.coding import BernoulliCoding
from lmht.model.integer_window import RoundedMixing
from lmht.model.network import analog_image
from lmht.model.surrogate import StraightThrough
from lmht.sim.golden import GoldenModel

__all__ = ["NetworkIntegers"]

PIXEL_TOLERANCE = 1e-3
"""How far a pixel in floating point, times 255, may be from a whole number: far more than float32 leaves."""


class NetworkIntegers:
    """The integers that the compiler makes, with its defaults, of a network as it stands.

    Parameters
    ----------
    network : Network or SpikingNetwork
        Its neurons have ``fraction_bits``. Batch norms count with their running statistics, and in training hooks of
        modules do not.

    Raises
    ------
    ValueError
        If hardware has not what the network is made of; as :func:`lmht.gen.compile.to_integers`.
    """

    def __init__(self, network: Network | SpikingNetwork) -> None:
        self._network = network
        device = next(network.parameters()).device
        # Hooks that watch a network in training are no part of it; in evaluation the capture refuses them.
        with _without_hooks(network, network.training), torch.autocast(device.type, enabled=False):
            self._folded, self.integers = fold_and_quantize(network, CompileOptions(), name="network")

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """What the hardware computes.

        Parameters
        ----------
        images : torch.Tensor, shape (B, C, H, W)
            Bytes, or what they are over 255 in floating point.

        Returns
        -------
        torch.Tensor of float64, shape (B, classes)
            The golden model's logits times ``logit_scale``: exact, as float32 would not always be.

        Raises
        ------
        ValueError
            If the images have another shape or other values.
        """
        found = GoldenModel(self.integers).run(self._pixels(images)).logits
        return found.to(images.device, torch.float64) * self.integers.logit_scale

    def spike_levels(self, images: torch.Tensor) -> dict[LMHT, torch.Tensor]:
        """Levels of all neurons, of int64 and shape (T, B, C, H, W); images as in :meth:`logits`."""
        found = GoldenModel(self.integers).run(self._pixels(images), keep_levels=True).levels
        assert found is not None, "they were asked for"
        levels = {}
        for neuron, layer, kept in zip(self._neurons(), self.integers.layers, found, strict=False):
            channels, height, width = layer.projections[0].output_shape
            maps = kept.unflatten(2, (height, width, channels)).permute(0, 1, 4, 2, 3)
            levels[neuron] = maps.to(images.device, torch.int64)
        return levels

    def train_pass(self, run: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        """Logits that `run` computes with the network's modules, whose neurons mix and add biases as the integers do.

        Roundings are those of weights and running statistics, currents those of the batch. The gradient is that of
        the network without these roundings.
        """
        device = next(self._network.parameters()).device
        neurons = self._neurons()
        layers = list(zip(self._folded.layers, self.integers.layers, strict=True))
        for neuron, (folded, layer) in zip(neurons, layers, strict=False):
            neuron.rounded = _rounded_mixing(self._folded, folded, layer, device)
        try:
            logits = run(images)
        finally:
            for neuron in neurons:
                neuron.rounded = None
        folded, layer = layers[-1]
        # One logit over one accumulator unit; the mean over the steps is part of the logit's scale.
        value = self.integers.logit_scale * layer.input_steps
        factors = layer.multipliers[0, 0] * value / _unit(self._folded, folded, layer)
        offset = layer.bias[0] * self.integers.logit_scale - factors * folded.bias
        exact = logits.float()
        return StraightThrough.apply(exact, exact.detach() * _like(exact, factors) + _like(exact, offset))

    def _neurons(self) -> list[LMHT]:
        """The neurons of the layers, in their order."""
        network = self._network
        if isinstance(network, SpikingNetwork):
            named = network.neurons()
            return [named[layer.name] for layer in self._folded.layers if layer.neuron is not None]
        hidden = [cast("LMHT | None", layer.neuron) for layer in network.layers]
        coding = network.coding if isinstance(network.coding, LMHT) else None
        return [neuron for neuron in (coding, *hidden) if neuron is not None]

    def _pixels(self, images: torch.Tensor) -> torch.Tensor:
        """The images as bytes; of a network that draws its spikes, these."""
        shape = self.integers.input_shape
        if images.dim() < 2 or prod(images.shape[1:]) != prod(shape):
            wanted = ", ".join(str(size) for size in shape)
            raise ValueError(f"images must have shape (batch, {wanted}), not {tuple(images.shape)}")
        images = images.reshape(-1, *shape)
        for part in self._network.modules():
            if isinstance(part, BernoulliCoding):
                images = part(analog_image(images))
        if images.dtype == torch.uint8:
            return images.cpu()
        scaled = images.detach().cpu().double() * PIXEL_MAX
        bytes_ = scaled.round()
        inside = ((scaled - bytes_).abs() <= PIXEL_TOLERANCE) & (bytes_ >= 0) & (bytes_ <= PIXEL_MAX)
        if not inside.all():
            raise ValueError(
                "images must be bytes, or multiples of 1/255 from 0 to 1, where a network with fraction_bits is "
                f"evaluated with its integers, not {images.detach().cpu()[~inside][0].item():g}"
            )
        return bytes_.to(torch.uint8)


def _rounded_mixing(
    network: FoldedNetwork, folded: FoldedLayer, layer: IntegerLayer, device: torch.device
) -> RoundedMixing:
    """Ω and bias as the integers of a layer have them, in the units of its currents."""
    assert folded.neuron is not None, "the classifier mixes nothing"
    value = folded.neuron.theta / _unit(network, folded, layer)
    factors = np.ldexp(layer.multipliers * value, -layer.shift - layer.fraction_bits)
    bias = np.ldexp(folded.bias / folded.neuron.theta, layer.fraction_bits)
    offset = layer.bias - factors.sum(axis=1) * bias
    return RoundedMixing(torch.from_numpy(factors).to(device), torch.from_numpy(offset).to(device))


def _unit(network: FoldedNetwork, folded: FoldedLayer, layer: IntegerLayer) -> FloatArray:
    """Value of ``A = 1`` for every channel."""
    first = folded.projections[0]
    return np.ldexp(first.scale * network.input_value(first), -layer.projections[0].shift)


def _like(tensor: torch.Tensor, numbers: FloatArray) -> torch.Tensor:
    return torch.from_numpy(numbers).to(tensor)


@contextmanager
def _without_hooks(network: nn.Module, hidden: bool) -> Iterator[None]:
    """The network without the hooks of its modules, if they are to be hidden, and afterwards as it was."""
    kept = [
        (part, name, getattr(part, name))
        for part in (network.modules() if hidden else ())
        for name in ("_forward_hooks", "_forward_pre_hooks")
    ]
    for part, name, _ in kept:
        setattr(part, name, OrderedDict())
    try:
        yield
    finally:
        for part, name, hooks in kept:
            setattr(part, name, hooks)
