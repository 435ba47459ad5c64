"""Random convolutional networks on random hardware: all logits, levels and counters equal under any pauses."""

import numpy as np
import pytest
import torch

from lmht.sim.golden import GoldenModel
from lmht.sim.random_cases import STRESS, corner_images, random_case, spike_everywhere, verify_case
from lmht.sim.random_conv_networks import random_conv_network

SEEDS = (1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 15, 21)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_hardware_equals_the_golden_model(seed, tmp_path):
    case = random_case(seed)
    stressed = set()
    for report in verify_case(case, tmp_path / "build"):
        assert report.ok, f"{case.describe()}: {report.message}"
        assert report.layer_images == len(case.images)
        stressed.add((report.idle, report.back_pressure))
    assert stressed == set(STRESS)


def test_the_seeds_reach_every_kind_of_layer():
    cases = [random_case(seed) for seed in SEEDS]
    layers = [layer for case in cases for layer in case.network.layers]
    projections = [projection for layer in layers for projection in layer.projections]
    assert any(case.full for case in cases)
    assert any(case.residual for case in cases)
    assert any(case.full and case.residual for case in cases)
    assert any(case.options.split for case in cases)
    assert any(case.options.tap_unroll for case in cases)
    assert not all(case.options.skip_quiet for case in cases)
    assert {projection.pooling.kind for projection in projections if projection.pooling} == {"sum", "max"}
    assert {1, 2} <= {projection.stride[0] for projection in projections}
    assert {1, 3, 5, 7} <= {projection.kernel[0] for projection in projections}
    assert any(projection.groups > 1 for projection in projections)
    assert any(layer.leak is not None for layer in layers)
    assert {layer.diagonal for layer in layers if layer.steps == layer.input_steps > 1} == {True, False}
    assert max(layer.steps for layer in layers) > 8
    assert {layer.levels for layer in layers} >= {None, 1, 2, 3, 4}


def test_a_case_follows_from_its_seed():
    one, again = random_case(3), random_case(3)
    assert one.describe() == again.describe()
    np.testing.assert_array_equal(one.images, again.images)
    for layer, other in zip(one.network.layers, again.network.layers, strict=True):
        np.testing.assert_array_equal(layer.bias, other.bias)


def test_images_hold_the_corners():
    rng = np.random.default_rng(0)
    network = random_conv_network(rng)
    images = corner_images(rng, network)
    active = (images != 0).reshape(len(images), -1).sum(axis=1)
    assert ((active[1:] == 0) & (active[:-1] == 0)).any(), "two black images in a row"
    assert (active == images[0].size).sum() >= 3
    corners = {tuple(np.argwhere(image)[0][1:]) for image in images[active == 1]}
    _, height, width = network.input_shape
    assert {(y, x) for y in (0, height - 1) for x in (0, width - 1)} <= corners


@pytest.mark.parametrize("seed", range(6))
def test_every_neuron_spikes_where_it_should(seed):
    rng = np.random.default_rng(seed)
    network = spike_everywhere(random_conv_network(rng))
    result = GoldenModel(network).run(corner_images(rng, network), keep_levels=True)
    for levels in result.levels:
        assert (levels.amax(dim=0) > 0).all()
    assert torch.equal(
        result.events[:, 1:],
        torch.tensor([[layer.neurons for layer in network.layers[:-1]]]).expand(len(result.events), -1),
    )
