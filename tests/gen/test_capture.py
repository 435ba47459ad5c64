"""What the capture makes of modules that it accepts; what it refuses is in test_capture_refusals.py."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lmht.gen.capture import capture
from lmht.model import (
    NET_NAMES,
    ConvNetworkConfig,
    QuantConv2d,
    QuantLinear,
    SpikingNetwork,
    WindowLMHT,
    build_network,
    quantize_module,
)
from lmht.rtl.projection import IMAGE, Pooling


def neurons(**options):
    return WindowLMHT(2, 2, 1.0, **options)


def network(*modules, input_shape=(3, 8, 8), classes=5):
    module = nn.Sequential(*modules) if len(modules) > 1 else modules[0]
    return SpikingNetwork(module, input_shape=input_shape, classes=classes)


class Forward(nn.Module):
    """A convolution with neurons of 6 x 8 x 8, whose spikes go through `steps` to a classifier of `features`."""

    def __init__(self, steps, features=6 * 8 * 8, **parts):
        super().__init__()
        self.stem, self.stem_neuron = nn.Conv2d(3, 6, 3, padding=1), neurons()
        for name, part in parts.items():
            setattr(self, name, part)
        self.steps = steps
        self.classifier = nn.Linear(features, 5)

    def forward(self, image):
        return self.classifier(self.steps(self, self.stem_neuron(self.stem(image))))


def captured(steps, **options):
    return capture(network(Forward(steps, **options)))


def test_layers_of_the_mnist_network():
    config = ConvNetworkConfig(net="mnist-cnn", input_shape=(1, 28, 28), classes=10, steps=3, levels=4)
    built = build_network(config)
    folded = capture(built)
    assert [layer.name for layer in folded.layers] == ["neuron1", "neuron2", "classifier"]
    projections = [layer.projections[0] for layer in folded.layers]
    assert [projection.source for projection in projections] == [IMAGE, 0, 1]
    assert [projection.weights.shape for projection in projections] == [
        (16, 1, 3, 3),
        (32, 16, 3, 3),
        (10, 32, 7, 7),
    ]
    pooling = Pooling(kind="sum", size=(2, 2))
    assert [projection.pooling for projection in projections] == [None, pooling, pooling]
    assert projections[1].input_shape == (16, 28, 28)
    assert [layer.neuron and (layer.neuron.levels, layer.neuron.steps) for layer in folded.layers] == [
        (4, 3),
        (4, 3),
        None,
    ]
    values = [folded.input_value(projection) for projection in projections]
    assert values == [1 / 255, config.threshold / 4, config.threshold / 4]


def test_trained_integers_are_kept():
    conv, linear = QuantConv2d(3, 4, 3, bias=True, weight_bits=3), QuantLinear(144, 5, bias=True)
    first, last = capture(network(conv, neurons(), nn.Flatten(), linear)).layers
    for layer, module in ((first, conv), (last, linear)):
        integers, scale = module.integer_weight()
        (projection,) = layer.projections
        np.testing.assert_array_equal(projection.weights.reshape(integers.shape), integers.numpy())
        np.testing.assert_array_equal(projection.scale, scale.double().numpy())
        np.testing.assert_array_equal(layer.bias, module.bias.detach().double().numpy())
        assert projection.weight_bits == module.weight_bits


@pytest.mark.parametrize("bits", [2, 6])
def test_plain_weights_are_rounded_as_training_would(bits):
    """Those of quantized layers without a width too."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), neurons(), nn.Flatten(), nn.Linear(144, 5))
    plain = capture(network(module), weight_bits=bits)
    without_width = capture(network(quantize_module(copy.deepcopy(module), None)), weight_bits=bits)
    trained = capture(network(quantize_module(copy.deepcopy(module), bits)), weight_bits=8)
    for folded in (plain, without_width):
        for found, expected in zip(folded.layers, trained.layers, strict=True):
            assert found.projections[0].weight_bits == bits
            np.testing.assert_array_equal(found.projections[0].weights, expected.projections[0].weights)
            np.testing.assert_array_equal(found.projections[0].scale, expected.projections[0].scale)


