"""Captured networks compute what PyTorch computes: exactly before their rounding, and within its bounds behind it."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lmht.gen.balance_scales import balance_scales
from lmht.gen.capture import capture
from lmht.gen.quantize import quantize
from lmht.model import QuantConv2d, QuantLinear, SpikingNetwork, WindowLMHT, load_dataset
from lmht.rtl.projection import IMAGE
from lmht.sim.golden import GoldenModel
from lmht.sim.random_pytorch import random_convolutional, random_images


def to_integers(folded, **options):
    return quantize(balance_scales(folded), name="n", **options)


def observe(network, images):
    """Currents and levels of all neurons as they are in PyTorch, by name: (T_in, B, N, H, W) and (T, B, N, H, W)."""
    currents, levels = {}, {}

    def keep(name):
        def hook(neuron, inputs, output):
            currents[name] = map_of(inputs[0].unflatten(0, (-1, len(images))).double())
            levels[name] = map_of((output / neuron.theta).round().unflatten(0, (-1, len(images))).double())

        return hook

    handles = [part.register_forward_hook(keep(name)) for name, part in network.neurons().items()]
    with torch.no_grad():
        logits = network(images)
    for handle in handles:
        handle.remove()
    return currents, levels, logits.double()


def map_of(value):
    return value if value.dim() == 5 else value[..., None, None]


def project(projection, sources, weights):
    """Convolution of the pooled levels of a source, in float64: (T_in, B, N, H, W)."""
    levels = sources[projection.source]
    maps = levels.reshape(-1, *projection.input_shape)
    if projection.pooling is not None:
        size = projection.pooling.size
        maps = F.max_pool2d(maps, size)
        if projection.pooling.kind == "sum":
            maps = F.avg_pool2d(levels.reshape(-1, *projection.input_shape), size) * (size[0] * size[1])
    result = F.conv2d(
        maps, weights, stride=projection.stride, padding=projection.padding, groups=projection.groups
    )
    return result.unflatten(0, levels.shape[:2])


def per_channel(values):
    return torch.as_tensor(np.array(values, dtype=np.float64))[:, None, None]


def folded_currents(folded, layer, sources):
    total = per_channel(layer.bias)
    for projection in layer.projections:
        scale = per_channel(projection.scale * folded.input_value(projection))
        total = total + scale * project(projection, sources, torch.from_numpy(projection.weights).double())
    return total


def sources_of(folded, images, levels):
    sources = {IMAGE: images.double()[None]}
    for index, layer in enumerate(folded.layers[:-1]):
        sources[index] = levels[layer.name]
    return sources


@settings(max_examples=30, derandomize=True)
@given(st.integers(0, 2**31))
def test_currents_of_every_layer(seed):
    network, images = random_convolutional(seed)
    folded = capture(network)
    currents, levels, logits = observe(network, images)
    sources = sources_of(folded, images, levels)
    for layer in folded.layers[:-1]:
        found = folded_currents(folded, layer, sources)
        torch.testing.assert_close(found, currents[layer.name], rtol=1e-4, atol=1e-4)
    found = folded_currents(folded, folded.layers[-1], sources).mean(dim=0)[..., 0, 0]
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)


def test_networks_are_of_every_kind():
    """The seeds below reach what the tests above are for, and few of the layers are silent or saturated."""
    kinds, activity = set(), []
    for seed in range(20):
        network, images = random_convolutional(seed)
        folded = capture(network)
        _, levels, _ = observe(network, images)
        activity += [float((level > 0).double().mean()) for level in levels.values()]
        for layer in folded.layers:
            kinds.add(len(layer.projections))
            for projection in layer.projections:
                kinds.add(projection.pooling and projection.pooling.kind)
                kinds.add(("stride", projection.stride[0]))
                kinds.add(("groups", projection.groups > 1))
                kinds.add(("image pooled", projection.source == IMAGE and projection.pooling is not None))
    assert kinds >= {1, 2, None, "sum", "max", ("stride", 2), ("groups", True), ("image pooled", True)}
    assert np.mean([0.02 < part < 0.98 for part in activity]) > 0.9


@settings(max_examples=30, derandomize=True)
@given(st.integers(0, 2**31))
def test_rounding_stays_within_its_bounds(seed):
    """``J`` of every neuron against ``Ω I`` of the folded layer, each from the same levels.

    In units of ``θ 2^-F``: every G is off by half a unit of 2^-S, every gain of a residual branch by half a unit of the
    accumulator, and the bias and the shift by half a unit.
    """
    network, images = random_convolutional(seed)
    folded = balance_scales(capture(network))
    integers = quantize(folded, name="n")
    _, levels, _ = observe(network, images)
    sources = sources_of(folded, images, levels)
    for layer, integer in zip(folded.layers[:-1], integers.layers, strict=False):
        accumulators = accumulate(integer, sources)
        slack = torch.zeros_like(accumulators)
        if len(layer.projections) == 2:
            slack = 0.5 * abs(project(layer.projections[1], sources, abs_weights(layer.projections[1])))
        multipliers = torch.from_numpy(integer.full_multipliers().copy()).double()[..., None, None, None]
        mixed = (multipliers.transpose(2, 3) * accumulators).sum(dim=1)
        found = torch.floor(mixed / 2.0**integer.shift + (0.5 if integer.shift else 0))
        found = found + torch.from_numpy(integer.bias.copy()).double()[:, None, :, None, None]
        neuron = layer.neuron
        mixing = torch.from_numpy(neuron.mixing)
        currents = folded_currents(folded, layer, sources)
        if len(currents) == 1:
            mixing = mixing.sum(dim=1, keepdim=True)
        units = 2.0 ** integers.layers[0].fraction_bits / neuron.theta
        expected = torch.einsum("tu,ubnyx->tbnyx", mixing, currents) * units
        bound = 0.5 * accumulators.abs().sum(dim=0) / 2.0**integer.shift + 1 + 1e-6
        gains = (multipliers + 0.5).transpose(2, 3) / 2.0**integer.shift
        assert ((found - expected).abs() <= bound + (gains * slack).sum(dim=1)).all(), layer.name


def accumulate(integer, sources):
    """``A`` from the integers."""
    total = torch.zeros(1, dtype=torch.float64)
    for projection in integer.projections:
        weights = torch.from_numpy(projection.weights.copy()).double()
        total = total + 2**projection.shift * project(projection, sources, weights)
    return total


def abs_weights(projection):
    return torch.from_numpy(np.abs(projection.weights)).double()


def test_the_bounds_are_tight_enough_to_find_a_fault():
    """One gain of a residual branch that is off by 1 % breaks them."""
    seed = next(
        seed
        for seed in range(50)
        if any(len(layer.projections) == 2 for layer in capture(random_convolutional(seed)[0]).layers)
    )
    network, images = random_convolutional(seed)
    folded = balance_scales(capture(network))
    index = next(index for index, layer in enumerate(folded.layers) if len(layer.projections) == 2)
    layer = folded.layers[index]
    main, branch = layer.projections
    wrong = replace(layer, projections=(main, replace(branch, scale=branch.scale * 1.01)))
    _, levels, _ = observe(network, images)
    sources = sources_of(folded, images, levels)
    right = quantize(folded, name="n").layers[index]
    broken = replace(folded, layers=(*folded.layers[:index], wrong, *folded.layers[index + 1 :]))
    faulty = quantize(broken, name="n").layers[index]
    unit = main.scale * folded.input_value(main) * 2.0 ** -right.projections[0].shift
    exact = (folded_currents(folded, layer, sources) - per_channel(layer.bias)) / per_channel(unit)
    bound = 0.5 * project(branch, sources, abs_weights(branch))
    for integer, holds in ((right, True), (faulty, False)):
        error = (accumulate(integer, sources) - exact).abs()
        assert bool((error <= bound + 1e-6).all()) == holds


def test_golden_model_agrees_on_random_images():
    """With numbers so precise that little but ties remains; the logits of untrained networks are close together."""
    precise = {"fraction_bits": 14, "multiplier_bits": 22, "leak_bits": 16}
    agreements, errors = [], []
    for seed in range(8):
        network, _ = random_convolutional(seed)
        images = random_images(np.random.default_rng(seed + 100), 200, (2, 9, 8))
        integers = to_integers(capture(network), **precise)
        with torch.no_grad():
            logits = network(images)
        result = GoldenModel(integers).run(images)
        agreements.append(result.predictions == logits.argmax(dim=1))
        errors.append((result.logits * integers.logit_scale - logits).abs().amax(dim=1))
    assert torch.cat(agreements).double().mean() >= 0.99
    assert torch.cat(errors).median() < 2e-3


class SmallResNet(nn.Module):
    """For digits of 8 x 8: a stem, a residual block, pooling, a convolution, and a global average."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(QuantConv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), WindowLMHT(2, 2))
        self.first = nn.Sequential(QuantConv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12), WindowLMHT(2, 2))
        self.second = nn.Sequential(QuantConv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12))
        self.neuron, self.pool = WindowLMHT(2, 2), nn.AvgPool2d(2)
        self.last = nn.Sequential(QuantConv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), WindowLMHT(2, 2))
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), QuantLinear(24, 10, bias=True))

    def forward(self, image):
        spikes = self.stem(image)
        spikes = self.pool(self.neuron(self.second(self.first(spikes)) + spikes))
        return self.classifier(self.last(spikes))


