"""Convolutions of all networks of the zoo get what they read in the channels-last format."""

import pytest
import torch
from torch import nn

from lmht.model import ConvNetworkConfig, build_network

NETWORKS = [
    ("mnist-cnn", 0.25, (2, 8, 8)),
    ("lenet", 0.25, (3, 16, 16)),
    ("vgg11", 0.0625, (3, 32, 32)),
    ("resnet18", 0.125, (3, 16, 16)),
    ("resnet20", 0.5, (3, 16, 16)),
]


def formats(network, call):
    """Whether each convolution's input is in that format while ``call`` runs."""
    found = []

    def keep(layer, inputs, output):
        found.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    hooks = [part.register_forward_hook(keep) for part in network.modules() if isinstance(part, nn.Conv2d)]
    call()
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(("net", "width", "shape"), NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_convolutions_read_channels_last(net, width, shape, training):
    network = build_network(ConvNetworkConfig(net=net, width=width, input_shape=shape, classes=10))
    network.train(training)
    images = torch.randint(256, (4, *shape), dtype=torch.uint8)
    found = formats(network, lambda: network(images))
    assert len(found) >= 2
    assert all(found)
    # The network brings it about: its module alone keeps the format of the images.
    assert not any(formats(network, lambda: network.module(images.float())))
