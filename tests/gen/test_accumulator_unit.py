import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lmht.gen.accumulator_unit import HIGHEST_SHIFT, residual_shift, residual_weights
from lmht.gen.folded import FoldedProjection


def branch(weights, bits=4):
    weights = np.array(weights)[:, None, None, None]
    return FoldedProjection(
        source=0,
        input_shape=(len(weights), 4, 4),
        weights=weights,
        scale=np.ones(len(weights)),
        weight_bits=bits,
        groups=len(weights),
    )


@given(arrays(np.float64, 5, elements=st.floats(0.6, 4000)))
def test_gains_are_rounded_to_a_thousandth_at_the_smallest_shift(ratio):
    shift = residual_shift(ratio)
    weights, bits = residual_weights(branch([1] * 5), ratio, shift)
    gains = weights[:, 0, 0, 0] / 2.0**shift
    assert (np.abs(gains / ratio - 1) <= 2.0**-10).all()
    assert 2 ** (bits - 2) <= weights.max() < 2 ** (bits - 1)
    if shift > 0:
        assert np.rint(ratio.min() * 2.0 ** (shift - 1)) < 512


def test_faint_and_dead_channels_do_not_widen_the_others():
    ratio = np.array([3.0, 1e-9, 0.0])
    assert residual_shift(ratio) == HIGHEST_SHIFT
    weights, bits = residual_weights(branch([1, 7, 7]), ratio, HIGHEST_SHIFT)
    assert (weights[:, 0, 0, 0].tolist(), bits) == ([3072, 0, 0], 13)
    assert residual_shift(np.array([3.0, 0.0])) == residual_shift(np.array([3.0])) == 8


def test_dead_branch():
    assert residual_shift(np.zeros(2)) == 0
    weights, bits = residual_weights(branch([1, 1]), np.zeros(2), 0)
    assert (weights.any(), bits) == (False, 2)


def test_signs_and_weights_multiply_the_gain():
    weights, bits = residual_weights(branch([-7, 3]), np.array([1.0, 2.5]), 9)
    assert (weights[:, 0, 0, 0].tolist(), bits) == ([-3584, 3840], 13)


def test_branch_that_is_too_strong():
    with pytest.raises(
        ValueError,
        match=r"^weight_bits of the residual branch must be between 2 and 24, not 26: one of its channels is 1.2e\+06 ",
    ):
        residual_weights(branch([7]), np.array([1.2e6]), 1)
