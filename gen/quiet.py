"""Levels of a pixel that no event reaches: they follow from the bias alone, so they are known before any frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmht.gen.integer import IntegerLayer
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["is_silent", "quiet_levels"]


def quiet_levels(layer: IntegerLayer) -> NDArray[np.int64]:
    """Levels of every output channel at a pixel without input: NUMERICS.md 3 to 5 with ``J[t, n] = B[t, n]``.

    Parameters
    ----------
    layer : IntegerLayer

    Returns
    -------
    numpy.ndarray of int64, shape (T, N)
        ``k[t, n]``, 0 to ``L``.

    Raises
    ------
    ValueError
        If the layer is a classifier, which has no levels.
    """
    if layer.levels is None:
        raise ValueError("a classifier has no levels")
    # Python integers: the product with a leak may need more than 64 bits.
    membrane = np.full(layer.channels, layer.initial_membrane, dtype=object)
    levels = np.empty((layer.steps, layer.channels), dtype=np.int64)
    for step in range(layer.steps):
        if layer.leak is not None:
            membrane = _round_shift(membrane * int(layer.leak[step]), layer.leak_bits)
        charged = membrane + layer.bias[step].astype(object)
        fired = np.clip(charged >> layer.fraction_bits, 0, layer.levels)
        membrane = charged - (fired << layer.fraction_bits)
        levels[step] = fired
    return levels


def is_silent(tile: TileParameters, layer: IntegerLayer) -> bool:
    """Whether no neuron of a tile's slice of `layer` spikes without input."""
    return not quiet_levels(layer)[:, tile.channel_offset : tile.channel_offset + tile.channels].any()


def _round_shift(values: NDArray[np.object_], shift: int) -> NDArray[np.object_]:
    rounding = 1 << (shift - 1) if shift else 0
    return (values + rounding) >> shift
