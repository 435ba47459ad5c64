from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmht.gen.choose_widths import bound_accumulators, bound_currents, bound_membranes, choose_widths
from lmht.gen.integer import IntegerLayer, IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.rtl.projection import Pooling
from lmht.sim.golden import GoldenModel
from lmht.sim.golden_projection import GoldenProjection
from lmht.sim.random_conv_networks import random_conv_network
from lmht.sim.random_networks import random_images, random_layer, random_network


def fits(values, bits):
    return -(2 ** (bits - 1)) <= values.min() and values.max() < 2 ** (bits - 1)


def check_widths(network, widths, images):
    """Nothing that is computed for the images leaves its width."""
    model = GoldenModel(network)
    for image in images:
        for layer, width, trace in zip(network.layers, widths, model.trace(image), strict=True):
            accumulators = trace.accumulators.numpy().reshape(layer.input_steps, -1, layer.channels)
            assert fits(accumulators, width.accumulator_bits)
            products = layer.full_multipliers()[:, :, None] * accumulators
            partial = np.cumsum(products, axis=1)
            rounding = 1 << layer.shift >> 1
            for sums in (products, partial, partial[:, -1] + rounding):
                assert fits(sums, width.mix_bits)
            assert fits(layer.bias, width.bias_bits)
            assert fits(trace.currents, width.current_bits)
            if trace.charged is not None:
                assert fits(np.array([layer.initial_membrane]), width.membrane_bits)
                for membranes in (trace.charged, trace.membranes):
                    assert fits(membranes, width.membrane_bits)


def extreme_images(network):
    """Images that drive the neurons of the first layer as far as they go."""
    images = []
    for channel in network.layers[0].projections[0].weights:
        for sign in (1, -1):
            # Repeats the kernel over the map, so that a window of its size holds all taps in some order.
            tiles = [-(-size // have) for size, have in zip(network.input_shape, channel.shape, strict=True)]
            channels, height, width = network.input_shape
            pattern = np.tile(channel, tiles)[:channels, :height, :width]
            images.append(np.where(sign * pattern > 0, 255, 0))
    return np.array(images, dtype=np.uint8)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    levels=st.integers(1, 15),
    steps=st.integers(1, 8),
    leak=st.booleans(),
    diagonal=st.booleans(),
    weight_bits=st.integers(2, 8),
    fraction_bits=st.integers(0, 10),
    start=st.integers(-5000, 5000),
)
def test_no_value_of_a_linear_network_leaves_its_width(
    seed, levels, steps, leak, diagonal, weight_bits, fraction_bits, start
):
    rng = np.random.default_rng(seed)
    network = random_network(
        rng,
        input_shape=(1, 2, 3),
        widths=(6, 5, 3),
        levels=levels,
        steps=steps,
        leak=leak,
        diagonal=diagonal,
        weight_bits=weight_bits,
        fraction_bits=fraction_bits,
    )
    first, *others = network.layers
    network = replace(network, layers=(replace(first, initial_membrane=start), *others))
    images = np.concatenate([extreme_images(network), rng.choice([0, 1, 255], (5, 1, 2, 3)).astype(np.uint8)])
    check_widths(network, choose_widths(network), images)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31))
def test_no_value_of_a_convolutional_network_leaves_its_width(seed):
    rng = np.random.default_rng(seed)
    network = random_conv_network(rng, max_size=6, max_levels=15, max_steps=8)
    images = np.concatenate([extreme_images(network), random_images(rng, 4, network.input_shape)])
    check_widths(network, choose_widths(network), images)


@pytest.mark.parametrize(
    "field", ["accumulator_bits", "mix_bits", "bias_bits", "current_bits", "membrane_bits"]
)
def test_a_bit_less_is_found(field):
    network = random_network(np.random.default_rng(3), input_shape=(1, 2, 3), widths=(1, 3), levels=2)
    images = extreme_images(network)
    first, *others = choose_widths(network)
    check_widths(network, (first, *others), images)
    # The bounds of one neuron without hidden inputs are exact.
    narrow = replace(first, **{field: getattr(first, field) - 1})
    with pytest.raises(AssertionError):
        check_widths(network, (narrow, *others), images)


