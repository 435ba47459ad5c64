"""Channels against the threshold: what is clamped does the same as before, and everything else stays."""

import itertools

import numpy as np
import pytest

from lmht.gen.balance_scales import LARGEST_RATIO, balance_scales
from lmht.gen.folded import FoldedLayer, FoldedNetwork, FoldedNeuron, FoldedProjection
from lmht.gen.quantize import quantize
from lmht.rtl.projection import IMAGE


def make_neuron(steps=2, levels=2, mixing="identity", leak=1.0, membrane=0.0, theta=1.0):
    if mixing == "identity":
        mixing = np.eye(steps)
    elif mixing == "uniform":
        mixing = np.full((steps, steps), 1 / steps)
    return FoldedNeuron(
        levels=levels,
        steps=steps,
        theta=theta,
        initial_membrane=membrane,
        mixing=np.array(mixing),
        leak=np.full(steps, leak),
    )


def project(weights, scale, source=IMAGE, **others):
    weights = np.array(weights)
    return FoldedProjection(
        source=source,
        input_shape=(weights.shape[1], 1, 1),
        weights=weights[:, :, None, None],
        scale=np.array(scale, dtype=float),
        weight_bits=4,
        **others,
    )


def make_network(weights, scale, bias, *, neuron=None, branch=None, first_bias=None):
    """Two inputs that spike freely, the layer of the test, a classifier; `branch` reads the same inputs."""
    neuron = neuron or make_neuron()
    inputs = FoldedLayer(
        projections=(project([[7, 0], [0, 7]], [1.0, 1.0]),),
        bias=np.zeros(2) if first_bias is None else np.array(first_bias, dtype=float),
        neuron=neuron,
    )
    projections = [project(weights, scale, source=0)]
    if branch is not None:
        projections.append(project(*branch, source=0))
    channels = len(weights)
    tested = FoldedLayer(projections=tuple(projections), bias=np.array(bias, dtype=float), neuron=neuron)
    last = FoldedLayer(
        projections=(project(np.eye(channels, dtype=int), np.ones(channels), source=1),),
        bias=np.zeros(channels),
        neuron=None,
    )
    return FoldedNetwork(input_shape=(2, 1, 1), layers=(inputs, tested, last))


def run_window(network, levels):
    """Levels of the tested layer for levels (T, 2) of its inputs, in floating point."""
    layer = network.layers[1]
    neuron = layer.neuron
    current = np.array(
        [
            layer.bias
            + sum(
                p.scale * network.input_value(p) * (p.weights[:, :, 0, 0] @ step) for p in layer.projections
            )
            for step in levels
        ]
    )
    membrane = np.full(len(layer.bias), neuron.initial_membrane)
    found = []
    for step, mixed in enumerate(neuron.mixing @ current):
        membrane = neuron.leak[step] * membrane + mixed
        fired = np.clip(np.floor(membrane / neuron.theta), 0, neuron.levels)
        membrane = membrane - fired * neuron.theta
        found.append(fired)
    return np.array(found)


def all_windows(steps, levels):
    for flat in itertools.product(range(levels + 1), repeat=2 * steps):
        yield np.array(flat).reshape(steps, 2)


def reasons(network):
    return {change.channel: change.reason for change in balance_scales(network).changes}


WEIGHTS = [[7, 1], [-7, 3], [5, -6]]


@pytest.mark.parametrize("scale", [[1.0, 1 / 64, 0.3], [1.0, 1e-6, 0.3], [4.0, 1e-3, 1e-4]])
def test_live_channels_stay(scale):
    """However far their scales are apart: no scale is measured against another."""
    network = make_network(WEIGHTS, scale, [0.1, 1.2, 1.2])
    balanced = balance_scales(network)
    assert not balanced.changes
    for layer, before in zip(balanced.layers, network.layers, strict=True):
        np.testing.assert_array_equal(layer.projections[0].weights, before.projections[0].weights)
        np.testing.assert_array_equal(layer.projections[0].scale, before.projections[0].scale)
        np.testing.assert_array_equal(layer.bias, before.bias)
        assert layer.headroom_bits == 0


