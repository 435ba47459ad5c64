from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmht.gen.choose_widths import bound_accumulators, bound_currents, bound_membranes, choose_widths
from lmht.gen.integer import IntegerNetwork
from lmht.sim.golden import GoldenModel
from lmht.sim.random_networks import random_layer, random_network


def fits(values, bits):
    return -(2 ** (bits - 1)) <= min(values) and max(values) < 2 ** (bits - 1)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    levels=st.integers(1, 15),
    steps=st.integers(1, 8),
    leak=st.booleans(),
    weight_bits=st.integers(2, 8),
    fraction_bits=st.integers(0, 10),
    start=st.integers(-5000, 5000),
)
def test_no_value_of_any_image_leaves_its_width(seed, levels, steps, leak, weight_bits, fraction_bits, start):
    rng = np.random.default_rng(seed)
    network = random_network(
        rng,
        input_shape=(1, 2, 3),
        widths=(6, 5, 3),
        levels=levels,
        steps=steps,
        leak=leak,
        weight_bits=weight_bits,
        fraction_bits=fraction_bits,
    )
    first, *others = network.layers
    network = IntegerNetwork(
        name="n", input_shape=(1, 2, 3), layers=(replace(first, initial_membrane=start), *others)
    )
    model = GoldenModel(network)
    # Each neuron's own extreme images, and random ones.
    extremes = [np.where(sign * first.weights > 0, 255, 0).reshape(-1, 1, 2, 3) for sign in (1, -1)]
    images = np.concatenate([*extremes, rng.choice([0, 1, 255], (5, 1, 2, 3))]).astype(np.uint8)
    widths = choose_widths(network)
    for image in images:
        for layer, width, trace in zip(network.layers, widths, model.trace(image), strict=True):
            accumulators = trace.accumulators
            assert fits(accumulators.flatten().tolist(), width.accumulator_bits)
            assert fits((accumulators.numpy() - layer.bias).ravel().tolist(), width.accumulator_bits)
            products = layer.multipliers * accumulators.numpy()
            partial = np.cumsum(products, axis=1)
            rounding = 1 << layer.shift >> 1
            assert fits([*products.flat, *partial.flat, *(partial[:, -1] + rounding).flat], width.mix_bits)
            assert fits(trace.currents.flatten().tolist(), width.current_bits)
            if trace.charged is not None:
                values = [start, *trace.charged.flatten().tolist(), *trace.membranes.flatten().tolist()]
                assert fits(values[1 if layer is not first else 0 :], width.membrane_bits)


def test_accumulator_bounds_are_reached():
    layer = random_layer(np.random.default_rng(0), inputs=6, neurons=5, steps=2, levels=2)
    weighted, accumulator = bound_accumulators(layer)
    for n in range(5):
        positive = int(np.maximum(layer.weights[n], 0).sum()) * 255
        negative = int(np.minimum(layer.weights[n], 0).sum()) * 255
        assert (weighted.low[n], weighted.high[n]) == (negative, positive)
        bias = int(layer.bias[n])
        assert (accumulator.low[n], accumulator.high[n]) == (negative + bias, positive + bias)


@settings(max_examples=100)
@given(
    low=st.integers(-200, 200),
    size=st.integers(0, 100),
    levels=st.integers(1, 3),
    fraction_bits=st.integers(0, 5),
)
def test_membrane_bounds_are_exact_for_one_step(low, size, levels, fraction_bits):
    layer = random_layer(np.random.default_rng(0), inputs=1, neurons=1, steps=1, levels=levels)
    layer = replace(layer, fraction_bits=fraction_bits, initial_membrane=0)
    current = bound_currents(layer, bound_accumulators(layer)[1])[1]
    current.low[:], current.high[:] = low, low + size
    held = bound_membranes(layer, current)
    values = {0}
    for m in range(low, low + size + 1):
        values |= {m, m - (min(max(m >> fraction_bits, 0), levels) << fraction_bits)}
    assert (held.low[0], held.high[0]) == (min(values), max(values))


def test_widths_of_a_small_layer_by_hand():
    layer = random_layer(np.random.default_rng(0), inputs=2, neurons=1, steps=1, levels=None)
    layer = replace(layer, weights=np.array([[3, -2]]), bias=np.array([10]), multipliers=np.array([[[4]]]))
    widths = choose_widths(IntegerNetwork(name="n", input_shape=(1, 1, 2), layers=(layer,)))[0]
    # A from -510 to 775, 4 A from -2040 to 3100.
    assert (widths.accumulator_bits, widths.mix_bits, widths.current_bits) == (11, 13, 13)


def test_spike_is_always_a_slice_of_the_membrane():
    rng = np.random.default_rng(0)
    network = random_network(rng, input_shape=(1, 1, 1), widths=(1, 2), levels=5)
    quiet = replace(
        network.layers[0],
        weights=np.zeros((1, 1), dtype=int),
        bias=np.zeros(1, dtype=int),
        initial_membrane=0,
    )
    widths = choose_widths(replace(network, layers=(quiet, network.layers[1])))
    assert widths[0].membrane_bits == 8 + 3 + 1


def test_too_wide_is_refused():
    layer = random_layer(np.random.default_rng(0), inputs=1, neurons=1, steps=1, levels=None)
    layer = replace(layer, bias=np.array([2**47 - 1]), weights=np.array([[7]]))
    with pytest.raises(ValueError, match=r"^layer 0: accumulator_bits must be between 1 and 48, not 49$"):
        choose_widths(IntegerNetwork(name="n", input_shape=(1, 1, 1), layers=(layer,)))
