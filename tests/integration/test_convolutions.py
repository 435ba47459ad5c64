"""Convolutional networks end to end: from PyTorch to the simulated Verilog, every logit and level compared."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from lmht.model import (
    ConvNetworkConfig,
    QuantConv2d,
    QuantLinear,
    SpikingNetwork,
    build_network,
    load_dataset,
)
from lmht.model.window_neurons import WindowLMHT
from lmht.sim.golden import GoldenModel
from lmht.sim.verify import verify


class Residual(nn.Module):
    """Two blocks of two convolutions beside the identity and beside a 1x1 convolution of stride 2."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(*self.convolution(1, 4), self.neurons())
        self.first = nn.Sequential(*self.convolution(4, 4), self.neurons(), *self.convolution(4, 4))
        self.second = nn.Sequential(
            *self.convolution(4, 6, stride=2), self.neurons(), *self.convolution(6, 6)
        )
        self.branch = nn.Sequential(QuantConv2d(4, 6, 1, stride=2, bias=False), nn.BatchNorm2d(6))
        self.meet_first, self.meet_second = self.neurons(), self.neurons()
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), QuantLinear(6, 10))

    @staticmethod
    def convolution(inputs, outputs, stride=1):
        convolution = QuantConv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        return convolution, nn.BatchNorm2d(outputs)

    @staticmethod
    def neurons():
        return WindowLMHT(2, 2)

    def forward(self, image):
        spikes = self.stem(image)
        spikes = self.meet_first(self.first(spikes) + spikes)
        spikes = self.meet_second(self.second(spikes) + self.branch(spikes))
        return self.classifier(spikes)


def make_residual(images):
    torch.manual_seed(0)
    return SpikingNetwork(Residual(), input_shape=images.shape[1:], classes=10)


def make_named(images, **options):
    torch.manual_seed(0)
    return build_network(ConvNetworkConfig(input_shape=images.shape[1:], classes=10, **options))


def settle(network, images):
    """The untrained network once its batch norms have seen the images."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, 0.3, 0.5)
            module.momentum = None
    pixels = torch.from_numpy(images)
    with torch.no_grad():
        for _ in range(3):
            network.train()(pixels)
    return network.eval()


def check(network, build, images, labels, *, layer_images):
    """Everything equal; the class that of the network in floating point for most images, even untrained ones whose
    logits lie close together."""
    report = verify(build, images, labels, layer_images=layer_images, optimize=False)
    assert report.ok, report.message
    assert report.logits == 10 * len(images)
    assert report.levels > 0
    assert report.layer_images == layer_images
    with torch.no_grad():
        classes = network(torch.from_numpy(images)).argmax(dim=1).numpy()
    assert (report.classes == classes).mean() >= 0.9
    golden = GoldenModel(build.network).run(images)
    np.testing.assert_array_equal(report.classes, golden.predictions.numpy())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "options", "hardware"),
    [
        ("mnist-cnn", {"width": 0.25, "steps": 2, "levels": 2}, {"lanes": 4}),
        ("mnist-cnn", {"width": 0.125, "steps": 3, "levels": 1}, {"lanes": 2, "split": {1: 2}}),
    ],
)
def test_small_networks_on_digits(net, options, hardware, digits, make_build):
    pixels, labels = digits
    network = settle(make_named(pixels, net=net, **options), pixels)
    build = make_build(network, **hardware)
    check(network, build, pixels[:100], labels[:100], layer_images=20)


@pytest.mark.slow
def test_residual_network_on_digits(digits, make_build):
    pixels, labels = digits
    network = settle(make_residual(pixels), pixels)
    build = make_build(network, lanes=4)
    inputs = [len(layer.projections) for layer in build.network.layers]
    assert inputs == [1, 1, 2, 1, 2, 1]
    check(network, build, pixels[:40], labels[:40], layer_images=10)


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.skipif("LMHT_DATA" not in os.environ, reason="LMHT_DATA names no folder that holds mnist/")
def test_network_on_mnist(make_build):
    dataset = load_dataset("mnist", os.environ["LMHT_DATA"])
    pixels, labels = dataset.test_images[:400].numpy(), dataset.test_labels[:400].numpy()
    network = settle(make_named(pixels, net="mnist-cnn"), pixels)
    build = make_build(network, lanes=16)
    check(network, build, pixels[:20], labels[:20], layer_images=5)
