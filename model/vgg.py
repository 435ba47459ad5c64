"""VGG networks: 3x3 convolutions and 2x2 average pooling (LM-HT paper, experiments)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from .build_config import BuildConfig

__all__ = ["build_vgg"]


@dataclass(frozen=True)
class _Shape:
    """Channels of the convolutions of every stage, how the last one is pooled, and neurons of hidden linear layers.

    Convolutions with a bias before their batch norm, as some published counts of weights include.
    """

    stages: tuple[tuple[int, ...], ...]
    global_average: bool = False
    hidden: tuple[int, ...] = ()
    bias: bool = False


_STAGES_16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SHAPES = {
    "vgg11": _Shape(((64,), (128,), (256, 256), (512, 512), (512, 512))),
    "vgg13": _Shape(((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))),
    "vgg16": _Shape(_STAGES_16),
    # The LM-HT authors': VGG-13 for Tiny ImageNet, VGG-16 for hybrid training on CIFAR-100.
    "vgg13-lmht": _Shape(
        ((64, 64), (128, 128), (256, 256), (512, 512, 512), (512,)), global_average=True, bias=True
    ),
    "vgg16-lmht": _Shape(_STAGES_16, hidden=(4096, 4096), bias=True),
}
"""By name."""


def build_vgg(config: BuildConfig, name: str) -> nn.Module:
    """VGG with batch norm after every convolution and average pooling after every stage.

    ``vgg11``, ``vgg13`` and ``vgg16`` end in a single linear layer. The two hidden linear layers of the original, of
    4096 neurons each, are left out: on images of 32x32 pixels they would hold most of the weights. ``vgg16-lmht`` has
    them, each followed by neurons without batch norm.

    Parameters
    ----------
    config : BuildConfig
        Shape and neurons.
    name : {"vgg11", "vgg13", "vgg16", "vgg13-lmht", "vgg16-lmht"}
        Which network.

    Raises
    ------
    ValueError
        If the image is smaller than 32x32, which five poolings would reduce to nothing; 16x16 for ``vgg13-lmht``,
        whose fifth pooling is the average over the whole map.
    """
    shape = SHAPES[name]
    channels, height, width = config.input_shape
    factor = 2 ** (len(shape.stages) - shape.global_average)
    if min(height, width) < factor:
        raise ValueError(
            f"input_shape must be at least {factor}x{factor} pixels for {name}, not {height}x{width}"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, convolutions in enumerate(shape.stages, start=1):
        for place, full in enumerate(convolutions, start=1):
            wide, label = config.scale(full), f"{stage}_{place}"
            layers[f"conv{label}"] = nn.Conv2d(channels, wide, 3, padding=1, bias=shape.bias)
            layers[f"norm{label}"] = nn.BatchNorm2d(wide)
            layers[f"neuron{label}"] = config.make_neuron()
            channels = wide
        layers[f"pool{stage}"] = nn.AvgPool2d(2)
    if shape.global_average:
        layers[f"pool{len(shape.stages)}"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    inputs = channels if shape.global_average else channels * (height // factor) * (width // factor)
    for place, full in enumerate(shape.hidden, start=1):
        wide = config.scale(full)
        layers[f"hidden{place}"] = nn.Linear(inputs, wide)
        layers[f"neuron_hidden{place}"] = config.make_neuron()
        inputs = wide
    layers["classifier"] = nn.Linear(inputs, config.classes)
    return nn.Sequential(layers)
