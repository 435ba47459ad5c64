"""What stands before the first and behind the last trained layer where spikes enter or leave a network (MODEL.md)."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from lmht.gen.folded import FoldedLayer, FoldedNeuron, FoldedProjection
from lmht.model import LMHT, Network, SpikingNetwork
from lmht.model.coding import BernoulliCoding, uses_random_coding
from lmht.model.evaluation import BATCH_SIZE, EVALUATION_SEED
from lmht.model.tracing import wrapped_by
from lmht.rtl.projection import IMAGE

__all__ = ["check_spike_interface", "code_image", "count_spikes", "draw_frames", "take_drawn_spikes"]

Shape = tuple[int, int, int]

_READOUTS = ("mean", "spike-count")


def check_spike_interface(network: Network | SpikingNetwork) -> None:
    """Refuse codings and read-outs that the hardware does not have.

    It takes one image for a window: random spikes of one step are drawn outside (:func:`draw_frames`), those of further
    steps, and further frames, have no way in. Its classifier adds up all steps.

    Raises
    ------
    ValueError
        The message names the field. Also if it is no network, such as a compiled or data-parallel one.
    """
    if not isinstance(network, Network | SpikingNetwork):
        name = wrapped_by(network) if isinstance(network, nn.Module) else None
        hint = "" if name is None else f": it only runs another module; use that itself, its .{name}"
        raise ValueError(f"network must be a Network or SpikingNetwork, not {type(network).__name__}{hint}")
    frames = network.config.coding == "frames" if isinstance(network, Network) else network.frames
    if frames:
        raise ValueError(
            "coding must be direct, constant, bernoulli or mean-frames for hardware so far, not frames"
        )
    steps = network.config.steps if isinstance(network, Network) else network.steps
    if uses_random_coding(network) and steps != 1:
        raise ValueError(f"steps must be 1 with coding bernoulli for hardware so far, not {steps}")
    readout = network.config.readout if isinstance(network, Network) else network.readout
    if readout not in _READOUTS:
        raise ValueError(f"readout must be {' or '.join(_READOUTS)} for hardware so far, not {readout}")


def take_drawn_spikes(network: Network | SpikingNetwork) -> Network | SpikingNetwork:
    """The network whose input is the spikes themselves, if it draws them: a copy without its Bernoulli coding."""
    if not uses_random_coding(network):
        return network
    copied = copy.deepcopy(network)
    if isinstance(copied, Network):
        copied.coding = None
        return copied
    for parent in copied.module.modules():
        for name, part in parent.named_children():
            if isinstance(part, BernoulliCoding):
                setattr(parent, name, nn.Identity())
    return copied


def draw_frames(images: torch.Tensor, coding: str, seed: int = EVALUATION_SEED) -> torch.Tensor:
    """Images as hardware takes them: with Bernoulli coding a frame of random spikes, 0 or 255, for each.

    Parameters
    ----------
    images : torch.Tensor of uint8, shape (N, C, H, W)
        Grey levels.
    coding : str
        Of the network's configuration.
    seed : int
        Of the spikes; by default they are those of :func:`lmht.model.evaluate` for the same images.

    Returns
    -------
    torch.Tensor of uint8, shape (N, C, H, W)
        The images themselves with any other coding.
    """
    if coding != "bernoulli":
        return images
    spikes = BernoulliCoding(1)
    spikes.restart(seed)
    return torch.cat([(spikes(part / 255) * 255).to(torch.uint8) for part in images.split(BATCH_SIZE)])


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
