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


class Block(nn.Module):
    """A convolution with neurons, or two branches that are added in front of neurons."""

    def __init__(self, rng, channels, make_neuron):
        super().__init__()
        kind = rng.choice(["plain", "identity", "convolution", "spikes"])
        groups = int(rng.choice([1, channels if channels % 2 == 0 else 1, 1]))
        kernel = tuple(int(size) for size in rng.choice([1, 3, 5], 2))
        self.outputs = channels * int(rng.integers(1, 3)) if kind in ("plain", "convolution") else channels
        stride = int(rng.choice([1, 2])) if kind in ("plain", "convolution") else 1
        padding = (kernel[0] // 2, kernel[1] // 2)
        bits = int(rng.integers(2, 9))
        conv = QuantConv2d(
            channels,
            self.outputs,
            kernel,
            stride,
            padding,
            groups=groups,
            bias=bool(rng.integers(2)),
            weight_bits=bits,
        )
        norm = nn.BatchNorm2d(self.outputs) if rng.integers(4) else nn.Identity()
        self.body = nn.Sequential(conv, norm)
        if kind == "spikes":
            self.body.append(make_neuron())
        if kind == "convolution":
            short = QuantConv2d(channels, self.outputs, 1, stride, weight_bits=4)
            self.short = nn.Sequential(short, nn.BatchNorm2d(self.outputs))
        else:
            self.short = nn.Identity() if kind in ("identity", "spikes") else None
        self.neuron = make_neuron()

    def forward(self, spikes):
        current = self.body(spikes)
        return self.neuron(current if self.short is None else self.short(spikes) + current)


def random_module(rng, input_shape, classes):
    """Image, blocks with pooling between them, and a classifier; batch norms with statistics of random images."""
    steps, levels = int(rng.integers(1, 5)), int(rng.integers(1, 4))

    def make_neuron():
        neuron = WindowLMHT(levels, steps, float(rng.choice([0.5, 1.0])), float(rng.choice([0.0, 0.25])))
        nn.init.normal_(neuron.omega_logits)
        nn.init.constant_(neuron.leak_logit, float(rng.normal()))
        return neuron

    def make_pool(map_size):
        size = tuple(
            int(rng.integers(1, min(limit, length) + 1))
            for limit, length in zip((2, 3), map_size, strict=True)
        )
        return nn.MaxPool2d(size) if rng.integers(2) else nn.AvgPool2d(size)

    channels = int(rng.choice([2, 4, 6]))
    stem = QuantConv2d(input_shape[0], channels, 3, padding=1, weight_bits=int(rng.integers(2, 9)))
    parts = [stem, nn.BatchNorm2d(channels), make_neuron()]
    if rng.integers(3) == 0:
        parts.insert(0, nn.AvgPool2d(2))
    for _ in range(int(rng.integers(1, 4))):
        if rng.integers(2):
            parts.append(make_pool(shape_behind(parts, input_shape)[1:]))
        parts.append(Block(rng, channels, make_neuron))
        channels = parts[-1].outputs
    parts.append(nn.AdaptiveAvgPool2d(1) if rng.integers(2) else nn.Identity())
    parts.append(nn.Flatten())
    (features,) = shape_behind(parts, input_shape)
    if rng.integers(2):
        parts += [QuantLinear(features, 12), nn.BatchNorm1d(12), make_neuron()]
        features = 12
    return nn.Sequential(*parts, QuantLinear(features, classes, bias=True, weight_bits=8))


def shape_behind(parts, input_shape):
    value = torch.zeros(2, *input_shape)
    for part in parts:
        for module in part.modules():
            if isinstance(module, WindowLMHT):
                module.batch = 2
        value = part.eval()(value)
    return value.shape[1:]


def random_network(seed, input_shape=(2, 9, 8), classes=5):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = SpikingNetwork(
        random_module(rng, input_shape, classes), input_shape=input_shape, classes=classes
    )
    images = random_images(rng, 64, input_shape)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.weight.data *= torch.sign(torch.rand(len(module.weight)) - 0.2)
            nn.init.normal_(module.bias, 0.3, 0.5)
            module.momentum = None
    network.train()
    with torch.no_grad():
        for _ in range(4):
            network(images)
    return network.eval(), random_images(rng, 40, input_shape)


def to_integers(folded, **options):
    return quantize(balance_scales(folded), name="n", **options)


def random_images(rng, count, shape):
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return torch.from_numpy(images * (rng.random(images.shape) < 0.6))


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
    network, images = random_network(seed)
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
        network, images = random_network(seed)
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
    network, images = random_network(seed)
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
        if any(len(layer.projections) == 2 for layer in capture(random_network(seed)[0]).layers)
    )
    network, images = random_network(seed)
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
        network, _ = random_network(seed)
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
            network, images = random_network(seed)
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
