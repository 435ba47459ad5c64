import numpy as np
import pytest

from lmht.gen.balance_scales import SCALE_RANGE, balance_scales
from lmht.gen.folded import FoldedLayer, FoldedNetwork, FoldedProjection
from lmht.rtl.projection import IMAGE


def project(weights, scale, **others):
    weights = np.array(weights)
    return FoldedProjection(
        source=IMAGE,
        input_shape=(weights.shape[1], 1, 1),
        weights=weights[:, :, None, None],
        scale=np.array(scale, dtype=float),
        weight_bits=4,
        **others,
    )


def balance_layer(*projections):
    layer = FoldedLayer(projections=projections, bias=np.zeros(len(projections[0].scale)), neuron=None)
    return balance_scales(FoldedNetwork(input_shape=projections[0].input_shape, layers=(layer,))).layers[0]


def balance(weights, scale):
    return balance_layer(project(weights, scale)).projections[0]


def test_scales_within_the_range_stay():
    weights = [[7, 1], [-7, 3], [5, 7]]
    balanced = balance(weights, [1.0, 1 / SCALE_RANGE, 0.3])
    np.testing.assert_array_equal(balanced.weights[:, :, 0, 0], weights)
    np.testing.assert_array_equal(balanced.scale, [1.0, 1 / SCALE_RANGE, 0.3])


def test_faint_channel_is_requantized():
    balanced = balance([[7, 1], [-7, 3]], [1.0, 1 / (2 * SCALE_RANGE)])
    assert balanced.scale[1] == 1 / SCALE_RANGE
    # -3.5 and 1.5 to even.
    np.testing.assert_array_equal(balanced.weights[:, :, 0, 0], [[7, 1], [-4, 2]])


@pytest.mark.parametrize("faint", [0.0, 1e-300, 1e-30])
def test_channel_without_weights_gets_the_largest_scale(faint):
    balanced = balance([[7, 1], [-7, 3]], [2.0, faint])
    np.testing.assert_array_equal(balanced.weights[:, :, 0, 0], [[7, 1], [0, 0]])
    np.testing.assert_array_equal(balanced.scale, [2.0, 2.0])


def test_scale_of_a_dead_channel_does_not_drown_the_others():
    balanced = balance([[7, 1], [0, 0]], [0.01, 316.0])
    np.testing.assert_array_equal(balanced.scale, [0.01, 0.01])
    np.testing.assert_array_equal(balanced.weights[:, :, 0, 0], [[7, 1], [0, 0]])


def test_dead_layer():
    np.testing.assert_array_equal(balance([[0, 0], [0, 0]], [0, 3]).scale, [1.0, 1.0])


def test_residual_branch_stays():
    faint = [1.0, 1 / (2 * SCALE_RANGE)]
    residual = project([[7, 1], [-7, 3]], faint)
    main, other = balance_layer(project([[7, 1], [-7, 3]], faint), residual).projections
    assert other is residual
    assert main.scale[1] == 1 / SCALE_RANGE
