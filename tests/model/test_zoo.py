"""Networks by name: their layers as published, their parts as the hardware expects them."""

import pytest
import torch
from torch import nn

from lmht.model import (
    ConvNetworkConfig,
    Network,
    NetworkConfig,
    QuantConv2d,
    QuantLinear,
    SpikingNetwork,
    WindowLMHT,
    build_network,
)
from lmht.model.conv_config import NET_NAMES
from lmht.model.resnet import BasicBlock


def make(net, *, shape=(3, 32, 32), classes=10, **options):
    config = ConvNetworkConfig(net=net, input_shape=shape, classes=classes, **options)
    torch.manual_seed(0)
    return build_network(config)


def convolutions(network):
    """Output channels and strides of the 3x3 convolutions."""
    found = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    return [(layer.out_channels, layer.stride[0]) for layer in found if layer.kernel_size == (3, 3)]


@pytest.mark.parametrize("net", NET_NAMES)
@pytest.mark.parametrize("steps", [1, 3])
def test_every_network_runs_and_learns(net, steps):
    network = make(net, width=0.05, steps=steps, levels=3, weight_bits=5, theta=0.5)
    assert isinstance(network, SpikingNetwork)
    logits = network(torch.rand(3, 3, 32, 32))
    assert logits.shape == (3, 10)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    for layer in network.modules():
        assert not isinstance(layer, nn.Conv2d | nn.Linear) or layer.weight_bits == 5
        assert net == "lenet" or not isinstance(layer, nn.MaxPool2d)
        assert not isinstance(layer, nn.Conv2d) or isinstance(layer, QuantConv2d)
    for neuron in network.neurons().values():
        assert (neuron.levels, neuron.steps, neuron.theta) == (3, steps, 0.5)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        ("mnist-cnn", [16, 32]),
        ("vgg11", [64, 128, 256, 256, 512, 512, 512, 512]),
        ("vgg13", [64, 64, 128, 128, 256, 256, 512, 512, 512, 512]),
        ("vgg16", [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]),
    ],
)
def test_channels_of_plain_networks(net, expected):
    network = make(net)
    assert convolutions(network) == [(channels, 1) for channels in expected]
    kinds = [type(layer) for layer in network.module]
    for index, kind in enumerate(kinds):
        if kind is QuantConv2d:
            assert kinds[index + 1 : index + 3] == [nn.BatchNorm2d, WindowLMHT]
        if kind is nn.AvgPool2d:
            assert kinds[index - 1] is WindowLMHT
    assert kinds.count(nn.AvgPool2d) == (2 if net == "mnist-cnn" else 5)
    assert kinds[-2:] == [nn.Flatten, QuantLinear]


@pytest.mark.parametrize(
    ("net", "shape", "classes", "weights"),
    [
        ("resnet19-lmht", (3, 32, 32), 10, 12_630_858),
        ("vgg13-lmht", (3, 64, 64), 200, 9_513_480),
        ("vgg16-lmht", (3, 32, 32), 100, 34_015_396),
    ],
)
def test_networks_of_the_authors_have_their_numbers_of_weights(net, shape, classes, weights):
    """Without what neurons learn (mixing and leak), as the authors' own networks count."""
    network = make(net, shape=shape, classes=classes)
    layers = [part for part in network.modules() if not isinstance(part, WindowLMHT)]
    assert sum(each.numel() for part in layers for each in part.parameters(recurse=False)) == weights


def test_channels_of_the_authors_vgg():
    """VGG-13 has five stages of 2, 2, 2, 3 and 1 convolutions and one linear layer behind the global average."""
    network = make("vgg13-lmht", shape=(3, 64, 64), classes=200)
    kinds = [type(layer) for layer in network.module]
    assert [channels for channels, _ in convolutions(network)] == [64, 64, 128, 128, 256, 256, *[512] * 4]
    assert kinds[-3:] == [nn.AdaptiveAvgPool2d, nn.Flatten, QuantLinear]
    places = [index for index, kind in enumerate(kinds) if kind in (nn.AvgPool2d, nn.AdaptiveAvgPool2d)]
    found = [kinds[start:end].count(QuantConv2d) for start, end in zip([0, *places], places, strict=False)]
    assert found == [2, 2, 2, 3, 1]
    linear = [layer for layer in make("vgg16-lmht").module if isinstance(layer, QuantLinear)]
    assert [layer.out_features for layer in linear] == [4096, 4096, 10]


