"""A network without rounding: PyTorch in float64 gives the same logits and levels."""

import copy

import pytest
import torch

from lmht.gen.compile import fold_network
from lmht.sim.exact_network import exact_levels, exact_logits
from lmht.sim.random_pytorch import random_convolutional, random_fully_connected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("make", [random_convolutional, random_fully_connected])
def test_logits_are_those_of_float64(make, seed):
    network, images = make(seed)
    folded = fold_network(network)
    if folded.changes:
        pytest.skip("a clamped channel is another")
    double = copy.deepcopy(network).double()(images.double() / 255)
    # Scales of weights that are float32 in one and float64 in the other move a level now and then.
    off = (exact_logits(folded, images) - double).abs().amax(dim=1)
    assert (off <= 1e-4 * (1 + double.abs().max())).double().mean() >= 0.95


def test_levels_of_every_hidden_layer():
    network, images = random_convolutional(3)
    folded = fold_network(network)
    levels = exact_levels(folded, images)
    assert len(levels) == len(folded.layers) - 1
    for layer, found in zip(folded.layers, levels, strict=False):
        channels, height, width = layer.projections[0].output_shape
        assert found.shape == (layer.neuron.steps, len(images), height, width, channels)
        assert torch.equal(found, found.round())
        assert found.min() >= 0
        assert found.max() == layer.neuron.levels
