"""Pass 2: bring the first layer's inputs from PyTorch's order into the order of the hardware's events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lmht.gen.fold_batch_norm import FoldedNetwork

__all__ = ["order_inputs"]


def order_inputs(network: FoldedNetwork) -> FoldedNetwork:
    """Permute the columns of the first layer from ``(channel, y, x)`` to ``(y, x, channel)``.

    PyTorch flattens an image (C, H, W); an event's input index is ``j = (y * width + x) * channels +
    channel``.
    """
    first, *others = network.layers
    source = np.arange(first.weights.shape[1]).reshape(network.input_shape)
    order = source.transpose(1, 2, 0).reshape(-1)
    ordered = replace(first, weights=np.ascontiguousarray(first.weights[:, order]))
    return replace(network, layers=(ordered, *others))