def test_dense_weights_follow_the_flattened_map():
    linear = nn.Linear(6 * 2 * 4, 5)
    with torch.no_grad():
        linear.weight[:] = torch.arange(48.0) - 24
    pool = nn.AvgPool2d((4, 2))
    folded = capture(network(nn.Conv2d(3, 6, 3, padding=1), neurons(), pool, nn.Flatten(), linear))
    weights = folded.layers[-1].projections[0].weights[0]
    assert weights.shape == (6, 2, 4)
    order = np.argsort(weights.reshape(-1), kind="stable")
    np.testing.assert_array_equal(order, np.arange(48))


@pytest.mark.parametrize(
    ("steps", "pooling", "features"),
    [
        (lambda net, x: F.avg_pool2d(x, 2), ("sum", (2, 2)), 96),
        (lambda net, x: F.avg_pool2d(input=x, kernel_size=(2, 4)), ("sum", (2, 4)), 48),
        (lambda net, x: F.max_pool2d(x, 3), ("max", (3, 3)), 24),
        (lambda net, x: torch.max_pool2d(x, 2), ("max", (2, 2)), 96),
        (lambda net, x: F.max_pool2d(x, 2, ceil_mode=True), ("max", (2, 2)), 96),
        (lambda net, x: F.adaptive_avg_pool2d(x, 1), ("sum", (8, 8)), 6),
        (lambda net, x: F.adaptive_avg_pool2d(x, (2, 4)), ("sum", (4, 2)), 48),
        (lambda net, x: F.adaptive_max_pool2d(x, 2), ("max", (4, 4)), 24),
        (lambda net, x: x.mean((2, 3), keepdim=True), ("sum", (8, 8)), 6),
        (lambda net, x: torch.mean(x, dim=[-1, -2]), ("sum", (8, 8)), 6),
        (lambda net, x: F.avg_pool2d(F.avg_pool2d(x, 2), 2), ("sum", (4, 4)), 24),
        (lambda net, x: F.avg_pool2d(F.avg_pool2d(x, 3), 2), ("sum", (6, 6)), 6),
        (lambda net, x: F.max_pool2d(F.max_pool2d(x, (2, 1)), 2), ("max", (4, 2)), 48),
        (lambda net, x: F.avg_pool2d(F.dropout(x, 0.5, net.training), 1), None, 384),
    ],
)
def test_pooling_goes_into_the_consumer(steps, pooling, features):
    folded = captured(lambda net, x: torch.flatten(steps(net, x), 1), features=features)
    (projection,) = folded.layers[-1].projections
    found = projection.pooling
    assert (found and (found.kind, found.size)) == pooling
    assert projection.input_shape == (6, 8, 8)
    window = found.window if pooling and pooling[0] == "sum" else 1
    assert folded.input_value(projection) == 1 / window


@pytest.mark.parametrize(
    "module",
    [
        nn.AvgPool2d(4),
        nn.AvgPool2d(4, count_include_pad=False),
        nn.MaxPool2d(4, ceil_mode=True),
        nn.AdaptiveAvgPool2d((2, None)),
        nn.AdaptiveMaxPool2d(2),
    ],
)
def test_pooling_modules(module):
    features = 6 * int(np.prod(module(torch.zeros(1, 6, 8, 8)).shape[2:]))
    folded = captured(lambda net, x: net.pool(x).flatten(1), features=features, pool=module)
    kind = "max" if "Max" in type(module).__name__ else "sum"
    width = 1 if isinstance(module, nn.AdaptiveAvgPool2d) else 4
    assert folded.layers[-1].projections[0].pooling == Pooling(kind=kind, size=(4, width))