@pytest.mark.parametrize(
    "neuron",
    [
        make_neuron(steps=1, levels=4),
        make_neuron(steps=3, levels=1),
        make_neuron(mixing="uniform"),
        make_neuron(mixing="uniform", leak=0.7),
        make_neuron(membrane=0.45, theta=1.3),
    ],
)
@pytest.mark.parametrize(("bias", "units"), [(0.0, 0), (0.4, 0), (-0.6, 0), (1.9, 0), (-0.2, -1), (0.3, 2)])
def test_decisive_channel_does_the_same_in_every_window(neuron, bias, units):
    bias += units * 300 * neuron.theta
    network = make_network([[1, -1], [3, 1], [2, 1]], [300.0, 0.4, 0.2], [bias, 0.1, -0.2], neuron=neuron)
    balanced = balance_scales(network)
    (change,) = balanced.changes
    assert (change.layer, change.channel) == (1, 0)
    assert change.gain_before * neuron.theta == pytest.approx(300 * neuron.theta)
    assert 0 <= change.gain_after < 60  # 0 where bounds show that the bias alone decides
    np.testing.assert_array_equal(
        balanced.layers[1].projections[0].weights[1:], network.layers[1].projections[0].weights[1:]
    )
    for levels in all_windows(neuron.steps, neuron.levels):
        np.testing.assert_array_equal(run_window(balanced, levels), run_window(network, levels))


def test_smaller_step_would_not_do_the_same():
    """The test above can fail: half of the clamped scale changes levels."""
    neuron = make_neuron(steps=3, levels=1)
    network = make_network([[1, -1], [3, 1]], [300.0, 0.4], [0.4, 0.1], neuron=neuron)
    layer = balance_scales(network).layers[1]
    wrong = make_network([[1, -1], [3, 1]], layer.projections[0].scale / [4, 1], layer.bias, neuron=neuron)
    assert any(
        (run_window(wrong, levels) != run_window(network, levels)).any() for levels in all_windows(3, 1)
    )


def test_general_mixing_differs_only_where_both_sides_nearly_cancel():
    neuron = make_neuron(mixing=[[0.55, 0.45], [0.4, 0.6]], leak=0.9)
    network = make_network([[1, -1], [3, 1]], [300.0, 0.4], [0.4, 0.1], neuron=neuron)
    balanced = balance_scales(network)
    first = np.array([0.55, 0.45])
    parts = np.array([first, 0.9 * first + [0.4, 0.6]])
    differing = 0
    for levels in all_windows(2, 2):
        same = (run_window(balanced, levels) == run_window(network, levels)).all()
        away = levels[:, 0] - levels[:, 1]  # X - X0
        differing += not same
        assert same or (away.min() < 0 < away.max() and np.abs(parts @ away).min() < 0.45)
    assert 0 < differing < 9


@pytest.mark.parametrize("bias", [130.0, -100.0])
def test_channel_that_decides_everywhere_differs_only_where_both_sides_nearly_cancel(bias):
    network = make_network([[1, -1], [3, 1]], [300.0, 0.4], [bias, 0.1])
    balanced = balance_scales(network)
    differing = 0
    for levels in all_windows(2, 2):
        same = (run_window(balanced, levels) == run_window(network, levels)).all()
        currents = bias / 300 + levels[:, 0] - levels[:, 1]
        differing += not same
        assert same or (currents.min() < 0 < currents.max() and np.abs(np.cumsum(currents)).min() < 1)
    assert differing < 20


def test_clamped_channel_costs_the_live_ones_no_bits():
    scale = np.array([300.0, 0.4, 0.2])
    usual = quantize(balance_scales(make_network(WEIGHTS[1:], scale[1:], [0.1, 0.2])), name="n").layers[1]
    layer = quantize(
        balance_scales(make_network([[1, -1], *WEIGHTS[1:]], scale, [0.0, 0.1, 0.2])), name="n"
    ).layers[1]
    assert layer.shift == usual.shift
    np.testing.assert_array_equal(layer.multipliers[..., 1:], usual.multipliers)
    np.testing.assert_array_equal(layer.bias[..., 1:], usual.bias)
    assert usual.multiplier_bits == 12 < layer.multiplier_bits < 19


@pytest.mark.parametrize(
    ("first_bias", "reason"),
    [([-2000.0, 0.0], "hears silent channels only"), ([0.0, 0.0], "one unit of its sum decides every step")],
)
def test_dead_channel_after_a_silent_source(first_bias, reason):
    """Where the source is known to be silent, even the weights go."""
    network = make_network([[7, 0], [2, 3]], [316.0, 0.1], [0.7, 0.1], first_bias=first_bias)
    balanced = balance_scales(network)
    assert reason in [change.reason for change in balanced.changes if change.layer == 1]
    assert balanced.layers[1].projections[0].weights[0].any() == (first_bias[0] == 0)
    assert balanced.layers[1].bias[0] == 0.7


