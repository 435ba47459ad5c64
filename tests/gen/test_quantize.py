from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmht.gen.balance_scales import balance_scales
from lmht.gen.fold_batch_norm import fold_batch_norm
from lmht.gen.folded import FoldedLayer, FoldedNetwork, FoldedNeuron, FoldedProjection
from lmht.gen.quantize import largest_shift, quantize
from lmht.model import Network, NetworkConfig, load_dataset
from lmht.rtl.projection import IMAGE, Pooling
from lmht.sim.golden import GoldenModel


def passes(network, **options):
    return quantize(balance_scales(fold_batch_norm(network)), name="n", **options)


@given(st.floats(1e-12, 1e6), st.integers(1, 24))
def test_largest_shift_is_the_largest(peak, bits):
    shift = largest_shift(np.array([peak, peak / 3]), bits, lowest=-200, highest=200)
    assert np.rint(np.ldexp(peak, shift)) < 2**bits
    assert np.rint(np.ldexp(peak, shift + 1)) >= 2**bits


def test_largest_shift_limits():
    assert largest_shift(np.array([1e-30]), 12, lowest=0, highest=63) == 63
    with pytest.raises(ValueError, match=r"^multiplier_bits must be at least 10 .*, not 4$"):
        largest_shift(np.array([1000.0]), 4, lowest=0, highest=63)


def test_integers_follow_the_formulas(make_network):
    network = make_network(steps=3, levels=2, initial_membrane=0.3)
    folded = balance_scales(fold_batch_norm(network))
    integers = passes(network, fraction_bits=7, multiplier_bits=11, leak_bits=6)
    first, last = integers.layers
    neuron = folded.layers[0].neuron
    scale = folded.layers[0].projections[0].scale
    gains = neuron.mixing.sum(axis=1)[:, None, None] * scale / 255 / neuron.theta * 2.0 ** (7 + first.shift)
    np.testing.assert_array_equal(first.multipliers, np.rint(gains))
    assert 2**10 <= first.multipliers.max() < 2**11
    row_sums = neuron.mixing.sum(axis=1)
    expected = np.outer(row_sums, folded.layers[0].bias) / neuron.theta * 2.0**7
    np.testing.assert_array_equal(first.bias, np.rint(expected))
    assert len(np.unique(row_sums)) > 1, "the biases of the steps must differ"
    assert first.leak.tolist() == np.rint(neuron.leak * 64).tolist()
    assert first.initial_membrane == round(0.3 / neuron.theta * 128)
    assert (first.projections[0].input_max_level, first.input_steps, first.steps, first.levels) == (
        255,
        1,
        3,
        2,
    )
    assert (last.projections[0].input_max_level, last.input_steps, last.steps, last.levels) == (2, 3, 1, None)
    assert (last.multipliers == last.multipliers[:, :1]).all()
    np.testing.assert_array_equal(
        last.bias, np.rint(folded.layers[1].bias / integers.logit_scale)[None].astype(int)
    )


def test_second_hidden_layer_takes_the_whole_mixing_matrix(make_network):
    network = make_network(architecture="48-12-9-10", steps=2)
    folded = balance_scales(fold_batch_norm(network)).layers[1]
    layer = passes(network).layers[1]
    gains = folded.neuron.mixing[:, :, None] * folded.projections[0].scale * 2.0 ** (8 + layer.shift)
    np.testing.assert_array_equal(layer.multipliers, np.rint(gains))


def test_leak_of_one_costs_nothing(make_network):
    assert passes(make_network(leak=1.0)).layers[0].leak is None
    assert passes(make_network(leak=0.0)).layers[0].leak.tolist() == [0, 0]


def test_identity_mixing(make_network):
    layer = passes(make_network(architecture="48-12-9-10", mixing="identity")).layers[1]
    assert layer.diagonal
    assert layer.multipliers.shape[:2] == (2, 1)
    np.testing.assert_array_equal(layer.multipliers[0], layer.multipliers[1])


def test_logits_keep_their_value(make_network):
    network = make_network(weight_bits=8)
    integers = passes(network, fraction_bits=14, multiplier_bits=20)
    images = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images)
    found = GoldenModel(integers).run(images).logits * integers.logit_scale
    # A membrane at a threshold may fall to either side: one logit in fifty.
    assert ((found - expected).abs().amax(dim=1) < 1e-3).float().mean() > 0.98


