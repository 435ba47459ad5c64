"""What stands before the first and behind the last trained layer where spikes enter or leave a network (MODEL.md)."""

from __future__ import annotations

import numpy as np

from lmht.gen.folded import FoldedLayer, FoldedNeuron, FoldedProjection
from lmht.model import LMHT, Network, SpikingNetwork
from lmht.model.coding import uses_random_coding
from lmht.rtl.projection import IMAGE

__all__ = ["check_spike_interface", "code_image", "count_spikes"]

Shape = tuple[int, int, int]

_READOUTS = ("mean", "spike-count")


def check_spike_interface(network: Network | SpikingNetwork) -> None:
    """Refuse codings and read-outs that the hardware does not have.

    It takes one image for a window, so that random spikes would have to be drawn inside and further frames have no
    way in; and its classifier adds up all steps.

    Raises
    ------
    ValueError
        The message names the field.
    """
    frames = network.config.coding == "frames" if isinstance(network, Network) else network.frames
    if frames or uses_random_coding(network):
        coding = "frames" if frames else "bernoulli"
        raise ValueError(f"coding must be direct or constant for hardware so far, not {coding}")
    readout = network.config.readout if isinstance(network, Network) else network.readout
    if readout not in _READOUTS:
        raise ValueError(f"readout must be {' or '.join(_READOUTS)} for hardware so far, not {readout}")


def code_image(neuron: LMHT, input_shape: Shape) -> FoldedLayer:
    """Neurons that are each driven by one pixel: constant-rate coding as a layer of its own."""
    channels = input_shape[0]
    projection = FoldedProjection(
        source=IMAGE,
        input_shape=input_shape,
        weights=np.ones((channels, 1, 1, 1), dtype=np.int64),
        scale=np.ones(channels),
        weight_bits=2,
        groups=channels,
    )
    folded = FoldedNeuron.of(neuron)
    return FoldedLayer(projections=(projection,), bias=np.zeros(channels), neuron=folded, name="coding")


def count_spikes(source: int, classes: int) -> FoldedLayer:
    """Classifier that adds up the spikes of output neurons: a weight of 1 from each to its own class."""
    projection = FoldedProjection(
        source=source,
        input_shape=(classes, 1, 1),
        weights=np.eye(classes, dtype=np.int64).reshape(classes, classes, 1, 1),
        scale=np.ones(classes),
        weight_bits=2,
    )
    return FoldedLayer(projections=(projection,), bias=np.zeros(classes), neuron=None, name="spike count")