def test_pooling_of_the_image():
    module = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 4, 3), neurons(), nn.Flatten(), nn.Linear(16, 5))
    folded = capture(network(module))
    (projection,) = folded.layers[0].projections
    assert projection.pooling == Pooling(kind="sum", size=(2, 2))
    assert folded.input_value(projection) == 1 / 255 / 4


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: x.flatten(1),
        lambda x: torch.flatten(x, start_dim=1),
        lambda x: x.contiguous().view(x.size(0), -1),
        lambda x: x.reshape(x.shape[0], 6 * 8 * 8),
        lambda x: torch.reshape(x.clone(), (x.size()[0], -1)),
    ],
)
def test_flattening(flatten):
    (projection,) = captured(lambda net, x: flatten(x)).layers[-1].projections
    assert projection.weights.shape == (5, 6, 8, 8)


@pytest.mark.parametrize(
    ("options", "stride", "padding", "groups"),
    [
        ({"kernel_size": 3, "stride": 2, "padding": 1}, (2, 2), (1, 1), 1),
        ({"kernel_size": (3, 5), "padding": (0, 2), "groups": 3}, (1, 1), (0, 2), 3),
        ({"kernel_size": (3, 5), "padding": "same", "groups": 6}, (1, 1), (1, 2), 6),
        ({"kernel_size": 4, "stride": (4, 1), "padding": "valid", "bias": False}, (4, 1), (0, 0), 1),
    ],
)
def test_convolutions(options, stride, padding, groups):
    conv = nn.Conv2d(6, 12, **options)
    map_size = conv(torch.zeros(1, 6, 8, 8)).shape[2:]
    folded = captured(
        lambda net, x: net.neuron(net.conv(x)).flatten(1),
        features=12 * int(np.prod(map_size)),
        conv=conv,
        neuron=neurons(),
    )
    (projection,) = folded.layers[1].projections
    assert (projection.stride, projection.padding, projection.groups) == (stride, padding, groups)
    assert projection.weights.shape == tuple(conv.weight.shape)
    assert projection.output_shape == (12, *map_size)


