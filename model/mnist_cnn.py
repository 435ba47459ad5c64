"""Small convolutional network for MNIST."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .build_config import BuildConfig

__all__ = ["build_mnist_cnn"]


def build_mnist_cnn(config: BuildConfig) -> nn.Module:
    """Two 3x3 convolutions of 16 and 32 channels, each with batch norm, neurons and 2x2 average pooling.

    Raises
    ------
    ValueError
        If the image is smaller than 4x4.
    """
    channels, height, width = config.input_shape
    if min(height, width) < 4:
        raise ValueError(f"input_shape must be at least 4x4 pixels for mnist-cnn, not {height}x{width}")
    first, second = config.scale(16), config.scale(32)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, first, 3, padding=1, bias=False),
            norm1=nn.BatchNorm2d(first),
            neuron1=config.make_neuron(),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(first, second, 3, padding=1, bias=False),
            norm2=nn.BatchNorm2d(second),
            neuron2=config.make_neuron(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            classifier=nn.Linear(second * (height // 2 // 2) * (width // 2 // 2), config.classes),
        )
    )