def test_digits_class_agrees_with_the_float_network():
    data = load_dataset("digits")
    torch.manual_seed(0)
    network = SpikingNetwork(SmallResNet(), input_shape=(1, 8, 8), classes=10)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(8):
        for indices in torch.randperm(len(data.train_images)).split(128):
            optimizer.zero_grad()
            logits = network(data.train_images[indices])
            F.cross_entropy(logits, data.train_labels[indices]).backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        expected = network(data.test_images).argmax(dim=1)
    integers = to_integers(capture(network), fraction_bits=12)
    found = GoldenModel(integers).run(data.test_images).predictions
    assert (expected == data.test_labels).double().mean() > 0.9
    assert (found == expected).double().mean() >= 0.99


def test_fine_biases_are_what_the_agreement_needs():
    """Biases in whole steps of the weights move far more spikes than all other rounding."""
    moved = {}
    for fine in (False, True):
        differences = []
        for seed in range(8):
            network, images = random_convolutional(seed)
            folded = balance_scales(capture(network))
            if not fine:
                folded = replace(
                    folded, layers=tuple(in_whole_steps(folded, layer) for layer in folded.layers)
                )
            integers = quantize(folded, name="n")
            _, _, logits = observe(network, images)
            result = GoldenModel(integers).run(images)
            differences.append((result.logits * integers.logit_scale - logits).abs().mean())
        moved[fine] = float(torch.stack(differences).mean())
    assert moved[True] < 0.6 * moved[False]


def in_whole_steps(folded, layer):
    """The layer with biases that are multiples of a step of its weights."""
    step = layer.projections[0].scale * folded.input_value(layer.projections[0])
    return replace(layer, bias=np.rint(layer.bias / step) * step)
