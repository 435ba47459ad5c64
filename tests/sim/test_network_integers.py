"""Networks with the hardware's roundings: their logits are the integers', in evaluation to the bit, and in training but
for floating point where batch norms take their running statistics."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from lmht.gen.build import Build
from lmht.gen.cli import main
from lmht.gen.compile import CompileOptions, to_integers
from lmht.gen.spike_interface import draw_frames
from lmht.model import (
    ConvNetworkConfig,
    Network,
    NetworkConfig,
    SpikingNetwork,
    TrainingConfig,
    WindowLMHT,
    build_network,
    evaluate,
    load_checkpoint,
    load_dataset,
    train,
)
from lmht.model import integer_window as window_module
from lmht.model.coding import seed_coding
from lmht.model.evaluation import EVALUATION_SEED
from lmht.model.integer_window import RoundedMixing, integer_window
from lmht.model.joined_norm import join_norms
from lmht.model.quantization import quantize_module
from lmht.model.surrogate import RoundHalfUp
from lmht.model.window import Staircase
from lmht.sim import network_integers
from lmht.sim.golden import GoldenModel
from lmht.sim.network_integers import NetworkIntegers


class Pooled(nn.Module):
    """Both poolings; branches that are spikes, pooled spikes and a convolution; a map that is flattened for neurons."""

    def __init__(self):
        super().__init__()

        def neuron(levels, theta):
            return WindowLMHT(levels, 2, theta, 0.2 * theta, fraction_bits=4)

        def conv(inputs, outputs, size=3):
            made = nn.Conv2d(inputs, outputs, size, padding=size // 2)
            return nn.Sequential(made, nn.BatchNorm2d(outputs))

        self.stem, self.first = conv(1, 4), neuron(3, 0.5)
        self.inner, self.second = conv(4, 4), neuron(2, 0.9)
        self.after, self.third = conv(4, 4), neuron(2, 1.0)
        self.side, self.wide, self.fourth = conv(4, 6, 1), conv(4, 6), neuron(1, 0.7)
        self.pool, self.most = nn.AvgPool2d(2), nn.MaxPool2d(2)
        self.norm, self.last = nn.BatchNorm1d(8), neuron(4, 0.3)
        self.hidden, self.classes = nn.Linear(6 * 4, 8), nn.Linear(8, 5)

    def forward(self, image):
        spikes = self.first(self.stem(image))
        pooled = self.most(spikes)
        spikes = self.second(self.inner(pooled) + pooled)
        spikes = self.third(self.after(self.pool(spikes)) + self.pool(spikes))
        spikes = self.fourth(self.wide(spikes) + self.side(spikes))
        return self.classes(self.last(self.norm(self.hidden(spikes.flatten(1)))))


def fully_connected(**fields):
    return Network(NetworkConfig(architecture="64-12-9-10", input_shape=(1, 8, 8), **fields))


def convolutional(net, shape=(1, 8, 8), width=0.1, **fields):
    return build_network(ConvNetworkConfig(net=net, input_shape=shape, classes=10, width=width, **fields))


NETWORKS = {
    "fully connected": lambda: fully_connected(fraction_bits=3, levels=3, steps=3, initial_membrane=0.3),
    "one step": lambda: fully_connected(fraction_bits=0, levels=4, steps=1),
    "integrate and fire": lambda: fully_connected(
        fraction_bits=5, levels=1, steps=4, mixing="identity", leak=1.0
    ),
    "leak": lambda: fully_connected(fraction_bits=8, levels=2, steps=4, mixing="uniform", leak=0.7754),
    "constant coding": lambda: fully_connected(fraction_bits=1, levels=1, steps=4, coding="constant"),
    "spike count": lambda: fully_connected(fraction_bits=3, levels=1, steps=3, readout="spike-count"),
    "random spikes": lambda: fully_connected(fraction_bits=3, levels=1, steps=1, coding="bernoulli"),
    "mnist-cnn": lambda: convolutional("mnist-cnn", (1, 12, 12), fraction_bits=4, levels=2, steps=2),
    "vgg11": lambda: convolutional("vgg11", (3, 32, 32), 0.04, fraction_bits=6, levels=2, steps=2),
    "resnet20": lambda: convolutional("resnet20", fraction_bits=8, levels=2, steps=2),
    "resnet18": lambda: convolutional("resnet18", width=0.05, fraction_bits=5, levels=1, steps=3),
    "constant coding, convolutional": lambda: convolutional(
        "mnist-cnn", (1, 12, 12), fraction_bits=2, levels=1, steps=4, coding="constant"
    ),
    "poolings and branches": lambda: SpikingNetwork(
        quantize_module(Pooled(), 4), input_shape=(1, 8, 8), classes=5
    ),
}


def draw_images(network, count=6):
    shape = network.config.input_shape if isinstance(network, Network) else network.input_shape
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def make(name):
    """A network with random weights, mixing and leak, whose running statistics are those of a few random images."""
    torch.manual_seed(3)
    network = NETWORKS[name]()
    with torch.no_grad():
        for part in network.modules():
            for parameter in part.parameters(recurse=False):
                if hasattr(part, "mixing"):
                    parameter.add_(torch.randn_like(parameter) / 2)
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.3, 0.3)
        norm.momentum = None
    for _ in range(2):
        network.train().run_modules(draw_images(network, 20).float() / 255)
    return network.eval()


def golden_logits(network, images):
    integers = to_integers(network, CompileOptions(), name="n")
    coding = network.config.coding if isinstance(network, Network) else "direct"
    found = GoldenModel(integers).run(draw_frames(images, coding))
    return found.logits.double() * integers.logit_scale


def logits_of(network, images):
    seed_coding(network, EVALUATION_SEED)
    return network(images)


def check_evaluation(network):
    images = draw_images(network)
    expected = golden_logits(network, images)
    assert len(expected.unique()) > 3, "the case says something"
    for given in (images, images.float() / 255, images.double() / 255):
        found = logits_of(network, given)
        assert found.dtype == torch.float64
        assert torch.equal(found, expected)


def check_training(network, count=6):
    """A pass in training, in float64 with running statistics: floating point alone is between it and the integers."""
    images = draw_images(network, count)
    # First of all: scales of float64 weights are other numbers than those of float32.
    expected = golden_logits(network.double(), images)
    network.train()
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    torch.testing.assert_close(logits_of(network, images.double() / 255), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_is_that_of_the_integers(name):
    check_evaluation(make(name))


@pytest.mark.parametrize("name", NETWORKS)
def test_training_rounds_as_the_integers(name):
    check_training(make(name))


def leave_out(**parts):
    """A fault in what the integers tell the neurons."""

    def plant(monkeypatch, network):
        told = NetworkIntegers._rounded_mixing

        def tell(self, index, levels):
            rounded = told(self, index, levels)
            made = {name: make(self._folded.layers[index], rounded) for name, make in parts.items()}
            return replace(rounded, **made)

        monkeypatch.setattr(NetworkIntegers, "_rounded_mixing", tell)

    return plant


def exact_factors(layer, rounded):
    omega = torch.from_numpy(layer.neuron.mixing)
    omega = omega if rounded.factors.shape[1] == len(omega) else omega.sum(dim=1, keepdim=True)
    return omega[..., None].expand(rounded.factors.shape)


def plant_leak(monkeypatch, network):
    # Rounded to fewer bits: half a step of 8 bits tips hardly any neuron over.
    monkeypatch.setattr(window_module, "LEAK_BITS", 4)


def plant_membrane(monkeypatch, network):
    monkeypatch.setattr(RoundHalfUp, "apply", lambda value: value)


def plant_start(monkeypatch, network):
    monkeypatch.setattr(window_module, "round", lambda value: value, raising=False)


def plant_logits(monkeypatch, network):
    monkeypatch.setattr(network_integers.StraightThrough, "apply", lambda exact, rounded: exact)


def plant_coding(monkeypatch, network):
    network.coding.fraction_bits = None


FAULTS = {
    "multipliers": ("fully connected", leave_out(factors=exact_factors)),
    "bias": ("mnist-cnn", leave_out(offset=lambda layer, rounded: rounded.offset * 0)),
    "gains": ("poolings and branches", leave_out(excess=lambda layer, rounded: None)),
    "leak": ("leak", plant_leak),
    "membrane": ("fully connected", plant_membrane),
    "initial membrane": ("poolings and branches", plant_start),
    "coding": ("constant coding", plant_coding),
    "classifier": ("fully connected", plant_logits),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rounding_left_out_is_found(monkeypatch, fault):
    name, plant = FAULTS[fault]
    network = make(name)
    plant(monkeypatch, network)
    with pytest.raises(AssertionError):
        check_training(network, 100)


def test_evaluation_without_the_integers_is_found(monkeypatch):
    monkeypatch.setattr(Network, "forward", Network.run_modules)
    with pytest.raises(AssertionError):
        check_evaluation(make("fully connected"))


@pytest.mark.parametrize("name", ["fully connected", "constant coding", "poolings and branches"])
def test_levels_are_those_of_the_integers(name):
    network = make(name)
    images = draw_images(network)
    integers = to_integers(network, CompileOptions(), name="n")
    kept = GoldenModel(integers).run(images, keep_levels=True).levels
    found = network.spike_levels(images)
    if isinstance(found, dict):
        # In the hardware's order channels come last.
        found = [maps if maps.dim() == 3 else maps.permute(0, 1, 3, 4, 2) for maps in found.values()]
        kept = dict(
            zip((layer.name for layer in NetworkIntegers(network)._folded.layers), kept, strict=False)
        )
        kept = [kept[name] for name in network.neurons()]
    else:
        kept = kept[-len(found) :]
    for maps, expected in zip(found, kept, strict=True):
        assert torch.equal(maps.flatten(2), expected.long())
        assert maps.any()


def test_weights_are_followed():
    """Nothing is kept from one pass to the next: neither integers nor roundings."""
    network = make("mnist-cnn")
    images = draw_images(network)
    before = network(images)
    with torch.no_grad():
        network.module.classifier.weight.data.mul_(torch.rand(10, 1) + 0.5)
    assert not torch.equal(network(images), before)
    check_evaluation(network)
    network.train()(images)
    assert all(neuron.rounded is None for neuron in network.neurons().values())
    assert not any(neuron._forward_hooks for neuron in network.neurons().values())


def test_gradients_are_those_derived_by_hand():
    """Two channels, T = 2: gradients take the membranes of the integers, and Ω and λ as they are."""
    torch.manual_seed(0)
    bits, theta, levels = 3, 0.5, 2
    omega = torch.tensor([[0.7, 0.2], [0.4, 0.9]], dtype=torch.float64, requires_grad=True)
    leak = torch.tensor(0.83, dtype=torch.float64, requires_grad=True)
    current = (torch.randn(2, 40, 2, dtype=torch.float64) * 0.8).requires_grad_()
    upstream = torch.randn(2, 40, 2, dtype=torch.float64)
    factors = omega.detach()[..., None] * torch.tensor([1.06, 0.93])
    offset = torch.tensor([[0.3, -0.2], [0.1, 0.4]], dtype=torch.float64)
    rounded = RoundedMixing(factors, offset)
    output = integer_window(current, omega, leak, Staircase(theta, levels, 0.2), bits, rounded)
    output.backward(upstream)

    scale = 2**bits / theta
    # J[t, b, n] of the integers, and what it would be without them.
    told = torch.einsum("tun,ubn->tbn", factors, current.detach() * scale) + offset[:, None]
    currents = torch.floor(told + 0.5)
    membrane = torch.full((40, 2), float(round(0.2 * scale)), dtype=torch.float64)
    inner, of_leak, expected = [], 0.0, []
    for step in range(2):
        charged = torch.floor(round(0.83 * 256) * membrane / 256 + 0.5) + currents[step]
        window = (charged >= 2**bits / 2) & (charged <= (levels + 0.5) * 2**bits)
        inner.append(upstream[step] * window)
        of_leak += (inner[-1] * membrane / scale).sum()
        fired = torch.floor(charged / 2**bits).clamp(0, levels)
        expected.append(fired * theta)
        membrane = charged - fired * 2**bits
    inner = torch.stack(inner)
    assert torch.equal(output.detach(), torch.stack(expected))
    assert inner.any(dim=1).all(), "every channel has a gradient at every step"
    torch.testing.assert_close(current.grad, torch.einsum("tu,tbn->ubn", omega.detach(), inner))
    torch.testing.assert_close(omega.grad, torch.einsum("tbn,ubn->tu", inner, current.detach()))
    torch.testing.assert_close(leak.grad, of_leak)


def test_gradients_of_logits_pass_straight_through():
    network = make("fully connected").train()
    network.layers[-1].linear.bias.grad = None
    network(draw_images(network)).sum().backward()
    torch.testing.assert_close(network.layers[-1].linear.bias.grad, torch.full((10,), 6.0))
    assert network.layers[0].linear.weight.grad.any()


def test_training_learns_and_its_accuracy_is_that_of_the_build(tmp_path):
    digits = load_dataset("digits")
    accuracies = {}
    for bits in (None, 4):
        config = NetworkConfig(architecture="64-32-10", input_shape=(1, 8, 8), fraction_bits=bits)
        recipe = TrainingConfig(epochs=8, batch_size=64, learning_rate=5e-3, activity_penalty=0.01)
        run = train(config, recipe, digits, tmp_path / str(bits), progress=False)
        accuracies[bits] = run.test_accuracy
    assert accuracies[4] > 0.9
    assert accuracies[4] > accuracies[None] - 0.02
    build = tmp_path / "build"
    assert main(["compile", str(tmp_path / "4"), "--lanes", "2", "--out", str(build)]) == 0
    integers = Build.open(build).network
    found = GoldenModel(integers).run(digits.test_images)
    hits = (found.predictions == digits.test_labels).double().mean().item()
    assert accuracies[4] == pytest.approx(hits, abs=1e-12)
    network, _ = load_checkpoint(tmp_path / "4")
    assert torch.equal(network(digits.test_images), found.logits.double() * integers.logit_scale)
    assert evaluate(network, digits.test_images, digits.test_labels) == accuracies[4]


def test_other_widths_are_another_network(tmp_path):
    """Multipliers of other widths than those of training give other integers, not other logits in PyTorch."""
    network = make("fully connected")
    images = draw_images(network)
    integers = to_integers(network, CompileOptions(multiplier_bits=5), name="n")
    other = GoldenModel(integers).run(images).logits.double() * integers.logit_scale
    assert not torch.equal(network(images), other)
    check_evaluation(network)


def test_batch_norms_of_several_processes():
    """A network that several processes train has integers, too."""
    network = make("mnist-cnn")
    images = draw_images(network)
    before = network(images)
    join_norms(network)
    assert torch.equal(network(images), before)


def test_hooks_are_no_part_of_training():
    """What watches the neurons sees the pass itself and not the capture; in evaluation the compiler refuses it."""
    network = make("mnist-cnn")
    seen = []
    neuron = next(iter(network.neurons().values()))
    hook = neuron.register_forward_hook(lambda *_: seen.append(1))
    network.train()(draw_images(network))
    assert seen == [1]
    with pytest.raises(ValueError, match="it has hooks"):
        network.eval()(draw_images(network))
    hook.remove()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.full((2, 1, 8, 8), 0.3),
            "images must be bytes, or multiples of 1/255, .* not 0.3",
        ),
        (torch.full((2, 1, 8, 8), 2.0), "images of floating point must be between 0 and 1, not 2"),
        (torch.full((2, 1, 8, 8), float("nan")), "not nan"),
        (torch.zeros(2, 1, 8, 7), r"images must have shape \(batch, 1, 8, 8\), not \(2, 1, 8, 7\)"),
    ],
)
def test_images_that_hardware_does_not_take(images, message):
    with pytest.raises(ValueError, match=message):
        make("fully connected")(images)


def test_networks_that_hardware_does_not_have():
    network = fully_connected(fraction_bits=3, readout="last-step")
    with pytest.raises(ValueError, match=r"^readout must be mean or spike-count for hardware so far"):
        network.eval()(torch.zeros(2, 1, 8, 8))
    module = nn.Sequential(OrderedDict(neuron=WindowLMHT(2, 2, fraction_bits=4), act=nn.ReLU()))
    with pytest.raises(ValueError, match=r"act \(ReLU\)"):
        SpikingNetwork(module, input_shape=(1, 2, 2), classes=4)(torch.zeros(2, 1, 2, 2))


def test_bernoulli_spikes_are_drawn_by_the_network():
    network = make("random spikes")
    images = draw_images(network)
    assert torch.equal(logits_of(network, images), logits_of(network, images))
    assert not torch.equal(network(images), network(images)), "fresh at every call"
