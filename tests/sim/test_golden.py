"""The golden model against a scalar reference written from NUMERICS.md in plain Python integers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmht.gen.integer import PIXEL_MAX, IntegerLayer, IntegerNetwork
from lmht.sim.golden import GoldenModel
from lmht.sim.random_networks import random_images, random_layer, random_network


def round_shift(x, s):
    return (x + (1 << (s - 1))) >> s if s else x


def reference_layer(layer, k_in):
    """A, J, m, v, k of one layer for levels `k_in[u][j]`; J is the logit of a classifier."""
    w, b, G = layer.weights.tolist(), layer.bias.tolist(), layer.multipliers.tolist()
    N, T, U = range(layer.neurons), range(layer.steps), range(layer.input_steps)
    A = [[b[n] + sum(w[n][j] * k_in[u][j] for j in range(layer.inputs)) for n in N] for u in U]
    J = [[round_shift(sum(G[t][u][n] * A[u][n] for u in U), layer.shift) for n in N] for t in T]
    if layer.levels is None:
        return A, J, None, None, None
    F, FL = layer.fraction_bits, layer.leak_bits
    q = [1 << FL for _ in T] if layer.leak is None else layer.leak.tolist()
    m, v, k = [], [], []
    before = [layer.initial_membrane for _ in N]
    for t in T:
        m.append([round_shift(q[t] * before[n], FL) + J[t][n] for n in N])
        k.append([min(max(m[t][n] >> F, 0), layer.levels) for n in N])
        v.append([m[t][n] - (k[t][n] << F) for n in N])
        before = v[t]
    return A, J, m, v, k


def reference(network, image):
    """Results of every layer for an image of shape (C, H, W)."""
    channels, height, width = network.input_shape
    levels = [[int(image[c, y, x]) for y in range(height) for x in range(width) for c in range(channels)]]
    results = []
    for layer in network.layers:
        results.append(reference_layer(layer, levels))
        levels = results[-1][4]
    return results


@st.composite
def networks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    input_shape = tuple(draw(st.lists(st.integers(1, 4), min_size=3, max_size=3)))
    common = {
        "weight_bits": draw(st.integers(2, 8)),
        "fraction_bits": draw(st.integers(0, 12)),
        "multiplier_bits": draw(st.integers(1, 16)),
        "leak_bits": draw(st.integers(1, 12)),
        "leak": draw(st.booleans()),
    }
    inputs, input_steps, input_max_level = math.prod(input_shape), 1, PIXEL_MAX
    layers = []
    for neurons in (*draw(st.lists(st.integers(1, 9), max_size=2)), None):
        layer = random_layer(
            rng,
            inputs=inputs,
            neurons=neurons or draw(st.integers(1, 6)),
            steps=draw(st.integers(1, 8)),
            levels=None if neurons is None else draw(st.integers(1, 15)),
            input_steps=input_steps,
            input_max_level=input_max_level,
            **common,
        )
        if neurons is not None and draw(st.booleans()):
            # As far from a uniform mixing matrix as it gets.
            unrelated = rng.integers(0, 2**layer.multiplier_bits, layer.multipliers.shape)
            layer = replace(layer, multipliers=unrelated, initial_membrane=int(rng.integers(-(2**14), 2**14)))
        layers.append(layer)
        inputs, input_steps, input_max_level = layer.neurons, layer.steps, layer.levels
    return IntegerNetwork(name="random", input_shape=input_shape, layers=tuple(layers))


@settings(max_examples=60)
@given(network=networks(), seed=st.integers(0, 2**31), density=st.floats(0, 1))
def test_every_internal_value_equals_the_scalar_reference(network, seed, density):
    images = random_images(np.random.default_rng(seed), 3, network.input_shape, density)
    model = GoldenModel(network)
    result = model.run(images, batch_size=2, keep_levels=True)
    for number, image in enumerate(images):
        expected = reference(network, image)
        for trace, wanted in zip(model.trace(image), expected, strict=True):
            found = (trace.accumulators, trace.currents, trace.charged, trace.membranes, trace.levels)
            for have, want in zip(found, wanted, strict=True):
                assert (None if have is None else have.tolist()) == want
        logits = expected[-1][1][0]
        assert result.logits[number].tolist() == logits
        assert result.predictions[number] == logits.index(max(logits))
        levels = [layer[4] for layer in expected[:-1]]
        assert [layer[:, number].tolist() for layer in result.levels] == levels
        packed = [sum(any(k) for k in zip(*layer, strict=True)) for layer in levels]
        assert result.events[number].tolist() == [np.count_nonzero(image), *packed]
        assert result.spikes[number].tolist() == [sum(map(sum, layer)) for layer in levels]


def single_layer(**changes):
    values = {
        "weights": np.array([[1], [2]]),
        "bias": np.array([0, 0]),
        "multipliers": np.ones((1, 1, 2), dtype=np.int64),
        "shift": 0,
        "levels": None,
    }
    return IntegerNetwork(name="tiny", input_shape=(1, 1, 1), layers=(IntegerLayer(**(values | changes)),))


def image(pixel):
    return np.full((1, 1, 1, 1), pixel, dtype=np.uint8)


def test_ties_go_to_the_lowest_class():
    result = GoldenModel(single_layer(weights=np.array([[1], [1]]))).run(image(9))
    assert result.logits.tolist() == [[9, 9]]
    assert result.predictions.tolist() == [0]


@pytest.mark.parametrize("bias", [0, 2**24 - 1, 2**30 + 1, 2**46 + 1])
def test_matrix_product_is_exact_whatever_its_size(bias):
    network = single_layer(bias=np.array([bias, -bias]), weights=np.array([[7], [-7]]))
    assert GoldenModel(network).run(image(255)).logits.tolist() == [[1785 + bias, -1785 - bias]]


def test_a_swapped_time_step_is_seen():
    rng = np.random.default_rng(4)
    network = random_network(rng, input_shape=(1, 4, 4), widths=(12, 10))
    first, last = network.layers
    swapped = replace(first, multipliers=first.multipliers[::-1])
    other = IntegerNetwork(name="swapped", input_shape=network.input_shape, layers=(swapped, last))
    images = random_images(rng, 20, network.input_shape)
    # Not in the logits: without a leak the sum over the steps may stay the same.
    levels = [GoldenModel(each).run(images, keep_levels=True).levels[0] for each in (network, other)]
    assert not torch.equal(*levels)


def test_run_wrong_images():
    model = GoldenModel(random_network(np.random.default_rng(0), input_shape=(1, 4, 4)))
    with pytest.raises(TypeError, match=r"^images must be of uint8, not torch\.float32$"):
        model.run(torch.zeros(1, 1, 4, 4))
    with pytest.raises(
        ValueError, match=r"^images must have shape \(at least 1, 1, 4, 4\), not \(1, 1, 4, 5\)$"
    ):
        model.run(torch.zeros(1, 1, 4, 5, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"^batch_size must be at least 1, not 0$"):
        model.run(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), batch_size=0)


def test_values_beyond_64_bits_are_refused():
    network = single_layer(
        bias=np.array([2**46, 0]),
        multipliers=np.full((1, 1, 2), 2**24 - 1),
        multiplier_bits=24,
    )
    with pytest.raises(ValueError, match=r"^layer 0: values of the golden model must fit 64 bits, not 71$"):
        GoldenModel(network)
