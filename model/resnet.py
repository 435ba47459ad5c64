"""Residual networks of basic blocks (LM-HT paper, experiments)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from .build_config import BuildConfig

__all__ = ["BasicBlock", "ResNet", "build_resnet"]


@dataclass(frozen=True)
class _Shape:
    """Channels of the first convolution; channels and blocks of every stage; neurons of a hidden linear layer."""

    stem: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    hidden: int | None = None


SHAPES = {
    "resnet18": _Shape(64, (64, 128, 256, 512), (2, 2, 2, 2)),
    # That of threshold-dependent batch norm (tdBN): wide, and two linear layers at its end.
    "resnet19": _Shape(128, (128, 256, 512), (3, 3, 2), hidden=256),
    # The LM-HT authors', whose first convolution is narrower.
    "resnet19-lmht": _Shape(64, (128, 256, 512), (3, 3, 2), hidden=256),
    "resnet20": _Shape(16, (16, 32, 64), (3, 3, 3)),
    "resnet34": _Shape(64, (64, 128, 256, 512), (3, 4, 6, 3)),
}
"""By name, with the number of layers with weights on the longest way."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut that is added to the second one's current, before its neurons.

    Parameters
    ----------
    config : BuildConfig
        Where the neurons come from.
    inputs, outputs : int
        Channels.
    stride : int
        Of the first convolution. Where the shape changes, the shortcut is a 1x1 convolution with batch norm.
    """

    def __init__(self, config: BuildConfig, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.neuron1 = config.make_neuron()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            parts = {
                "conv": nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                "norm": nn.BatchNorm2d(outputs),
            }
            self.shortcut = nn.Sequential(OrderedDict(parts))
        self.neuron2 = config.make_neuron()

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """(T B, inputs, H, W) to (T B, outputs, H / stride, W / stride), rounded up."""
        hidden = self.neuron1(self.norm1(self.conv1(spikes)))
        return self.neuron2(self.norm2(self.conv2(hidden)) + self.shortcut(spikes))


class ResNet(nn.Module):
    """Stem, stages of basic blocks, global average, and one or two linear layers.

    Every stage but the first halves height and width. The stem is a 3x3 convolution of stride 1.

    Parameters
    ----------
    config : BuildConfig
        Shape and neurons.
    name : {"resnet18", "resnet19", "resnet19-lmht", "resnet20", "resnet34"}
        Which network.
    """

    def __init__(self, config: BuildConfig, name: str) -> None:
        super().__init__()
        shape = SHAPES[name]
        channels = config.scale(shape.stem)
        self.conv = nn.Conv2d(config.input_shape[0], channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.neuron = config.make_neuron()
        self.stages = nn.Sequential()
        for stage, (full, count) in enumerate(zip(shape.channels, shape.blocks, strict=True), start=1):
            for place in range(1, count + 1):
                stride = 2 if stage > 1 and place == 1 else 1
                block = BasicBlock(config, channels, config.scale(full), stride)
                self.stages.add_module(f"block{stage}_{place}", block)
                channels = config.scale(full)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if shape.hidden is not None:
            parts["hidden"] = nn.Linear(channels, config.scale(shape.hidden))
            parts["neuron"] = config.make_neuron()
            channels = config.scale(shape.hidden)
        parts["linear"] = nn.Linear(channels, config.classes)
        self.classifier = nn.Sequential(parts)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Currents (B, C, H, W) of an image to (T B, classes)."""
        spikes = self.stages(self.neuron(self.norm(self.conv(image))))
        return self.classifier(self.flatten(self.pool(spikes)))


def build_resnet(config: BuildConfig, name: str) -> nn.Module:
    """:class:`ResNet` of that name."""
    return ResNet(config, name)
