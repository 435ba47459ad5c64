"""A trained network without any rounding behind its weights: what both PyTorch and the integers come close to."""

from __future__ import annotations

import numpy as np
import torch

from lmht.gen.folded import FloatArray, FoldedLayer, FoldedNetwork
from lmht.gen.quantize import integer_projection
from lmht.rtl.projection import IMAGE
from lmht.sim.golden_projection import GoldenProjection

__all__ = ["exact_levels", "exact_logits"]

_TIE = 2.0**-40
"""In thresholds. A membrane on a threshold fires, whatever float64 leaves of the sum."""

_BATCH = 250


@torch.no_grad()
def exact_logits(network: FoldedNetwork, images: torch.Tensor) -> torch.Tensor:
    """Logits in float64, shape (N, classes), of images of uint8 and shape (N, C, H, W).

    Sums of products are exact; float64 leaves 2^-29 of what float32 would of everything behind them.
    """
    model = _Model(network)
    return torch.cat([model.run(batch)[1] for batch in images.split(_BATCH)])


@torch.no_grad()
def exact_levels(network: FoldedNetwork, images: torch.Tensor) -> list[torch.Tensor]:
    """Levels of every hidden layer, in float64 and the shape (T, N, H, W, C); images as for :func:`exact_logits`."""
    return _Model(network).run(images)[0]


class _Model:
    """Layers that are ready to run."""

    def __init__(self, network: FoldedNetwork) -> None:
        self._network = network
        self._projections = [
            [GoldenProjection(integer_projection(network, part)) for part in layer.projections]
            for layer in network.layers
        ]

    def run(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Levels of the hidden layers, and logits."""
        sources = {IMAGE: images.permute(0, 2, 3, 1).contiguous()[None]}
        levels: list[torch.Tensor] = []
        for index, layer in enumerate(self._network.layers):
            sums = self._sums(index, layer, sources)
            if layer.neuron is None:
                return levels, (sums.mean(dim=0) + torch.from_numpy(layer.bias)).flatten(1)
            levels.append(_fire(layer, sums))
            sources[index] = levels[-1].to(torch.uint8)
        raise AssertionError("the last layer is a classifier")

    def _sums(self, index: int, layer: FoldedLayer, sources: dict[int, torch.Tensor]) -> torch.Tensor:
        """Values of the weighted sums without the bias, shape (T_in, N, H, W, C)."""
        parts = (
            golden.run(sources[part.source], torch.float64)
            * torch.from_numpy(part.scale * self._network.input_value(part))
            for part, golden in zip(layer.projections, self._projections[index], strict=True)
        )
        return torch.stack(list(parts)).sum(dim=0)


def _fire(layer: FoldedLayer, sums: torch.Tensor) -> torch.Tensor:
    """Levels of a layer's neurons."""
    neuron = layer.neuron
    assert neuron is not None
    rows: FloatArray = neuron.mixing.sum(axis=1, keepdims=True)
    mixing = torch.from_numpy(np.ascontiguousarray(neuron.mixing if len(sums) == neuron.steps else rows))
    currents = torch.einsum("tu,u...->t...", mixing, sums)
    currents += (torch.from_numpy(rows) * torch.from_numpy(layer.bias))[:, None, None, None]
    currents /= neuron.theta
    levels = torch.empty_like(currents)
    membrane = torch.full_like(currents[0], neuron.initial_membrane / neuron.theta)
    for step, current in enumerate(currents):
        membrane = membrane * float(neuron.leak[step]) + current
        levels[step] = torch.floor(membrane + _TIE).clamp(0, neuron.levels)
        membrane -= levels[step]
    return levels
