import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lmht.gen.integer_projection import IntegerProjection
from lmht.rtl.projection import IMAGE, Pooling
from lmht.sim.random_conv_networks import random_conv_network


def projection(**changes):
    values = {
        "source": 0,
        "input_shape": (4, 9, 7),
        "weights": np.ones((6, 2, 3, 5), dtype=int),
        "stride": (2, 1),
        "padding": (1, 0),
        "groups": 2,
        "pooling": Pooling(kind="sum", size=(2, 1)),
        "input_max_level": 3,
    }
    return IntegerProjection(**(values | changes))


def test_shapes():
    found = projection()
    assert (found.kernel, found.pooled_shape, found.output_shape) == ((3, 5), (4, 4, 7), (6, 2, 3))
    assert (found.pooled_max_level, projection(pooling=None).pooled_max_level) == (6, 3)
    assert projection(pooling=Pooling(kind="max", size=(3, 2)), padding=(1, 2)).pooled_max_level == 3
    assert not found.weights.flags.writeable


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31))
def test_shapes_are_those_of_pytorch(seed):
    for layer in random_conv_network(np.random.default_rng(seed)).layers:
        for found in layer.projections:
            image = torch.zeros(1, *found.input_shape)
            if found.pooling is not None:
                image = functional.max_pool2d(image, found.pooling.size)
            assert tuple(image.shape[1:]) == found.pooled_shape
            weights = torch.from_numpy(found.weights.astype(np.float32))
            convolved = functional.conv2d(
                image, weights, stride=found.stride, padding=found.padding, groups=found.groups
            )
            assert tuple(convolved.shape[1:]) == found.output_shape


def test_dense_takes_the_order_of_pytorch():
    weights = np.arange(24).reshape(2, 12) - 12
    common = {"source": IMAGE, "weight_bits": 6}
    found = IntegerProjection.dense(weights, input_shape=(3, 2, 2), **common)
    assert found.is_dense
    assert (found.weights == weights.reshape(2, 3, 2, 2)).all()
    pooled = IntegerProjection.dense(
        weights, input_shape=(3, 5, 4), pooling=Pooling(kind="sum", size=(2, 2)), **common
    )
    assert not pooled.is_dense
    assert pooled.output_shape == (2, 1, 1)
    message = r"^weights must have shape \(any, 8\), not \(2, 12\)$"
    with pytest.raises(ValueError, match=message):
        IntegerProjection.dense(weights, input_shape=(2, 2, 2), **common)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "P2x1-6C3x5s2g2"),
        ({"pooling": None, "stride": (1, 1)}, "6C3x5g2"),
        ({"pooling": Pooling(kind="max", size=(3, 3)), "padding": (1, 2)}, "M3-6C3x5s2g2"),
        ({"groups": 1, "weights": np.ones((6, 4, 4, 7), dtype=int), "padding": (0, 0)}, "P2x1-6"),
        ({"weights": np.ones((6, 2, 4, 7), dtype=int), "padding": (0, 0)}, "P2x1-6C4x7s2g2"),
    ],
)
def test_describe(changes, text):
    assert projection(**changes).describe() == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.full((6, 2, 3, 5), 8)}, "weights must be between -7 and 7, not 8"),
        ({"weights": np.full((6, 2, 3, 5), -8)}, "weights must be between -7 and 7, not -8"),
        ({"weights": np.ones((6, 2, 3), int)}, "weights must have shape (any, any, any, any), not (6, 2, 3)"),
        ({"weights": np.ones((6, 4, 3, 5), int)}, "weights must have 2 input channels, not 4"),
        ({"weights": np.ones((5, 2, 3, 5), int)}, "groups must divide the 5 output channels, not 2"),
        ({"groups": 3}, "groups must divide the 4 input channels, not 3"),
        ({"groups": 5}, "groups must be between 1 and 4, not 5"),
        ({"weight_bits": 25}, "weight_bits must be between 2 and 24, not 25"),
        ({"shift": 25}, "projection shift must be between 0 and 24, not 25"),
        ({"input_steps": 33}, "input_steps must be between 1 and 32, not 33"),
        ({"input_max_level": 256}, "input_max_level must be between 1 and 255, not 256"),
        ({"input_shape": (4, 9, 0)}, "input_shape width must be between 1 and 65536, not 0"),
        ({"stride": (1, 3)}, "columns of stride must be one of 1, 2, 4, 8, not 3"),
        ({"padding": (3, 0)}, "rows of padding must be between 0 and 2, not 3"),
        ({"input_shape": (4, 9, 4)}, "columns of kernel must be between 1 and 4, not 5"),
        (
            {"pooling": Pooling(kind="sum", size=(10, 1)), "padding": (2, 0)},
            "pooling window must fit the 9 x 7 map, not be (10, 1)",
        ),
    ],
)
def test_init_wrong_value(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        projection(**changes)


def test_init_wrong_type():
    with pytest.raises(TypeError, match=r"^weights must be an array of integers, not ndarray$"):
        projection(weights=np.ones((6, 2, 3, 5)))
    with pytest.raises(TypeError, match=r"^weights must be an array of integers, not list$"):
        projection(weights=[[1]])
