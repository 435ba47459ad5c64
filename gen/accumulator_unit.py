"""Unit of a layer's accumulators, and the integers of a residual branch in it.

The unit is one step of the first projection's weights, ``s θ_in``, divided by ``2^shift``. It has to be fine enough for
the gains of a residual branch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmht.gen.folded import FloatArray, FoldedProjection

__all__ = ["DEFAULT_GAIN_BITS", "residual_shift", "residual_weights"]

DEFAULT_GAIN_BITS = 10
"""A gain has a relative error of at most 2^-10, or is off by at most 2^-11 of one step of the first projection."""

MOST_OWN_SHIFT = 10
"""Of a branch whose weights are all divisible by a power of two."""

WIDEST_WEIGHT = 24


def residual_shift(ratio: FloatArray, gain_bits: int = DEFAULT_GAIN_BITS, largest_weight: int = 1) -> int:
    """Left shift of the first projection that makes its unit fine enough for the gains of the residual branch.

    The smallest shift for which every gain ``round(ratio * 2^shift)`` has a relative error of at most ``2^-gain_bits``
    (NUMERICS.md); but at most `gain_bits`, where a gain is off by at most ``2^-(gain_bits + 1)`` of one step of the
    first projection's weights, and at most what lets the largest weight fit into 24 bits.

    Parameters
    ----------
    ratio : numpy.ndarray of float64, shape (N,)
        Value of one step of the residual branch's weights over one step of the first projection's; 0 in channels that
        the branch does not reach.
    gain_bits : int
        1 to 20.
    largest_weight : int
        Largest magnitude of the branch's own integer weights.
    """
    live = ratio[ratio > 0]
    shift = 0
    while shift < gain_bits:
        exact = np.ldexp(live, shift)
        widest = 2 * max(1, largest_weight) * np.rint(2 * exact.max(initial=0))
        if (
            np.abs(np.rint(exact) - exact) <= np.ldexp(exact, -gain_bits)
        ).all() or widest >= 2**WIDEST_WEIGHT:
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
    own_shift = min((together & -together).bit_length() - 1, MOST_OWN_SHIFT) if together else 0
    weights >>= own_shift
    largest = int(np.abs(weights).max())
    weight_bits = max(2, largest.bit_length() + 1)
    if weight_bits > WIDEST_WEIGHT:
        raise ValueError(
            f"weight_bits of the residual branch must be between 2 and {WIDEST_WEIGHT}, not {weight_bits}: one of its "
            f"channels is {ratio.max():.3g} times as strong as a step of the first branch's weights"
        )
    return weights, weight_bits, own_shift
