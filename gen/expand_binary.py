"""Pass between capture and quantization, on demand: layers of L levels and T steps as L T binary steps (MODEL.md)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lmht.gen.folded import BinaryExpansion, FoldedLayer, FoldedNetwork, FoldedNeuron
from lmht.rtl.checks import STEPS_LIMIT
from lmht.rtl.projection import IMAGE

__all__ = ["expand_binary"]


def expand_binary(network: FoldedNetwork) -> FoldedNetwork:
    """Expand the neurons of L levels and T steps into neurons of one level and L T steps.

    Of what every window of a layer receives, each of its L steps gets: spikes as they come, and the L-th part of what
    is constant, the bias and the image. With ``t'`` and ``u'`` counting binary steps from 0, a layer has::

        Ω'[t', u'] = Ω[t' // L, u' // L] / L
        λ'[t'] = λ at the first step of a window, 1 elsewhere

    and a classifier has L times the scale, since its mean goes over L times the steps. The network is the same
    wherever Lemma 4.1 applies (:func:`lmht.model.check_expansion` counts where it does not), also its
    integers if L is a power of two and nothing leaks.

    Parameters
    ----------
    network : FoldedNetwork
        With neurons of the same L and T in all hidden layers.

    Raises
    ------
    ValueError
        If it has no neurons, layers of different L or T, more than 32 binary steps, or max pooling with L > 1: the
        largest number of spikes of a window is not the number of steps in which some neuron spikes.
    """
    hidden = [layer.neuron for layer in network.layers if layer.neuron is not None]
    if not hidden:
        raise ValueError("a network must have neurons for binary expansion; this one has a classifier alone")
    found = sorted({(neuron.levels, neuron.steps) for neuron in hidden})
    if len(found) > 1:
        listed = " and ".join(f"L = {levels}, T = {steps}" for levels, steps in found)
        raise ValueError(
            f"levels and steps must be the same in all layers for binary expansion, not {listed}"
        )
    ((levels, steps),) = found
    if levels * steps > STEPS_LIMIT:
        raise ValueError(
            f"levels x steps must be between 1 and {STEPS_LIMIT} for binary expansion, "
            f"not {levels} x {steps} = {levels * steps}"
        )
    poolings = [projection.pooling for layer in network.layers for projection in layer.projections]
    if levels > 1 and any(pooling is not None and pooling.kind == "max" for pooling in poolings):
        raise ValueError(
            f"levels must be 1 for binary expansion of a network with max pooling, not {levels}: "
            "the maximum of levels is not that of binary steps"
        )
    return replace(
        network,
        layers=tuple(_expand_layer(layer, levels) for layer in network.layers),
        expansion=BinaryExpansion(levels=levels, steps=steps),
    )


def _expand_layer(layer: FoldedLayer, levels: int) -> FoldedLayer:
    if layer.neuron is None:
        # L times the scale, and the bias as it is, are the mean of the windows' sums but for the factor of the logits.
        main, *others = layer.projections
        return replace(layer, projections=(replace(main, scale=main.scale * levels), *others))
    neuron = _expand_neuron(layer.neuron)
    if layer.projections[0].source == IMAGE:
        # The current of the image comes whole, at a step that counts for all: the neurons take the L-th part.
        return replace(layer, neuron=replace(neuron, mixing=neuron.mixing / levels))
    return replace(layer, bias=layer.bias / levels, neuron=neuron)


def _expand_neuron(neuron: FoldedNeuron) -> FoldedNeuron:
    levels, steps = neuron.levels, neuron.steps
    leak = np.ones((steps, levels))
    leak[:, 0] = neuron.leak
    return replace(
        neuron,
        levels=1,
        steps=levels * steps,
        mixing=np.kron(neuron.mixing, np.ones((levels, levels))) / levels,
        leak=leak.ravel(),
    )
