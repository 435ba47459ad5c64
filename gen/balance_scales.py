"""Pass 3: lift scales so faint that they would widen every accumulator, and give one where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lmht.gen.fold_batch_norm import FoldedLayer, FoldedNetwork

__all__ = ["SCALE_RANGE", "balance_scales"]

SCALE_RANGE = 64
"""Largest scale of a layer over its smallest. Inside this range nothing is changed."""


def balance_scales(network: FoldedNetwork) -> FoldedNetwork:
    """Keep the scales of each layer within a factor of :data:`SCALE_RANGE` of the largest.

    One shift S serves all multipliers of a layer (NUMERICS.md), so a channel with a scale far below the
    largest would have a multiplier near 0, while its bias in units of that scale would widen the accumulators
    of all channels. Batch norm makes such channels: ``γ`` near 0, or dead neurons whose variance is near 0.

    * A channel whose scale is below ``largest / SCALE_RANGE`` gets that scale and the weights ``round(w * old
      / new)``, half to even. Its weights are then off by at most half a step, 1/128 of the largest channel's
      step.
    * A channel whose weights are all 0 (or its scale is: ``γ = 0``) has no scale of its own and gets the
      largest one; its current is its bias alone.

    All other channels stay as they are, so a usual network leaves this pass unchanged.
    """
    return replace(network, layers=tuple(_balance(layer) for layer in network.layers))


def _balance(layer: FoldedLayer) -> FoldedLayer:
    live = (layer.weights != 0).any(axis=1) & (layer.scale > 0)
    largest = layer.scale[live].max() if live.any() else 1.0
    smallest = largest / SCALE_RANGE
    scale = np.where(live, np.maximum(layer.scale, smallest), largest)
    kept = live & (layer.scale >= smallest)
    rounded = np.rint(layer.weights * (layer.scale / scale)[:, None]).astype(np.int64)
    weights = np.where(kept[:, None], layer.weights, np.where(live[:, None], rounded, 0))
    scale = np.where((weights != 0).any(axis=1), scale, largest)
    return replace(layer, weights=weights, scale=scale)
