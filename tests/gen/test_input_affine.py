"""Normalization of the image in front of a network: exact where it says so, and the classes of PyTorch."""

import numpy as np
import pytest
import torch
from torch import nn

from lmht.gen import input_affine
from lmht.gen.build import Build
from lmht.gen.capture import capture
from lmht.gen.capture_values import CaptureError
from lmht.gen.compile import CompileOptions, compile_network, to_integers
from lmht.model import QuantConv2d, QuantLinear, SpikingNetwork, WindowLMHT
from lmht.sim.golden import GoldenModel
from lmht.sim.verify import verify

FINE = CompileOptions(name="dut", lanes=4, fraction_bits=16, multiplier_bits=20)
CIFAR = ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])


class Normalize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, image):
        return (image - self.mean) / self.std


class Operators(nn.Module):
    def forward(self, image):
        return 0.5 - (2.5 * image + 1) / -0.8 * torch.tensor([1.0]).view(1, 1, 1, 1)


def batch_norm(channels):
    norm = nn.BatchNorm2d(channels)
    norm.momentum = 0.0
    norm.running_mean.uniform_(0.2, 0.6)
    norm.running_var.uniform_(0.03, 0.2)
    nn.init.uniform_(norm.weight, 0.3, 2.0)
    nn.init.normal_(norm.bias)
    with torch.no_grad():
        norm.weight[0].neg_()
    return norm


def make(front, *, channels=3, padding=1, stride=1, groups=1, pool=None):
    """A convolution behind `front`, with batch norms that have seen random images, which come with it."""
    torch.manual_seed(0)
    size = ((4 if pool else 8) + 2 * padding - 3) // stride + 1
    front = front() if callable(front) and not isinstance(front, nn.Module) else front
    module = nn.Sequential(
        *([pool] if pool else []),
        front,
        QuantConv2d(channels, 6, 3, stride, padding, groups=groups),
        nn.BatchNorm2d(6),
        WindowLMHT(2, 2, 1.0),
        nn.Flatten(),
        QuantLinear(6 * size**2, 10),
    )
    network = SpikingNetwork(module, input_shape=(channels, 8, 8), classes=10)
    images = torch.randint(0, 256, (300, channels, 8, 8), dtype=torch.uint8)
    images[:, :, :3] = 0
    with torch.no_grad():
        for _ in range(10):
            network.train()(images)
    return network.eval(), images


CASES = {
    "grey": ({"channels": 1}, lambda: Normalize([0.1307], [0.3081])),
    "equal": ({}, lambda: Normalize([0.49, 0.48, 0.44], [0.2, 0.2, 0.2])),
    "cifar": ({}, lambda: Normalize(*CIFAR)),
    "operators": ({}, Operators),
    "batch-norm": ({}, lambda: batch_norm(3)),
    "stride": ({"stride": 2}, lambda: Normalize(*CIFAR)),
    "groups": ({"groups": 3}, lambda: Normalize(*CIFAR)),
    "without-padding": ({"padding": 0}, lambda: Normalize(*CIFAR)),
    "pooled": ({"pool": nn.AvgPool2d(2)}, lambda: Normalize(*CIFAR)),
}


@pytest.mark.parametrize("name", CASES)
def test_classes_are_those_of_pytorch(name):
    options, front = CASES[name]
    network, images = make(front, **options)
    integers = to_integers(network, FINE, name="dut")
    assert len(integers.layers) == (2 if name == "without-padding" else 3)
    with torch.no_grad():
        expected = network(images).argmax(dim=1)
    assert len(expected.unique()) > 3
    assert torch.equal(torch.as_tensor(GoldenModel(integers).run(images.numpy()).predictions), expected)


def test_normalize_of_torchvision_is_known_by_name():
    """As the operators; torchvision itself is not needed."""

    class Module(nn.Module):
        def __init__(self, mean, std):
            super().__init__()
            self.mean, self.std = mean, std

        def forward(self, image):
            if not isinstance(image, torch.Tensor):
                raise TypeError("as torchvision's, it does not take what traces")
            return (image - torch.tensor(self.mean).view(-1, 1, 1)) / torch.tensor(self.std).view(-1, 1, 1)

    with pytest.raises(CaptureError, match="does not take what traces"):
        capture(make(Module(*CIFAR))[0])
    Module.__module__, Module.__name__ = "torchvision.transforms.transforms", "Normalize"
    found, expected = (capture(make(front(*CIFAR))[0]).layers for front in (Module, Normalize))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.bias, other.bias, rtol=1e-5, atol=1e-6)
        for part, wanted in zip(one.projections, other.projections, strict=True):
            assert np.abs(part.weights - wanted.weights).max() <= 1
            np.testing.assert_allclose(part.scale, wanted.scale, rtol=1e-5)


