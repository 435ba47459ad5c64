"""Random networks in PyTorch, convolutional and fully connected, whose batch norms keep the neurons busy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from lmht.model import (
    ConvNetworkConfig,
    Network,
    NetworkConfig,
    QuantConv2d,
    QuantLinear,
    SpikingNetwork,
    TimeBatchNorm,
    WindowLMHT,
)
from lmht.model.coded_network import make_coded_network
from lmht.model.spike_fields import Coding, Readout

__all__ = ["random_convolutional", "random_fully_connected", "random_images"]

Shape = tuple[int, ...]


class _Block(nn.Module):
    """A convolution with neurons, or two branches that are added in front of neurons."""

    def __init__(
        self, rng: np.random.Generator, channels: int, make_neuron: Callable[[], WindowLMHT]
    ) -> None:
        super().__init__()
        kind = rng.choice(["plain", "identity", "convolution", "spikes"])
        groups = int(rng.choice([1, channels if channels % 2 == 0 else 1, 1]))
        rows, columns = (int(size) for size in rng.choice([1, 3, 5], 2))
        kernel = (rows, columns)
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
            self.short: nn.Module | None = nn.Sequential(short, nn.BatchNorm2d(self.outputs))
        else:
            self.short = nn.Identity() if kind in ("identity", "spikes") else None
        self.neuron = make_neuron()

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        current = self.body(spikes)
        result: torch.Tensor = self.neuron(current if self.short is None else self.short(spikes) + current)
        return result


def _random_module(
    rng: np.random.Generator, input_shape: tuple[int, int, int], classes: int, steps: int, levels: int
) -> nn.Module:
    """Image, blocks with pooling between them, and a classifier; batch norms with statistics of random images."""

    def make_neuron() -> WindowLMHT:
        neuron = WindowLMHT(levels, steps, float(rng.choice([0.5, 1.0])), float(rng.choice([0.0, 0.25])))
        nn.init.normal_(neuron.omega_logits)
        nn.init.constant_(neuron.leak_logit, float(rng.normal()))
        return neuron

    def make_pool(map_size: Shape) -> nn.Module:
        rows, columns = (
            int(rng.integers(1, min(limit, length) + 1))
            for limit, length in zip((2, 3), map_size, strict=True)
        )
        size = (rows, columns)
        return nn.MaxPool2d(size) if rng.integers(2) else nn.AvgPool2d(size)

    channels = int(rng.choice([2, 4, 6]))
    stem = QuantConv2d(input_shape[0], channels, 3, padding=1, weight_bits=int(rng.integers(2, 9)))
    parts: list[nn.Module] = [stem, nn.BatchNorm2d(channels), make_neuron()]
    if rng.integers(3) == 0:
        parts.insert(0, nn.AvgPool2d(2))
    for _ in range(int(rng.integers(1, 4))):
        if rng.integers(2):
            parts.append(make_pool(_shape_behind(parts, input_shape)[1:]))
        block = _Block(rng, channels, make_neuron)
        parts.append(block)
        channels = block.outputs
    parts.append(nn.AdaptiveAvgPool2d(1) if rng.integers(2) else nn.Identity())
    parts.append(nn.Flatten())
    (features,) = _shape_behind(parts, input_shape)
    if rng.integers(2):
        parts += [QuantLinear(features, 12), nn.BatchNorm1d(12), make_neuron()]
        features = 12
    return nn.Sequential(*parts, QuantLinear(features, classes, bias=True, weight_bits=8))


def _shape_behind(parts: list[Any], input_shape: Shape) -> Shape:
    value = torch.zeros(2, *input_shape)
    for part in parts:
        for module in part.modules():
            if isinstance(module, WindowLMHT):
                module.batch = 2
        value = part.eval()(value)
    return tuple(value.shape[1:])


def random_convolutional(
    seed: int,
    input_shape: tuple[int, int, int] = (2, 9, 8),
    classes: int = 5,
    *,
    coding: Coding = "direct",
    readout: Readout = "mean",
) -> tuple[SpikingNetwork, torch.Tensor]:
    """A convolutional network out of its seed, in evaluation mode, and 40 images for it."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    steps, levels = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    if coding == "bernoulli":
        steps = 1
    if readout == "spike-count":
        levels = 1
    module = _random_module(rng, input_shape, classes, steps, levels)
    config = ConvNetworkConfig(
        net="mnist-cnn",  # stands for the module
        input_shape=input_shape,
        classes=classes,
        levels=levels,
        steps=steps,
        coding=coding,
        readout=readout,
    )
    network = make_coded_network(module, config)
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


def random_images(rng: np.random.Generator, count: int, shape: Shape) -> torch.Tensor:
    """Images of bytes, 40 % of the pixels 0."""
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return torch.from_numpy(images * (rng.random(images.shape) < 0.6))


def random_fully_connected(
    seed: int, *, coding: Coding = "direct", readout: Readout = "mean"
) -> tuple[Network, torch.Tensor]:
    """A fully connected network out of its seed, in evaluation mode, and 40 images for it."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    steps = 1 if coding == "bernoulli" else int(rng.integers(1, 5))
    levels = 1 if readout == "spike-count" else int(rng.integers(1, 4))
    input_shape = (int(rng.integers(1, 3)), 5, 4)
    widths = [int(width) for width in rng.integers(6, 24, int(rng.integers(1, 4)))]
    inputs = int(np.prod(input_shape))
    options: dict[str, Any] = {
        "architecture": "-".join(map(str, [inputs, *widths, 5])),
        "input_shape": input_shape,
        "levels": levels,
        "steps": steps,
        "weight_bits": int(rng.integers(2, 9)),
        "mixing": str(rng.choice(["learned", "identity", "uniform"])),
        "leak": [1.0, "learned", 0.8][int(rng.integers(3))],
        "theta": float(rng.choice([0.5, 1.0])),
        "initial_membrane": float(rng.choice([0.0, 0.25])),
        "coding": coding,
        "readout": readout,
    }
    network = Network(NetworkConfig(**options))
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | TimeBatchNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0.3, 0.5)
    images = random_images(rng, 64, input_shape)
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(images)
    return network.eval(), random_images(rng, 40, input_shape)
