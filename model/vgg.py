"""VGG networks: 3x3 convolutions and 2x2 average pooling (LM-HT paper, experiments)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .build_config import BuildConfig

__all__ = ["build_vgg"]

STAGES = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}
"""Channels of the convolutions of every stage, by the number of layers with weights in the original network."""


def build_vgg(config: BuildConfig, depth: int) -> nn.Module:
    """VGG with batch norm, average pooling after every stage and a single linear layer as its classifier.

    The two hidden linear layers of the original, of 4096 neurons each, are left out: on images of 32x32 pixels
    they would hold most of the weights.

    Parameters
    ----------
    config : BuildConfig
        Shape and neurons.
    depth : {11, 13, 16}
        Which network.

    Raises
    ------
    ValueError
        If the image is smaller than 32x32, which five poolings would reduce to nothing.
    """
    channels, height, width = config.input_shape
    if min(height, width) < 32:
        raise ValueError(f"input_shape must be at least 32x32 pixels for vgg{depth}, not {height}x{width}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, convolutions in enumerate(STAGES[depth], start=1):
        for place, full in enumerate(convolutions, start=1):
            wide, name = config.scale(full), f"{stage}_{place}"
            layers[f"conv{name}"] = nn.Conv2d(channels, wide, 3, padding=1, bias=False)
            layers[f"norm{name}"] = nn.BatchNorm2d(wide)
            layers[f"neuron{name}"] = config.make_neuron()
            channels = wide
        layers[f"pool{stage}"] = nn.AvgPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(channels * (height // 32) * (width // 32), config.classes)
    return nn.Sequential(layers)
