"""The networks that hardware is verified with exercise it: no layer sleeps, and every kind of layer occurs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmht.gen.integer import IntegerNetwork
from lmht.gen.memory_contents import pack_memories, unpack_layers
from lmht.gen.quiet import quiet_levels
from lmht.rtl.checks import STEPS_LIMIT
from lmht.rtl.projection import IMAGE
from lmht.sim.golden import GoldenModel
from lmht.sim.random_conv_networks import KERNELS, LEAST_GAIN, random_conv_network, random_residual
from lmht.sim.random_networks import (
    random_design,
    random_images,
    random_layer,
    random_network,
    random_neurons,
    random_projection,
)

SEEDS = range(150)


@pytest.fixture(scope="module")
def networks():
    return [random_conv_network(np.random.default_rng(seed)) for seed in SEEDS]


def activity(network, seed=0):
    """Of every hidden layer: part of the neurons that spike, and part of the levels that are the largest."""
    images = random_images(np.random.default_rng(seed), 16, network.input_shape)
    result = GoldenModel(network).run(images, keep_levels=True)
    return [
        ((levels.amax(dim=0) > 0).double().mean().item(), (levels == layer.levels).double().mean().item())
        for levels, layer in zip(result.levels, network.layers, strict=False)
    ]


def test_layers_neither_sleep_nor_saturate_on_new_images(networks):
    active, full = np.array([pair for network in networks for pair in activity(network, 99)]).T
    # A map of one pixel and channel may well be constant on 16 images; nearly all others are not.
    assert ((active > 0.05) & (active < 0.97)).mean() > 0.97
    assert (full < 0.9).mean() > 0.97
    assert 0.3 < np.median(active) < 0.6


def test_activity_sees_sleep_and_saturation():
    network = random_network(np.random.default_rng(0), widths=(24, 10))
    ((active, full),) = activity(network)
    assert 0.2 < active < 0.8
    assert full < 0.6
    for bias, expected in ((-(10**6), (0, 0)), (10**6, (1, 1))):
        first = replace(network.layers[0], bias=np.full((2, 24), bias))
        assert activity(replace(network, layers=(first, network.layers[1]))) == [expected]


def test_every_kind_of_layer_occurs(networks):
    projections = [p for network in networks for layer in network.layers[:-1] for p in layer.projections]
    branches = [
        layer.projections for network in networks for layer in network.layers if len(layer.projections) > 1
    ]
    assert {p.kernel[0] for p in projections} == set(KERNELS)
    assert {p.stride for p in projections} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert any(p.kernel[0] != p.kernel[1] for p in projections)
    paddings = {p.padding[0] - p.kernel[0] // 2 for p in projections}
    assert min(paddings) < 0 < max(paddings)
    assert {p.pooling.kind for p in projections if p.pooling} == {"sum", "max"}
    assert any(1 < p.groups < p.input_shape[0] for p in projections)
    depthwise = [p for p in projections if 1 < p.groups == p.input_shape[0]]
    assert any(p.kernel != (1, 1) for p in depthwise)
    assert any(len(p.weights) > p.groups for p in depthwise)
    for kind in ((1, 1), (2, 2)):
        assert any(branch.stride == kind and branch.groups == 1 for _, branch in branches)
    assert any(branch.groups == branch.input_shape[0] > 1 for _, branch in branches)
    assert any(branch.source == IMAGE for _, branch in branches)
    assert any(first.source == branch.source + 2 for first, branch in branches)
    layers = [layer for network in networks for layer in network.layers[:-1]]
    assert {layer.levels for layer in layers} == {1, 2, 3, 4}
    steps = {layer.steps for layer in layers}
    assert steps > {1, 2, 3, 4}
    assert 8 < max(steps) <= STEPS_LIMIT
    assert {layer.diagonal for layer in layers if layer.steps == layer.input_steps > 1} == {True, False}
    assert {p.weight_bits for p in projections} >= set(range(2, 9))
    assert {layer.leak is None for layer in layers} == {True, False}
    assert {bool(quiet_levels(layer).any()) for layer in layers} == {True, False}


def test_branches_weigh_as_much_as_what_they_join(networks):
    for network in networks:
        for layer in network.layers:
            if len(layer.projections) == 1:
                assert layer.projections[0].shift == 0
                continue
            first, branch = layer.projections
            nonzero = np.abs(branch.weights)[branch.weights != 0]
            assert nonzero.min() >= LEAST_GAIN
            norms = [np.linalg.norm(p.weights) * p.pooled_max_level * 2.0**p.shift for p in (first, branch)]
            # The nearest power of 2, unless the first weighs more without a shift.
            assert first.shift == 0 or 2**-0.5 <= norms[0] / norms[1] <= 2**0.5


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    size=st.integers(1, 12),
    channels=st.integers(1, 9),
    hidden=st.integers(1, 3),
    quiet=st.booleans(),
    residuals=st.booleans(),
    pooling=st.booleans(),
)
def test_bounds_are_kept(seed, size, channels, hidden, quiet, residuals, pooling):
    network = random_conv_network(
        np.random.default_rng(seed),
        hidden_layers=(hidden, hidden),
        max_size=size,
        max_channels=channels,
        max_classes=3,
        steps=2,
        levels=3,
        weight_bits=5,
        leak=True,
        quiet=quiet,
        residuals=residuals,
        pooling=pooling,
        name="bounded",
    )
    assert (network.name, len(network.layers)) == ("bounded", hidden + 1)
    assert network.classes in (2, 3)
    for layer in network.layers[:-1]:
        assert layer.shape[0] <= channels
        assert max(layer.shape[1:]) <= size
        assert (layer.steps, layer.levels, layer.projections[0].weight_bits) == (2, 3, 5)
        assert len(layer.leak) == 2
        assert residuals or len(layer.projections) == 1
        assert pooling or all(p.pooling is None for p in layer.projections)
        if quiet:
            assert not quiet_levels(layer).any()


def test_equal_seeds_give_equal_networks():
    one, other = (random_conv_network(np.random.default_rng(7)) for _ in range(2))
    assert one.architecture == other.architecture
    for left, right in zip(one.layers, other.layers, strict=True):
        np.testing.assert_array_equal(left.bias, right.bias)
        np.testing.assert_array_equal(left.projections[0].weights, right.projections[0].weights)


def test_random_layer_of_a_convolution():
    rng = np.random.default_rng(0)
    layer = random_layer(
        rng, inputs=(3, 8, 8), neurons=5, steps=2, levels=2, kernel=(3, 3), padding=(1, 1), stride=(2, 2)
    )
    assert layer.shape == (5, 4, 4)
    classifier = random_layer(
        rng, source=0, inputs=layer.shape, neurons=3, steps=1, levels=None, input_steps=2, input_max_level=2
    )
    network = IntegerNetwork(name="n", input_shape=(3, 8, 8), layers=(layer, classifier))
    ((active, _),) = activity(network)
    assert 0.1 < active < 0.9


@pytest.mark.parametrize(("weight_bits", "channels"), [(2, 40), (8, 3)])
def test_no_channel_is_without_weights(weight_bits, channels):
    found = random_projection(
        np.random.default_rng(0),
        channels=channels,
        input_shape=(1, 3, 3),
        kernel=(1, 1),
        weight_bits=weight_bits,
    )
    assert found.weights.any(axis=(1, 2, 3)).all()


def test_a_quiet_layer_wakes_up_with_inputs():
    rng = np.random.default_rng(0)
    branch = random_residual(
        rng, channels=4, input_shape=(4, 5, 5), source=0, input_steps=2, input_max_level=3
    )
    first = random_projection(
        rng,
        channels=4,
        input_shape=(4, 5, 5),
        source=1,
        kernel=(3, 3),
        padding=(1, 1),
        input_steps=2,
        input_max_level=2,
    )
    layer = random_neurons(rng, first, branch, steps=2, levels=2, leak=True, quiet=True)
    assert not quiet_levels(layer).any()
    assert layer.initial_membrane == 0
    loud = random_neurons(rng, first, branch, steps=2, levels=2, leak=True)
    assert quiet_levels(loud).any()


def test_random_design_packs():
    network, design = random_design(
        np.random.default_rng(3), make=random_conv_network, hidden_layers=(2, 2), max_size=5
    )
    found = unpack_layers(design, pack_memories(design, network))
    for one, other in zip(found, network.layers, strict=True):
        np.testing.assert_array_equal(one.projections[0].weights, other.projections[0].weights)
