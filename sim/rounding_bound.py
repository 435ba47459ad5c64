"""Every level and logit of PyTorch against the integers, within the bound that NUMERICS.md states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lmht.gen.folded import FoldedLayer, FoldedNetwork
from lmht.gen.integer import IntegerLayer, IntegerNetwork
from lmht.model import LMHT, Network, SpikingNetwork
from lmht.rtl.projection import IMAGE
from lmht.sim.golden_layer import GoldenLayer

__all__ = ["BoundReport", "check_bounds"]

_FLOAT = 2e-5
"""What PyTorch's own sums in float32 are off by, relative to the magnitudes that are added, and in thresholds."""

_UNPROVEN = ("one unit of its sum decides every step", "faint beside its residual branch: weights rounded")
"""Changes of channels after which levels may differ (NUMERICS.md, "Clamped channels")."""


@dataclass(frozen=True)
class BoundReport:
    """What was compared.

    Parameters
    ----------
    levels, logits : int
        Numbers compared.
    moved : int
        Levels that differ, the membrane within the bound of a threshold.
    outside : int
        Levels and logits that the bound does not allow: a fault.
    largest : float
        Largest bound of a membrane that was used, in thresholds.
    """

    levels: int
    logits: int
    moved: int
    outside: int
    largest: float


@torch.no_grad()
def check_bounds(
    network: Network | SpikingNetwork, folded: FoldedNetwork, integers: IntegerNetwork, images: torch.Tensor
) -> BoundReport:
    """Run every layer of the integers on the levels that PyTorch sends to it, and compare what both make of them.

    Membranes are reset by PyTorch's levels, so that every step is compared, also after a level that moved.

    Parameters
    ----------
    network : Network or SpikingNetwork
        In evaluation mode, without random spikes (:func:`~lmht.gen.spike_interface.take_drawn_spikes`).
    folded : FoldedNetwork
        Of it, with balanced scales.
    integers : IntegerNetwork
        Of that.
    images : torch.Tensor of uint8, shape (N, C, H, W)
    """
    found, logits = _observe(network, folded, images)
    sources = {IMAGE: images.permute(0, 2, 3, 1)[None]}
    levels = moved = outside = 0
    largest = 0.0
    for index, (layer, integer) in enumerate(zip(folded.layers, integers.layers, strict=True)):
        used = [sources[projection.source] for projection in integer.projections]
        trace = GoldenLayer(index, integer).run(used)
        error = _current_error(integer, layer, used, trace.accumulators.double())
        if layer.neuron is None:
            off = (trace.currents.reshape(len(images), -1).double() * integers.logit_scale - logits).abs()
            bound = error.reshape(len(images), -1) * integers.logit_scale
            outside += int((off > bound + _FLOAT * (1 + logits.abs().amax())).sum())
            continue
        theirs = found[index]
        sources[index] = theirs.to(torch.uint8)
        unproven = [
            change.channel
            for change in folded.changes
            if change.layer == index and change.reason in _UNPROVEN
        ]
        proven = torch.ones(integer.channels, dtype=torch.bool)
        proven[unproven] = False
        one = 2.0**integer.fraction_bits
        membrane = torch.full_like(error[0], float(integer.initial_membrane))
        slack = torch.full_like(error[0], 0.5)
        for step in range(integer.steps):
            current = trace.currents[step].double()
            factor, rounding = 1.0, 0.0
            if integer.leak is not None:
                factor, rounding = float(integer.leak[step]) / 2**integer.leak_bits, 0.5
            leaked = torch.floor(membrane * factor + rounding)
            slack = (
                max(factor, float(layer.neuron.leak[step])) * slack
                + 2.0 ** -(integer.leak_bits + 1) * membrane.abs()
                + rounding
                + error[step]
                + _FLOAT * (one + current.abs() + membrane.abs())
            )
            charged = leaked + current
            low, high = (
                torch.floor((charged + sign * slack) / one).clamp(0, layer.neuron.levels) for sign in (-1, 1)
            )
            mine = torch.floor(charged / one).clamp(0, layer.neuron.levels)
            theirs_now = theirs[step].double()
            allowed = (low <= theirs_now) & (theirs_now <= high) | ~proven
            outside += int((~allowed).sum())
            moved += int((mine != theirs_now).sum())
            levels += mine.numel()
            largest = max(largest, float(slack[..., proven].max() / one) if proven.any() else 0.0)
            membrane = charged - theirs_now * one
    return BoundReport(levels, logits.numel(), moved, outside, largest)


def _current_error(
    integer: IntegerLayer, layer: FoldedLayer, sources: list[torch.Tensor], accumulators: torch.Tensor
) -> torch.Tensor:
    """Bound of ``|J|``'s error, of a logit's in a classifier, in their units; shape (T, images, H, W, N)."""
    multipliers = torch.from_numpy(integer.full_multipliers().copy()).double() + 0.5
    if integer.diagonal:
        multipliers *= torch.eye(integer.steps, dtype=torch.float64)[:, :, None]
    part = torch.zeros_like(accumulators)
    if len(integer.projections) == 2:
        # Half a unit of every gain, times the levels that it multiplies.
        weights = torch.from_numpy(np.abs(layer.projections[1].weights)).double()
        part = 0.5 * _project(layer.projections[1], sources[1], weights)
    error = 0.5 * accumulators.abs().sum(dim=0, keepdim=True)
    error = error + torch.einsum("tun,ubyxn->tbyxn", multipliers, part)
    return error / 2.0**integer.shift + 1


def _project(projection: Any, levels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Convolution of the pooled levels (T_in, images, H, W, C), in float64."""
    maps = levels.double().permute(0, 1, 4, 2, 3).flatten(0, 1)
    pooling = projection.pooling
    if pooling is not None:
        pool: Callable[..., torch.Tensor] = F.max_pool2d if pooling.kind == "max" else F.avg_pool2d
        maps = pool(maps, pooling.size) * (1 if pooling.kind == "max" else pooling.window)
    result = F.conv2d(
        maps, weights, stride=projection.stride, padding=projection.padding, groups=projection.groups
    )
    return result.unflatten(0, levels.shape[:2]).permute(0, 1, 3, 4, 2)


def _observe(
    network: Network | SpikingNetwork, folded: FoldedNetwork, images: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Levels of every hidden layer, (T, images, H, W, C), in the order of the folded layers; and the logits."""
    if isinstance(network, SpikingNetwork):
        named = network.neurons()
        neurons: list[nn.Module] = [named[layer.name] for layer in folded.layers[:-1]]
    else:
        neurons = [network.coding] if isinstance(network.coding, LMHT) else []
        neurons += [part.neuron for part in network.layers if isinstance(part.neuron, LMHT)]
    found: dict[nn.Module, torch.Tensor] = {}

    def keep(neuron: nn.Module, inputs: object, output: torch.Tensor) -> None:
        found[neuron] = output

    handles = [neuron.register_forward_hook(keep) for neuron in neurons]
    logits = network(images).double()
    for handle in handles:
        handle.remove()
    levels = []
    for neuron, layer in zip(neurons, folded.layers, strict=False):
        assert isinstance(neuron, LMHT)
        shape = (neuron.steps, len(images), *layer.projections[0].output_shape)
        levels.append((found[neuron] / neuron.theta).round().reshape(shape).permute(0, 1, 3, 4, 2))
    return levels, logits