def two_projections(rng):
    """A layer with a shifted convolution over sums of pixels and a wide branch of the same map."""
    weights = rng.integers(-7, 7, (4, 2, 3, 3), endpoint=True)
    main = IntegerProjection(
        source=0,
        input_shape=(2, 6, 6),
        weights=weights,
        shift=5,
        padding=(1, 1),
        pooling=Pooling(kind="sum", size=(2, 2)),
        input_max_level=3,
    )
    branch = IntegerProjection(
        source=1,
        input_shape=(4, 3, 3),
        weights=rng.integers(-900, 900, (4, 1, 1, 1), endpoint=True),
        weight_bits=11,
        groups=4,
        input_max_level=2,
    )
    return IntegerLayer(
        projections=(main, branch),
        bias=rng.integers(-2000, 2000, (1, 4)),
        multipliers=np.ones((1, 1, 4), dtype=int),
        shift=0,
        levels=2,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_accumulator_bounds_are_reached_in_the_middle_of_a_map(sign):
    layer = two_projections(np.random.default_rng(0))
    accumulator = bound_accumulators(layer)
    bounds = accumulator.high if sign > 0 else accumulator.low
    for n in range(layer.channels):
        total = 0
        for projection in layer.projections:
            taps = np.where(sign * projection.weights[n] > 0, projection.input_max_level, 0)
            channels, height, width = projection.input_shape
            levels = np.zeros((1, 1, height, width, channels), dtype=np.uint8)
            if projection.pooling is not None:
                levels[0, 0] = taps.repeat(2, axis=1).repeat(2, axis=2).transpose(1, 2, 0)
            else:
                levels[0, 0, 1, 1, n] = taps[0, 0, 0]
            total += int(
                GoldenProjection(projection).run(torch.from_numpy(levels), torch.int64)[0, 0, 1, 1, n]
            )
        assert total == bounds[n]


@pytest.mark.parametrize("shift", [0, 3])
def test_bias_moves_the_current_and_nothing_before_it(shift):
    layer = replace(two_projections(np.random.default_rng(0)), shift=shift)
    without = replace(layer, bias=np.zeros_like(layer.bias))
    accumulator = bound_accumulators(layer)
    mixed, current = bound_currents(layer, accumulator)
    other_mixed, other_current = bound_currents(without, bound_accumulators(without))
    for name in ("low", "high"):
        np.testing.assert_array_equal(getattr(mixed, name), getattr(other_mixed, name))
        np.testing.assert_array_equal(getattr(current, name), getattr(other_current, name) + layer.bias)


@settings(max_examples=60)
@given(st.integers(0, 2**31))
def test_bounds_hold_after_every_event_in_any_order(seed):
    rng = np.random.default_rng(seed)
    layer = two_projections(rng)
    accumulator = bound_accumulators(layer)
    for n in range(layer.channels):
        # What every event, of pixels before pooling, adds to an accumulator that no padding touches.
        added = [
            (projection.weights[n].reshape(-1, 1) << projection.shift)
            * rng.integers(0, projection.input_max_level, (1, 4 if projection.pooling else 1), endpoint=True)
            for projection in layer.projections
        ]
        sums = np.cumsum(rng.permutation(np.concatenate([part.reshape(-1) for part in added])))
        assert accumulator.low[n] <= min(0, sums.min())
        assert max(0, sums.max()) <= accumulator.high[n]


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
    current = bound_currents(layer, bound_accumulators(layer))[1]
    current.low[:], current.high[:] = low, low + size
    held = bound_membranes(layer, current)
    values = {0}
    for m in range(low, low + size + 1):
        values |= {m, m - (min(max(m >> fraction_bits, 0), levels) << fraction_bits)}
    assert (held.low[0], held.high[0]) == (min(values), max(values))


def dense(weights):
    weights = np.array(weights)
    return IntegerProjection.dense(weights, input_shape=(weights.shape[1], 1, 1), source=-1)


def test_widths_of_a_small_layer_by_hand():
    layer = random_layer(np.random.default_rng(0), inputs=2, neurons=1, steps=1, levels=None)
    layer = replace(
        layer,
        projections=(dense([[3, -2]]),),
        bias=np.array([[-100]]),
        multipliers=np.array([[[4]]]),
    )
    widths = choose_widths(IntegerNetwork(name="n", input_shape=(2, 1, 1), layers=(layer,)))[0]
    # A from -510 to 765, 4 A from -2040 to 3060, the logit from -2140 to 2960.
    found = (widths.accumulator_bits, widths.mix_bits, widths.bias_bits, widths.current_bits)
    assert found == (11, 13, 8, 13)


def test_spike_is_always_a_slice_of_the_membrane():
    rng = np.random.default_rng(0)
    network = random_network(rng, input_shape=(1, 1, 1), widths=(1, 2), levels=5)
    quiet = replace(
        network.layers[0],
        projections=(dense([[0]]),),
        bias=np.zeros((2, 1), dtype=int),
        initial_membrane=0,
    )
    widths = choose_widths(replace(network, layers=(quiet, network.layers[1])))
    assert widths[0].membrane_bits == 8 + 3 + 1


def test_too_wide_is_refused():
    layer = random_layer(np.random.default_rng(0), inputs=1, neurons=1, steps=1, levels=None)
    layer = replace(layer, projections=(replace(dense(np.full((1, 2**16), 7)), shift=24),))
    with pytest.raises(ValueError, match=r"^layer 0: accumulator_bits must be between 1 and 48, not 52$"):
        choose_widths(IntegerNetwork(name="n", input_shape=(2**16, 1, 1), layers=(layer,)))
