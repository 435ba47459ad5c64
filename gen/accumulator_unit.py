"""Unit of a layer's accumulators, and the integers of a residual branch in it.

The unit is one step of the first projection's weights, ``s θ_in``, divided by ``2^shift``. It has to be fine enough for
the gains of a residual branch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmht.gen.folded import FloatArray, FoldedProjection

__all__ = ["residual_shift", "residual_weights"]

SMALLEST_GAIN = 512
"""A gain of at least this many units is rounded with a relative error of at most 2^-10."""

HIGHEST_SHIFT = 10
"""At this shift a gain is off by at most 2^-11 of one step of the first projection's weights, however small it is."""

WIDEST_WEIGHT = 24


def residual_shift(ratio: FloatArray) -> int:
    """Left shift of the first projection that makes its unit fine enough for the gains of the residual branch.

    The smallest shift for which every gain ``round(ratio * 2^shift)`` is at least 512, that is, has a relative error of
    at most 2^-10 (NUMERICS.md); but at most 10.

    Parameters
    ----------
    ratio : numpy.ndarray of float64, shape (N,)
        Value of one step of the residual branch's weights over one step of the first projection's; 0 in channels that
        the branch does not reach.
    """
    live = ratio[ratio > 0]
    shift = 0
    while shift < HIGHEST_SHIFT and (np.rint(np.ldexp(live, shift)) < SMALLEST_GAIN).any():
        shift += 1
    return shift


def residual_weights(
    projection: FoldedProjection, ratio: FloatArray, shift: int
) -> tuple[NDArray[np.int64], int]:
    """``w[n, c] * R[n]`` with ``R[n] = round(ratio[n] 2^shift)``, half to even, and the width that they need.

    Returns
    -------
    weights : numpy.ndarray of int64, the shape of the projection's
    weight_bits : int
        2 to 24.

    Raises
    ------
    ValueError
        If a weight needs more than 24 bits.
    """
    gains = np.rint(np.ldexp(ratio, shift))
    weights = projection.weights * gains[:, None, None, None]
    largest = int(np.abs(weights).max())
    weight_bits = max(2, largest.bit_length() + 1)
    if weight_bits > WIDEST_WEIGHT:
        raise ValueError(
            f"weight_bits of the residual branch must be between 2 and {WIDEST_WEIGHT}, not {weight_bits}: one of its "
            f"channels is {ratio.max():.3g} times as strong as a step of the first branch's weights"
        )
    return weights.astype(np.int64), weight_bits
