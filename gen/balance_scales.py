"""Pass 2: lift scales so faint that they would widen every accumulator, and give one where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lmht.gen.folded import FoldedLayer, FoldedNetwork

__all__ = ["SCALE_RANGE", "balance_scales"]

SCALE_RANGE = 64
"""Largest scale of a layer over its smallest. Inside this range nothing is changed."""


def balance_scales(network: FoldedNetwork) -> FoldedNetwork:
    """Keep the scales of each layer's first projection within a factor of :data:`SCALE_RANGE` of the largest.

    One shift S serves all multipliers of a layer (NUMERICS.md), so a channel with a scale far below the
    largest would have a multiplier near 0, while its bias in units of that scale would widen the accumulators
    of all channels. Batch norm makes such channels: ``γ`` near 0, or dead neurons whose variance is near 0.

    * A channel whose scale is below ``largest / SCALE_RANGE`` gets that scale and the weights ``round(w * old
      / new)``, half to even. Its weights are then off by at most half a step, 1/128 of the largest channel's
      step.
    * A channel whose weights are all 0 (or its scale is: ``γ = 0``) has no scale of its own and gets the
      largest one; its current is its bias and, where there is one, its residual branch alone.

    All other channels stay as they are, so a usual network leaves this pass unchanged. A residual branch stays too:
    its integers are made in the units of the first projection (:func:`~lmht.gen.quantize.quantize`).
    """
    return replace(network, layers=tuple(_balance(layer) for layer in network.layers))


def _balance(layer: FoldedLayer) -> FoldedLayer:
    main, *others = layer.projections
    live = main.weights.any(axis=(1, 2, 3)) & (main.scale > 0)
    largest = main.scale[live].max() if live.any() else 1.0
    smallest = largest / SCALE_RANGE
    scale = np.where(live, np.maximum(main.scale, smallest), largest)
    kept = live & (main.scale >= smallest)
    rounded = np.rint(main.weights * _per_channel(main.scale / scale)).astype(np.int64)
    weights = np.where(_per_channel(kept), main.weights, np.where(_per_channel(live), rounded, 0))
    scale = np.where(weights.any(axis=(1, 2, 3)), scale, largest)
    return replace(layer, projections=(replace(main, weights=weights, scale=scale), *others))


def _per_channel(values: np.ndarray) -> np.ndarray:
    """Values of the output channels beside weights of shape (N, C, KH, KW)."""
    return values[:, None, None, None]
