"""Convolutional network with max pooling: 12C5-P2-64C5-P2-512-10 on MNIST."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .build_config import BuildConfig

__all__ = ["build_lenet"]


def build_lenet(config: BuildConfig) -> nn.Module:
    """Two 5x5 convolutions of 12 and 64 channels without padding, each with 2x2 max pooling of spikes, and 512 neurons.

    Every layer but the last has a batch norm.

    Raises
    ------
    ValueError
        If the image is smaller than 16x16.
    """
    channels, height, width = config.input_shape
    if min(height, width) < 16:
        raise ValueError(f"input_shape must be at least 16x16 pixels for lenet, not {height}x{width}")
    first, second, hidden = config.scale(12), config.scale(64), config.scale(512)
    rows, columns = (((size - 4) // 2 - 4) // 2 for size in (height, width))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, first, 5, bias=False),
            norm1=nn.BatchNorm2d(first),
            neuron1=config.make_neuron(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 5, bias=False),
            norm2=nn.BatchNorm2d(second),
            neuron2=config.make_neuron(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            linear3=nn.Linear(second * rows * columns, hidden, bias=False),
            norm3=nn.BatchNorm1d(hidden),
            neuron3=config.make_neuron(),
            classifier=nn.Linear(hidden, config.classes),
        )
    )