def test_a_wrong_border_is_found(monkeypatch):
    """With the constant in the bias also where the kernel reaches the padding, classes differ."""
    network, images = make(CASES["grey"][1], channels=1)
    with torch.no_grad():
        expected = network(images).argmax(dim=1)
    fold = input_affine.fold_affine

    def in_the_bias(layer, gain, offset):
        folded = fold(layer, gain, offset)
        main, constant = folded.projections
        bias = folded.bias + constant.scale * constant.weights.sum(axis=(1, 2, 3))
        return input_affine.replace(folded, projections=(main,), bias=bias)

    monkeypatch.setattr("lmht.gen.capture_weights.fold_affine", in_the_bias)
    predictions = GoldenModel(to_integers(network, FINE, name="dut")).run(images.numpy()).predictions
    assert not torch.equal(torch.as_tensor(predictions), expected)


def test_one_std_keeps_the_trained_integers():
    network, _ = make(CASES["equal"][1])
    constant, first, _ = capture(network).layers
    trained, _ = network.module[1].integer_weight()
    signs = np.sign(network.module[2].weight.detach().numpy())[:, None, None, None]
    assert np.array_equal(first.projections[0].weights, trained.numpy() * signs)
    assert (first.projections[0].weight_bits, first.projections[1].source) == (4, 0)
    assert (constant.name, constant.neuron.steps, constant.neuron.levels) == ("constant", 1, 1)


def test_constant_is_rounded_by_at_most_a_thirty_second():
    """Off by at most 1/32 grey level times a trained step at a tap, and by nothing over a whole kernel."""
    network, _ = make(CASES["cifar"][1])
    _, first, _ = capture(network).layers
    trained, steps = (each.double().numpy() for each in network.module[1].integer_weight())
    norm = network.module[2]
    gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().double().numpy()
    mean, std = (np.array(each, dtype=np.float32).astype(np.float64) for each in CIFAR)
    exact = (trained * (-mean / std)[None, :, None, None]).sum(axis=1) * (steps * gain)[:, None, None]
    branch = first.projections[1]
    found = branch.weights[:, 0] * branch.scale[:, None, None]
    unit = steps * np.abs(gain) / (255 * std.max())
    assert (np.abs(found - exact) <= (1 / 32 + 1e-6) * unit[:, None, None]).all()
    whole = found.sum(axis=(1, 2)) + first.bias
    shift = (norm.bias - norm.running_mean * torch.as_tensor(gain)).detach().double().numpy()
    np.testing.assert_allclose(whole, exact.sum(axis=(1, 2)) + shift, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("front", "message"),
    [
        (lambda x: x / torch.zeros(1), "truediv: the image must not be divided by 0"),
        (
            lambda x: x - torch.ones(2, 1, 1),
            "sub: a constant on the image must be one number or have the shape (3, 1, 1), not (2, 1, 1)",
        ),
        (
            lambda x: x * x,
            "mul: two branches of the network can be added, and no more; multiply by constants only",
        ),
    ],
)
def test_refusals(front, message):
    class Front(nn.Module):
        def forward(self, image):
            return front(image)

    network = SpikingNetwork(
        nn.Sequential(Front(), nn.Conv2d(3, 4, 3), WindowLMHT(2, 2, 1.0), nn.Flatten(), nn.Linear(144, 5)),
        input_shape=(3, 8, 8),
        classes=5,
    )
    with pytest.raises(CaptureError) as caught:
        capture(network)
    assert str(caught.value).endswith(message)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar", "batch-norm", "stride", "pooled"])
def test_hardware_is_equal(name, tmp_path):
    options, front = CASES[name]
    network, images = make(front, **options)
    compile_network(network, tmp_path / "build", FINE)
    build = Build.open(tmp_path / "build")
    labels = np.zeros(200, dtype=np.int64)
    report = verify(build, images[:200].numpy(), labels, layer_images=20, optimize=False)
    assert report.ok, report.message
    assert report.logits == 2000
    with torch.no_grad():
        assert np.array_equal(report.classes, network(images[:200]).argmax(dim=1).numpy())