def residual_network(branch_weights, branch_scale, *, pooling=None, theta=0.5):
    """Neurons of 2 x 4 x 4 of two images, and a layer with a convolution of 3 x 3 and a residual branch."""
    neuron = FoldedNeuron(
        levels=2,
        steps=2,
        theta=theta,
        initial_membrane=0.0,
        mixing=np.array([[0.5, 0.25], [0.75, 1.0]]),
        leak=np.ones(2),
    )

    def project(source, weights, scale, shape=(2, 4, 4), **others):
        weights = np.array(weights)
        return FoldedProjection(
            source=source,
            input_shape=shape,
            weights=weights,
            scale=np.array(scale),
            weight_bits=4,
            **others,
        )

    first = project(IMAGE, np.ones((2, 2, 1, 1), dtype=int), [0.5, 0.25])
    main = project(0, np.full((2, 2, 3, 3), 7), [0.02, 0.05], padding=(1, 1), pooling=pooling)
    branch = project(0, branch_weights, branch_scale, groups=len(branch_weights), pooling=pooling)
    last = project(1, np.ones((3, 2, *main.output_shape[1:]), dtype=int), [0.1] * 3, main.output_shape)
    return FoldedNetwork(
        input_shape=(2, 4, 4),
        layers=(
            FoldedLayer(projections=(first,), bias=np.zeros(2), neuron=neuron),
            FoldedLayer(
                projections=(main, branch), bias=np.array([0.3, -0.2]), neuron=replace(neuron, theta=1.0)
            ),
            FoldedLayer(projections=(last,), bias=np.zeros(3), neuron=None, name="classifier"),
        ),
    )


def test_residual_branch_follows_the_formulas():
    ones = np.ones((2, 1, 1, 1), dtype=int)
    layer = quantize(residual_network(ones, [1.0, 2.02]), name="n").layers[1]
    main, branch = layer.projections
    # The gains are 50 and 40.4 steps: 323.2 is the first multiple of the second that is within 2^-10 of an integer.
    assert (main.shift, branch.shift, main.weight_bits, branch.weight_bits) == (3, 0, 4, 10)
    assert branch.weights[:, 0, 0, 0].tolist() == [400, 323]
    units = np.array([0.02, 0.05]) * 0.5 / 2**3
    # The bias knows nothing of the accumulators: rows of Ω of 0.75 and 1.75, θ = 1 is 256.
    expected = np.outer([0.75, 1.75], [0.3, -0.2]) * 256
    np.testing.assert_array_equal(layer.bias, np.rint(expected))
    mixing = np.array([[0.5, 0.25], [0.75, 1.0]])[:, :, None]
    np.testing.assert_array_equal(layer.multipliers, np.rint(mixing * units * 2.0 ** (8 + layer.shift)))
    assert (branch.input_steps, branch.input_max_level, branch.source) == (2, 2, 0)


@pytest.mark.parametrize(("kind", "window"), [("sum", 4), ("max", 1)])
def test_pooling_divides_the_value_of_a_level(kind, window):
    ones = np.ones((2, 1, 1, 1), dtype=int)
    plain = quantize(residual_network(ones, [1.0, 2.0]), name="n").layers[1]
    pooling = Pooling(kind=kind, size=(2, 2))
    pooled = quantize(residual_network(ones, [1.0, 2.0], pooling=pooling), name="n").layers[1]
    # Both branches are divided alike; only the multipliers see it.
    assert pooled.projections[1].weights.tolist() == plain.projections[1].weights.tolist()
    np.testing.assert_array_equal(pooled.bias, plain.bias)
    ratio = (pooled.multipliers / 2.0**pooled.shift) / (plain.multipliers / 2.0**plain.shift)
    np.testing.assert_allclose(ratio, 1 / window, rtol=2e-3)


