import numpy as np
import pytest

from lmht.gen.balance_scales import SCALE_RANGE, balance_scales
from lmht.gen.fold_batch_norm import FoldedLayer, FoldedNetwork


def balance(weights, scale):
    layer = FoldedLayer(
        weights=np.array(weights),
        scale=np.array(scale, dtype=float),
        bias=np.zeros(len(scale)),
        weight_bits=4,
        neuron=None,
    )
    return balance_scales(FoldedNetwork(input_shape=(1, 1, 2), layers=(layer,))).layers[0]


def test_scales_within_the_range_stay():
    weights = [[7, 1], [-7, 3], [5, 7]]
    balanced = balance(weights, [1.0, 1 / SCALE_RANGE, 0.3])
    np.testing.assert_array_equal(balanced.weights, weights)
    np.testing.assert_array_equal(balanced.scale, [1.0, 1 / SCALE_RANGE, 0.3])


def test_faint_channel_is_requantized():
    balanced = balance([[7, 1], [-7, 3]], [1.0, 1 / (2 * SCALE_RANGE)])
    assert balanced.scale[1] == 1 / SCALE_RANGE
    # -3.5 and 1.5 to even.
    np.testing.assert_array_equal(balanced.weights, [[7, 1], [-4, 2]])


@pytest.mark.parametrize("faint", [0.0, 1e-300, 1e-30])
def test_channel_without_weights_gets_the_largest_scale(faint):
    balanced = balance([[7, 1], [-7, 3]], [2.0, faint])
    np.testing.assert_array_equal(balanced.weights, [[7, 1], [0, 0]])
    np.testing.assert_array_equal(balanced.scale, [2.0, 2.0])


def test_scale_of_a_dead_channel_does_not_drown_the_others():
    balanced = balance([[7, 1], [0, 0]], [0.01, 316.0])
    np.testing.assert_array_equal(balanced.scale, [0.01, 0.01])
    np.testing.assert_array_equal(balanced.weights, [[7, 1], [0, 0]])


def test_dead_layer():
    np.testing.assert_array_equal(balance([[0, 0], [0, 0]], [0, 3]).scale, [1.0, 1.0])