def test_channels_of_lenet():
    """12C5-P2-64C5-P2-512-10 on MNIST, with max pooling of spikes."""
    network = make("lenet", shape=(1, 28, 28))
    kernels = [layer for layer in network.module if isinstance(layer, QuantConv2d)]
    assert [(layer.out_channels, layer.kernel_size, layer.padding) for layer in kernels] == [
        (12, (5, 5), (0, 0)),
        (64, (5, 5), (0, 0)),
    ]
    linear = [layer for layer in network.module if isinstance(layer, QuantLinear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(64 * 4 * 4, 512), (512, 10)]
    kinds = [type(layer) for layer in network.module]
    for index, kind in enumerate(kinds):
        if kind is nn.MaxPool2d:
            assert kinds[index - 1] is WindowLMHT
    assert kinds.count(nn.MaxPool2d) == 2
    assert kinds.count(WindowLMHT) == 3


@pytest.mark.parametrize(
    ("net", "stem", "stages"),
    [
        ("resnet18", 64, [(64, 2), (128, 2), (256, 2), (512, 2)]),
        ("resnet19", 128, [(128, 3), (256, 3), (512, 2)]),
        ("resnet19-lmht", 64, [(128, 3), (256, 3), (512, 2)]),
        ("resnet20", 16, [(16, 3), (32, 3), (64, 3)]),
        ("resnet34", 64, [(64, 3), (128, 4), (256, 6), (512, 3)]),
    ],
)
def test_channels_of_residual_networks(net, stem, stages):
    network = make(net)
    expected = [(stem, 1)]
    for stage, (channels, blocks) in enumerate(stages):
        for block in range(blocks):
            expected += [(channels, 2 if stage and not block else 1), (channels, 1)]
    assert convolutions(network) == expected
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert len(expected) + len(linear) == int(net.removeprefix("resnet").removesuffix("-lmht"))
    shortcuts = [block.shortcut for block in network.modules() if isinstance(block, BasicBlock)]
    changing = sum(not isinstance(shortcut, nn.Identity) for shortcut in shortcuts)
    assert changing == len(stages) - (stem == stages[0][0])


def test_block_adds_before_its_last_neurons():
    """Spikes of 2 θ from the shortcut, where the convolutions add nothing, are spikes of 2 θ again."""
    network = make("resnet20", levels=2, mixing="identity", leak=1.0).eval()
    block = next(block for block in network.modules() if isinstance(block, BasicBlock))
    nn.init.zeros_(block.norm2.weight)
    for neuron in network.neurons().values():
        neuron.batch = 1
    spikes = torch.randint(0, 3, (2, 16, 8, 8)).float()
    assert torch.equal(block(spikes), spikes)
    nn.init.ones_(block.norm2.bias)
    assert torch.equal(block(spikes)[0], (spikes[0] + 1).clamp(max=2))


def test_first_convolution_sees_the_image_once():
    network = make("resnet20", steps=4).eval()
    rows = []
    for layer in (network.module.conv, network.module.stages[0].conv1):
        layer.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    network(torch.rand(5, 3, 32, 32))
    assert rows == [5, 20]


@pytest.mark.parametrize(
    ("net", "shape", "inputs"),
    [
        ("mnist-cnn", (1, 28, 28), 32 * 7 * 7),
        ("mnist-cnn", (1, 9, 6), 32 * 2 * 1),
        ("vgg11", (3, 64, 40), 512 * 2),
        ("vgg13-lmht", (3, 16, 70), 512),
        ("vgg16-lmht", (3, 64, 40), 512 * 2),
        ("resnet20", (1, 5, 7), 64),
    ],
)
def test_images_of_other_sizes(net, shape, inputs):
    network = make(net, shape=shape, classes=7).eval()
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert linear[0].in_features == inputs
    assert network(torch.rand(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize(("width", "expected"), [(0.25, [16, 32]), (0.001, [1, 1]), (1.5, [96, 192])])
def test_width(width, expected):
    assert [channels for channels, _ in convolutions(make("vgg11", width=width))[:2]] == expected


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        ("vgg11", (3, 31, 40), "input_shape must be at least 32x32 pixels for vgg11, not 31x40"),
        ("vgg13-lmht", (3, 15, 40), "input_shape must be at least 16x16 pixels for vgg13-lmht, not 15x40"),
        ("mnist-cnn", (1, 28, 3), "input_shape must be at least 4x4 pixels for mnist-cnn, not 28x3"),
    ],
)
def test_images_that_are_too_small(net, shape, message):
    with pytest.raises(ValueError, match="input_shape") as caught:
        make(net, shape=shape)
    assert str(caught.value) == message


def test_fully_connected_network():
    config = NetworkConfig(architecture="4-6-3", input_shape=(1, 2, 2))
    network = build_network(config)
    assert isinstance(network, Network)
    assert network.config == config