@pytest.mark.parametrize(
    ("bias", "after"), [(-1e9, 0.0), (1e9, 4.0), (-50.0, 0.0), (50.0, 4.0), (-2.0, -2.0), (2.3, 2.3)]
)
def test_constant_channel(bias, after):
    """A huge bias becomes the smallest that does the same, a small one stays; the weights go."""
    network = make_network([[1, 0], [2, 3]], [0.1, 0.1], [bias, 0.1])
    balanced = balance_scales(network)
    layer = balanced.layers[1]
    assert layer.bias.tolist() == [after, 0.1]
    assert not layer.projections[0].weights[0].any()
    assert set(reasons(network)) == {0}
    assert [change.gain_after for change in balanced.changes] == [0]
    for levels in all_windows(2, 2):
        np.testing.assert_array_equal(run_window(balanced, levels), run_window(network, levels))


def test_huge_bias_widens_nothing():
    network = make_network([[1, 0], [2, 3]], [0.1, 0.1], [-1e9, 0.1])
    assert np.abs(quantize(balance_scales(network), name="n").layers[1].bias).max() < 2**12


@pytest.mark.parametrize("faint", [0.0, 1e-300, 1e-30])
def test_channel_without_a_scale_keeps_its_bias(faint):
    """``γ`` = 0: no weights, and the scale of the others."""
    balanced = balance_scales(make_network([[7, 1], [-7, 3]], [2.0, faint], [0.3, 1.2]))
    assert balanced.layers[1].bias.tolist() == [0.3, 1.2]
    assert not balanced.layers[1].projections[0].weights[1].any()
    np.testing.assert_array_equal(balanced.layers[1].projections[0].scale, [2.0, 2.0])


def test_all_channels_dead():
    network = make_network([[7, 1], [-7, 3]], [0.0, 316.0], [0.3, 0.2], first_bias=[-2000, -2000])
    balanced = balance_scales(network)
    assert not balanced.layers[1].projections[0].weights.any()
    assert (balanced.layers[1].projections[0].scale > 0).all()
    quantize(balanced, name="n")


def test_classifier_row_of_zeros():
    network = make_network([[7, 1], [-7, 3]], [1.0, 1.0], [0.0, 0.0])
    last = network.layers[2]
    zero = project([[1, 0], [0, 0]], [1.0, 0.0], source=1)
    layers = (*network.layers[:2], FoldedLayer(projections=(zero,), bias=np.array([0.0, 2.0]), neuron=None))
    integers = quantize(balance_scales(FoldedNetwork(input_shape=(2, 1, 1), layers=layers)), name="n")
    assert last.neuron is None
    assert integers.layers[2].bias[0, 1] * integers.logit_scale == pytest.approx(2.0)


@pytest.mark.parametrize("bias", [0.0, 0.7, -300.0])
def test_dead_channel_with_a_live_residual_branch(bias):
    """The branch goes on as before, its gain is exact, and the channel's own weights still decide."""
    network = make_network(
        [[1, -1], [1, 2]], [300.0, 0.1], [bias, 0.1], branch=([[1, 0], [0, 1]], [0.37, 0.37])
    )
    balanced = balance_scales(network)
    assert set(reasons(network)) == {0}
    main, branch = balanced.layers[1].projections
    ratio = branch.scale[0] / main.scale[0]
    assert np.log2(ratio) == pytest.approx(round(np.log2(ratio)), abs=1e-12)
    np.testing.assert_array_equal(branch.scale, [0.37, 0.37])
    for levels in all_windows(2, 2):
        np.testing.assert_array_equal(run_window(balanced, levels), run_window(network, levels))


def test_dead_residual_branch_is_clamped():
    network = make_network([[1, 2], [1, 2]], [0.3, 0.1], [0.1, 0.1], branch=([[1, 0], [0, 1]], [300.0, 0.37]))
    balanced = balance_scales(network)
    assert balanced.layers[1].projections[1].scale[0] < 40
    for levels in all_windows(2, 2):
        np.testing.assert_array_equal(run_window(balanced, levels), run_window(network, levels))


def test_faint_channel_before_a_residual_branch_is_rounded():
    step = 0.5 / LARGEST_RATIO
    network = make_network(
        [[7, 1], [-7, 3]], [1.0, step / 2], [0.1, 0.1], branch=([[1, 0], [0, 1]], [0.5, 0.5])
    )
    main, branch = balance_scales(network).layers[1].projections
    assert main.scale[1] == step
    # -3.5 and 1.5 to even.
    np.testing.assert_array_equal(main.weights[:, :, 0, 0], [[7, 1], [-4, 2]])
    np.testing.assert_array_equal(branch.scale, [0.5, 0.5])
