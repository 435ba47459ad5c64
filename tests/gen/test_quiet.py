from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmht.gen.quiet import quiet_levels
from lmht.sim.golden import GoldenModel
from lmht.sim.random_conv_networks import random_conv_network
from lmht.sim.random_networks import random_layer


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), quiet=st.sampled_from([None, True, False]))
def test_levels_are_those_of_a_black_image(seed, quiet):
    network = random_conv_network(np.random.default_rng(seed), max_size=5, hidden_layers=(1, 1), quiet=quiet)
    layer = network.layers[0]
    black = np.zeros((1, *network.input_shape), dtype=np.uint8)
    found = GoldenModel(network).run(black, keep_levels=True).levels[0].numpy()
    expected = quiet_levels(layer)
    np.testing.assert_array_equal(
        found.reshape(layer.steps, -1, layer.channels),
        np.repeat(expected[:, None], layer.neurons // layer.channels, 1),
    )
    if quiet:
        assert not expected.any()


def scalar_levels(layer, n):
    """Steps 3 to 5 of NUMERICS.md for one channel, in Python integers."""

    def round_shift(x, s):
        return (x + (1 << s - 1)) >> s if s else x

    levels, v = [], layer.initial_membrane
    for t in range(layer.steps):
        if layer.leak is not None:
            v = round_shift(int(layer.leak[t]) * v, layer.leak_bits)
        m = v + int(layer.bias[t, n])
        k = min(max(m >> layer.fraction_bits, 0), layer.levels)
        levels.append(k)
        v = m - (k << layer.fraction_bits)
    return levels


@given(
    seed=st.integers(0, 2**31),
    leak=st.booleans(),
    scale=st.integers(0, 47),
)
def test_every_channel_equals_the_scalar_reference(seed, leak, scale):
    rng = np.random.default_rng(seed)
    layer = random_layer(
        rng, inputs=2, neurons=5, steps=4, levels=3, input_steps=3, leak=leak, multiplier_bits=24
    )
    bias = rng.integers(-(2**scale) + 1, 2**scale, (4, 5))
    layer = replace(layer, bias=bias, initial_membrane=int(rng.integers(-(2**12), 2**12)))
    assert quiet_levels(layer).T.tolist() == [scalar_levels(layer, n) for n in range(5)]


def test_products_beyond_64_bits_are_exact():
    layer = random_layer(np.random.default_rng(0), inputs=1, neurons=1, steps=2, levels=15, leak=True)
    top = 2**17 - 1
    layer = replace(
        layer,
        bias=np.array([[-(2**47)], [2**47 - 1]]),
        leak=np.array([top, top]),
        leak_bits=16,
        fraction_bits=20,
        initial_membrane=2**47 - 1,
    )
    assert quiet_levels(layer).tolist() == [[15], [15]]
    # The leak doubles what is below 0, and the second bias does not lift it as far.
    layer = replace(layer, initial_membrane=0)
    assert quiet_levels(layer).tolist() == [[0], [0]]


def test_a_classifier_has_none():
    layer = random_layer(np.random.default_rng(0), inputs=2, neurons=3, steps=1, levels=None)
    with pytest.raises(ValueError, match=r"^a classifier has no levels$"):
        quiet_levels(layer)
