"""Unit of a layer's accumulators, and the integers of a residual branch in it.

The unit is one step of the first projection's weights, ``s θ_in``, divided by ``2^shift``. It has to be fine enough for
whatever else is added: the gains of a residual branch, and the bias.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmht.gen.folded import FloatArray, FoldedProjection

__all__ = ["bias_shift", "residual_shift", "residual_weights"]

HIGHEST_SHIFT = 10
"""At this shift a gain is off by at most 2^-11 of one step of the first projection's weights, however small it is."""

UNITS_PER_THRESHOLD = 64
"""A bias is off by at most half a unit: 1/128 of the threshold."""

WIDEST_WEIGHT = 24


def bias_shift(step: FloatArray, theta: float) -> int:
    """Left shift of the first projection that makes its unit fine enough for the bias.

    The smallest shift for which every channel's unit ``step / 2^shift`` is at most ``θ / 64``; but at most 10. Without
    one, a bias would be rounded to whole steps of the weights: with few wide steps, as behind spikes, that is a
    considerable part of the threshold. Behind pixels and average pooling the steps are mostly fine enough.

    Parameters
    ----------
    step : numpy.ndarray of float64, shape (N,)
        ``s θ_in``.
    theta : float
        Threshold of the layer's neurons, or what counts as one step of a logit.
    """
    shift = 0
    while shift < HIGHEST_SHIFT and np.ldexp(step.max(), -shift) * UNITS_PER_THRESHOLD > theta:
        shift += 1
    return shift


def residual_shift(ratio: FloatArray) -> int:
    """Left shift of the first projection that makes its unit fine enough for the gains of the residual branch.

    The smallest shift for which every gain ``round(ratio * 2^shift)`` has a relative error of at most 2^-10
    (NUMERICS.md); but at most 10.

    Parameters
    ----------
    ratio : numpy.ndarray of float64, shape (N,)
        Value of one step of the residual branch's weights over one step of the first projection's; 0 in channels that
        the branch does not reach.
    """
    live = ratio[ratio > 0]
    shift = 0
    while shift < HIGHEST_SHIFT:
        gains = np.ldexp(live, shift)
        if (np.abs(np.rint(gains) - gains) <= gains / 1024).all():
            break
        shift += 1
    return shift


def residual_weights(
    projection: FoldedProjection, ratio: FloatArray, shift: int
) -> tuple[NDArray[np.int64], int, int]:
    """``w[n, c] * R[n]`` with ``R[n] = round(ratio[n] 2^shift)``, half to even, and the width that they need.

    Where all are divisible by a power of two, it is taken out and becomes a left shift.

    Returns
    -------
    weights : numpy.ndarray of int64, the shape of the projection's
    weight_bits : int
        2 to 24.
    own_shift : int
        Left shift of the branch.

    Raises
    ------
    ValueError
        If a weight needs more than 24 bits.
    """
    gains = np.rint(np.ldexp(ratio, shift))
    weights = projection.weights * gains[:, None, None, None].astype(np.int64)
    together = int(np.bitwise_or.reduce(weights, axis=None))
    own_shift = min((together & -together).bit_length() - 1, HIGHEST_SHIFT) if together else 0
    weights >>= own_shift
    largest = int(np.abs(weights).max())
    weight_bits = max(2, largest.bit_length() + 1)
    if weight_bits > WIDEST_WEIGHT:
        raise ValueError(
            f"weight_bits of the residual branch must be between 2 and {WIDEST_WEIGHT}, not {weight_bits}: one of its "
            f"channels is {ratio.max():.3g} times as strong as a step of the first branch's weights"
        )
    return weights, weight_bits, own_shift