class Conv3x3(nn.Conv2d):
    """A user's class that only sets defaults."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, 3, padding=1)


def test_derived_class_without_behaviour_of_its_own():
    folded = captured(lambda net, x: net.neuron(net.conv(x)).flatten(1), conv=Conv3x3(6, 6), neuron=neurons())
    assert folded.layers[1].projections[0].weights.shape == (6, 6, 3, 3)


def test_parametrized_weights():
    conv = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 3, padding=1))
    folded = captured(lambda net, x: net.neuron(net.conv(x)).flatten(1), conv=conv, neuron=neurons())
    (projection,) = folded.layers[1].projections
    rebuilt = projection.weights * projection.scale[:, None, None, None]
    np.testing.assert_allclose(rebuilt, conv.weight.detach(), atol=projection.scale.max() / 2 + 1e-9)


def residual(add, **parts):
    return captured(lambda net, x: net.neuron(add(net, x)).flatten(1), neuron=neurons(), **parts)


def test_identity_shortcut():
    conv = QuantConv2d(6, 6, 3, padding=1)
    norm = nn.BatchNorm2d(6)
    folded = residual(lambda net, x: x + net.norm(net.conv(x)), conv=conv, norm=norm)
    main, branch = folded.layers[1].projections
    np.testing.assert_array_equal(main.weights, conv.integer_weight()[0].numpy())
    assert (branch.groups, branch.source, branch.weights.shape) == (6, 0, (6, 1, 1, 1))
    assert (branch.weights == 1).all()
    assert (branch.scale == 1).all()


@pytest.mark.parametrize(
    "add",
    [
        lambda net, x: net.conv(x) + net.short(x),
        lambda net, x: torch.add(net.conv(x), other=net.short(x)),
        lambda net, x: net.conv(x).add_(net.short(x)),
        lambda net, x: net.conv(x).add(net.short(x), alpha=1),
        lambda net, x: sum([net.conv(x), net.short(x)]),
    ],
)
def test_sums_of_convolutions_keep_their_order(add):
    conv, short = QuantConv2d(6, 6, 3, padding=1, bias=True), QuantConv2d(6, 6, 1, weight_bits=8, bias=True)
    layer = residual(add, conv=conv, short=short).layers[1]
    assert [projection.weight_bits for projection in layer.projections] == [4, 8]
    np.testing.assert_allclose(layer.bias, (conv.bias + short.bias).detach().double(), atol=1e-7)


def test_sum_of_spikes_with_a_norm_behind_it():
    norm = nn.BatchNorm2d(6)
    with torch.no_grad():
        norm.weight[:] = torch.tensor([1.0, -2.0, 3.0, 0.0, 5.0, 6.0])
    layer = residual(
        lambda net, x: net.norm(net.other(net.conv(x)) + x),
        conv=nn.Conv2d(6, 6, 3, padding=1),
        other=neurons(),
        norm=norm,
    ).layers[2]
    assert [projection.source for projection in layer.projections] == [1, 0]
    for projection in layer.projections:
        assert projection.weights[:, 0, 0, 0].tolist() == [1, -1, 1, 1, 1, 1]
        np.testing.assert_allclose(projection.scale, [1, 2, 3, 0, 5, 6], rtol=1e-4)


def test_neurons_without_weights_in_front():
    layer = residual(lambda net, x: net.pool(x), pool=nn.MaxPool2d(1)).layers[1]
    (projection,) = layer.projections
    assert projection.groups == 6
    assert (projection.weights == 1).all()


def test_batch_norm_takes_running_statistics_in_training_too():
    built = network(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), neurons(), nn.Dropout(), nn.Flatten(), nn.Linear(144, 5)
    )
    nn.init.normal_(built.module[1].running_mean)
    statistics = built.module[1].running_mean.clone()
    expected = capture(built.eval()).layers[0]
    found = capture(built.train()).layers[0]
    np.testing.assert_array_equal(found.bias, expected.bias)
    assert all(module.training for module in built.modules())
    assert built.module[2].batch is None
    torch.testing.assert_close(built.module[1].running_mean, statistics, rtol=0, atol=0)


def test_batch_norm_without_gain_and_behind_linear_layers():
    norm = nn.BatchNorm1d(7, affine=False)
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 7), norm, neurons(), nn.Linear(7, 5))
    norm.running_var.fill_(4.0)
    norm.running_mean.fill_(0.5)
    first, last = capture(network(module)).layers
    expected = (module[1].bias.detach().double().numpy() - 0.5) / np.sqrt(4 + norm.eps)
    np.testing.assert_allclose(first.bias, expected)
    assert last.projections[0].input_shape == (7, 1, 1)


def test_optional_arguments_have_their_defaults():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron, self.linear = neurons(), nn.Linear(192, 5)

        def forward(self, image, gain=None):
            if gain is not None:
                image = image * gain
            return self.linear(self.neuron(image).flatten(1))

    first, _ = capture(network(Optional())).layers
    assert first.projections[0].source == IMAGE


@pytest.mark.parametrize("net", [name for name in NET_NAMES if name != "mnist-cnn"])
def test_every_network_of_the_zoo(net):
    torch.manual_seed(0)
    config = ConvNetworkConfig(net=net, width=0.125, input_shape=(3, 32, 32), classes=10)
    built = build_network(config)
    folded = capture(built)
    assert [layer.name for layer in folded.layers[:-1]] == list(built.neurons())
    sums = [layer for layer in folded.layers if len(layer.projections) == 2]
    blocks = {"resnet18": 8, "resnet19": 8, "resnet19-lmht": 8, "resnet20": 9, "resnet34": 16}
    assert len(sums) == blocks.get(net, 0)


def test_wrong_weight_bits():
    built = network(nn.Conv2d(3, 4, 3), neurons(), nn.Flatten(), nn.Linear(144, 5))
    with pytest.raises(ValueError, match=r"^weight_bits must be between 2 and 8, not 9$"):
        capture(built, weight_bits=9)
