"""A network of one's own: `lmht train --net examples/own_network.py:build --out runs/own`.

The function `build` is told the shape of the images, the number of classes and the settings of the command line, and
returns an ordinary PyTorch module. Its convolutions and linear layers become quantized ones.
"""

from torch import nn


class Block(nn.Module):
    """Depthwise and pointwise convolution with a shortcut around them, added in front of the last neurons."""

    def __init__(self, channels, make_neuron):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.neuron1 = make_neuron()
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.neuron2 = make_neuron()

    def forward(self, spikes):
        hidden = self.neuron1(self.norm1(self.depthwise(spikes)))
        return self.neuron2(self.norm2(self.pointwise(hidden)) + spikes)


def build(config):
    """Stem, block, pooling, classifier."""
    channels, height, width = config.input_shape
    wide = config.scale(16)
    return nn.Sequential(
        nn.Conv2d(channels, wide, 3, padding=1, bias=False),
        nn.BatchNorm2d(wide),
        config.make_neuron(),
        Block(wide, config.make_neuron),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(wide * (height // 2) * (width // 2), config.classes),
    )
