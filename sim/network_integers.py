"""A trained network as its hardware computes it: the logits of its integers, and their roundings in training."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lmht.gen.compile import CompileOptions, fold_network, to_integers
from lmht.gen.folded import FloatArray
from lmht.gen.integer import PIXEL_MAX
from lmht.gen.integer_projection import IntegerProjection
from lmht.model import LMHT, Network, SpikingNetwork
from lmht.model.coding import BernoulliCoding
from lmht.model.integer_window import RoundedMixing
from lmht.model.network import analog_image, check_pixels
from lmht.model.surrogate import StraightThrough
from lmht.rtl.projection import IMAGE
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
            self._folded = fold_network(network)
            self.integers = to_integers(network, CompileOptions(), name="network", folded=self._folded)

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
        neurons = self._neurons()
        # Of the neurons that have run, for the residual branches behind them.
        levels = {IMAGE: analog_image(images) * PIXEL_MAX}

        def keep(index: int, neuron: nn.Module, _: object, output: torch.Tensor) -> None:
            levels[index] = output.detach() / cast("LMHT", neuron).theta

        branches = [layer.projections[1:] for layer in self.integers.layers]
        sources = {branch.source for found in branches for branch in found} - {IMAGE}
        hooks = [neurons[source].register_forward_hook(partial(keep, source)) for source in sources]
        try:
            for index, neuron in enumerate(neurons):
                neuron.rounded = self._rounded_mixing(index, levels)
            logits = run(images)
        finally:
            for hook in hooks:
                hook.remove()
            for neuron in neurons:
                neuron.rounded = None
        folded, layer = self._folded.layers[-1], self.integers.layers[-1]
        # One logit over one accumulator unit; the mean over the steps is part of the logit's scale.
        value = self.integers.logit_scale * layer.input_steps
        factors = layer.multipliers[0, 0] * value / self._unit(-1)
        offset = layer.bias[0] * self.integers.logit_scale - factors * folded.bias
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return StraightThrough.apply(exact, exact.detach() * _like(exact, factors) + _like(exact, offset))

    def _rounded_mixing(self, index: int, levels: Mapping[int, torch.Tensor]) -> RoundedMixing:
        """Ω, bias and gains as the integers of a layer have them, in the units of its currents."""
        folded, layer = self._folded.layers[index], self.integers.layers[index]
        assert folded.neuron is not None, "the classifier mixes nothing"
        scale = 2.0**layer.fraction_bits / folded.neuron.theta
        unit = self._unit(index) * scale
        factors = np.ldexp(layer.full_multipliers() / unit, -layer.shift)
        offset = layer.bias - factors.sum(axis=1) * folded.bias * scale
        # Sums lie on multiples of 2^-S: half of that, and the noise of floating point decides no tie.
        offset += 2.0 ** (-layer.shift - 1)
        excess = None
        if len(layer.projections) > 1:
            exact, branch = folded.projections[1], layer.projections[1]
            step = exact.scale * self._folded.input_value(exact) * scale
            weights = np.ldexp(branch.weights * _per_channel(unit), branch.shift)
            weights -= exact.weights * _per_channel(step)
            excess = partial(_convolve, branch, torch.from_numpy(weights), levels)
        device = next(self._network.parameters()).device
        return RoundedMixing(
            torch.from_numpy(factors).to(device), torch.from_numpy(offset).to(device), excess
        )

    def _unit(self, index: int) -> FloatArray:
        """Value of ``A = 1`` in every channel of a layer."""
        first = self._folded.layers[index].projections[0]
        shift = self.integers.layers[index].projections[0].shift
        return np.ldexp(first.scale * self._folded.input_value(first), -shift)

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
        check_pixels("images", images)
        if images.dtype == torch.uint8:
            return images.cpu()
        scaled = images.detach().cpu().double() * PIXEL_MAX
        rounded = scaled.round()
        outside = (scaled - rounded).abs() > PIXEL_TOLERANCE
        if outside.any():
            raise ValueError(
                "images must be bytes, or multiples of 1/255, where a network with fraction_bits is evaluated with its "
                f"integers, not {images.detach().cpu()[outside][0].item():g}"
            )
        return rounded.to(torch.uint8)


def _convolve(
    projection: IntegerProjection, weights: torch.Tensor, levels: Mapping[int, torch.Tensor]
) -> torch.Tensor:
    """A projection with other weights, of the levels of its source, shape (rows, C, H, W)."""
    maps = levels[projection.source].reshape(-1, *projection.input_shape)
    pooling = projection.pooling
    if pooling is not None and pooling.kind == "max":
        maps = F.max_pool2d(maps, pooling.size)
    elif pooling is not None:
        maps = F.avg_pool2d(maps, pooling.size) * pooling.window
    return F.conv2d(
        maps, weights.to(maps), None, projection.stride, projection.padding, groups=projection.groups
    )


def _per_channel(values: FloatArray) -> FloatArray:
    """Values of the output channels beside weights of shape (N, C, KH, KW)."""
    return values[:, None, None, None]


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
