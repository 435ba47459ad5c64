"""Accuracy."""

import pytest
import torch

from lmht.model import Network, NetworkConfig, evaluate


def make_network():
    torch.manual_seed(0)
    return Network(NetworkConfig(architecture="4-6-3", input_shape=(1, 2, 2)))


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("training", [True, False])
def test_accuracy_does_not_depend_on_batches_or_mode(batch_size, training):
    network = make_network().train(training)
    images = torch.rand(20, 1, 2, 2)
    running_mean = network.layers[0].norm.running_mean.clone()
    with torch.no_grad():
        predicted = make_network().eval()(images).argmax(dim=1)
    labels = predicted.clone()
    labels[:5] = (labels[:5] + 1) % 3
    assert evaluate(network, images, labels, batch_size) == 0.75
    assert network.training == training
    assert torch.equal(network.layers[0].norm.running_mean, running_mean)


def test_lowest_class_wins_ties():
    network = make_network()
    with torch.no_grad():
        network.layers[1].linear.weight.zero_()
        network.layers[1].linear.bias.zero_()
    assert evaluate(network, torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 2])) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("images", "labels"), [(0, 0), (3, 2)])
def test_wrong_counts(images, labels):
    with pytest.raises(ValueError, match="labels must be") as caught:
        evaluate(make_network(), torch.rand(images, 1, 2, 2), torch.zeros(labels, dtype=torch.int64))
    assert str(caught.value) == (
        f"labels must be as many as the images, and at least 1, not {labels} for {images}"
    )