def test_residual_branch_that_is_too_strong():
    ones = np.ones((2, 1, 1, 1), dtype=int)
    with pytest.raises(
        ValueError, match=r"^layer 1: weight_bits of the residual branch must be between 2 and 24"
    ):
        quantize(residual_network(ones, [1.0, 1e6]), name="n")


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("fraction_bits", [0, 8, 20])
def test_bias_is_within_half_a_unit_of_the_membrane(make_network, steps, fraction_bits):
    """However coarse the steps of the weights are, and whether the image comes once or at every step."""
    network = make_network(architecture="48-12-9-10", weight_bits=2, steps=steps)
    folded = balance_scales(fold_batch_norm(network))
    integers = passes(network, fraction_bits=fraction_bits, multiplier_bits=24)
    for layer, found in zip(folded.layers[:-1], integers.layers, strict=False):
        received = np.outer(layer.neuron.mixing.sum(axis=1), layer.bias) / layer.neuron.theta
        error = np.abs(found.bias / 2.0**fraction_bits - received)
        assert error.max() <= 2.0 ** -(fraction_bits + 1) * (1 + 1e-9)
        assert [projection.shift for projection in found.projections] == [0]
    last = folded.layers[-1]
    error = np.abs(integers.layers[-1].bias[0] * integers.logit_scale - last.bias)
    assert error.max() <= integers.logit_scale / 2 * (1 + 1e-9)


@pytest.mark.parametrize("fault", ["one column", "another step", "mean over the steps"])
def test_a_wrong_bias_is_beyond_half_a_unit(make_network, fault):
    """What the bound above would find: sums over one column of Ω, the bias of the next step, one bias for all steps."""
    network = make_network(architecture="48-12-9-10", steps=4)
    layer = balance_scales(fold_batch_norm(network)).layers[1]
    right = passes(network).layers[1].bias
    wrong = {
        "one column": np.rint(np.outer(layer.neuron.mixing[:, 0], layer.bias) / layer.neuron.theta * 256),
        "another step": np.roll(right, 1, axis=0),
        "mean over the steps": np.broadcast_to(right.mean(axis=0), right.shape),
    }[fault]
    exact = np.outer(layer.neuron.mixing.sum(axis=1), layer.bias) / layer.neuron.theta * 256
    assert np.abs(right - exact).max() <= 0.5 < np.abs(wrong - exact).max()


def test_error_names_the_layer():
    network = residual_network(np.ones((2, 1, 1, 1), dtype=int), [1.0, 2.0])
    wild = replace(network.layers[2], bias=np.full(3, 1e30))
    with pytest.raises(ValueError, match=r"^layer 2 \(classifier\): bias must be between"):
        quantize(replace(network, layers=(*network.layers[:2], wild)), name="n")


def test_wrong_options(make_network):
    network = make_network()
    with pytest.raises(ValueError, match=r"^fraction_bits must be between 0 and 24, not 25$"):
        passes(network, fraction_bits=25)
    folded = fold_batch_norm(network)
    heavy = folded.layers[0].projections[0]
    heavy = replace(folded.layers[0], projections=(replace(heavy, scale=heavy.scale * 1e6),))
    with pytest.raises(ValueError, match=r"^layer 0: multiplier_bits must be at least \d+ .*, not 24$"):
        quantize(replace(folded, layers=(heavy, folded.layers[1])), name="n", fraction_bits=24)
    wild = replace(folded.layers[0], bias=np.full(20, 1e30))
    with pytest.raises(ValueError, match=r"^layer 0: bias must be between -140737488355328 and"):
        quantize(replace(folded, layers=(wild, folded.layers[1])), name="n")


def test_multipliers_of_strong_weights_are_as_wide_as_they_need(make_network):
    folded = fold_batch_norm(make_network())
    for strength, widened in ((1.0, False), (300.0, True)):
        first = folded.layers[0].projections[0]
        strong = replace(folded.layers[0], projections=(replace(first, scale=first.scale * strength),))
        layer = quantize(
            replace(folded, layers=(strong, folded.layers[1])), name="n", multiplier_bits=4
        ).layers[0]
        largest = int(layer.multipliers.max())
        assert (layer.multiplier_bits > 4) is widened
        assert layer.multiplier_bits == (largest.bit_length() if widened else 4)
        assert (layer.shift == 0) or not widened


def test_digits_class_agrees_with_the_float_network():
    data = load_dataset("digits")
    torch.manual_seed(0)
    network = Network(NetworkConfig(architecture="64-48-10", input_shape=(1, 8, 8)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(25):
        for indices in torch.randperm(len(data.train_images)).split(128):
            optimizer.zero_grad()
            logits = network(data.train_images[indices])
            torch.nn.functional.cross_entropy(logits, data.train_labels[indices]).backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        expected = network(data.test_images).argmax(dim=1)
    found = GoldenModel(passes(network)).run(data.test_images).predictions
    assert (expected == data.test_labels).float().mean() > 0.9
    assert (found == expected).float().mean() >= 0.99
