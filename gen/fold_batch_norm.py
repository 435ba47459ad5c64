"""Pass 1, for a fully connected network: fold every batch norm into the scale, sign and bias of the layer before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import nn

from lmht.gen.capture_values import UnmappedError
from lmht.gen.folded import FloatArray, FoldedLayer, FoldedNetwork, FoldedNeuron, FoldedProjection
from lmht.gen.own_behaviour import check_no_global_hooks, check_own_behaviour
from lmht.gen.spike_interface import check_spike_interface, code_image, count_spikes
from lmht.model import LMHT, Layer, Network, QuantLinear, TimeBatchNorm
from lmht.rtl.projection import IMAGE

__all__ = ["float64", "fold_batch_norm", "fold_norm"]

_KINDS = (Network, Layer, QuantLinear, TimeBatchNorm, LMHT)


def fold_batch_norm(network: Network) -> FoldedNetwork:
    """Fold the batch norms, with their running statistics, of a network trained with integer weights.

    Every layer becomes the convolution whose kernel covers its whole input map. Constant-rate coding is a layer in
    front of them, and a spike count one behind.

    Raises
    ------
    ValueError
        If the network is not a spiking one, codes or reads out spikes in a way that the hardware does not have, a
        layer was trained without integer weights, a part has hooks or methods of its own, or a number is not finite.
    """
    _check_behaviour(network)
    if network.config.activation != "lmht":
        raise ValueError(
            f"activation must be lmht, not {network.config.activation}: "
            "`lmht convert` makes a spiking network of it"
        )
    check_spike_interface(network)
    layers = []
    input_shape = network.config.input_shape
    if isinstance(network.coding, LMHT):
        layers.append(code_image(network.coding, input_shape))
    for index, layer in enumerate(cast("Iterable[Layer]", network.layers)):
        if layer.linear.weight_bits is None:
            raise ValueError(
                f"layer {index}: weight_bits must be between 2 and 8, not None: train with integer weights"
            )
        integers, steps = layer.linear.integer_weight()
        weights = integers.cpu().numpy().astype(np.int64)
        projection = FoldedProjection(
            source=len(layers) - 1 if layers else IMAGE,
            input_shape=input_shape,
            weights=weights.reshape(len(weights), *input_shape),
            scale=float64(steps),
            weight_bits=layer.linear.weight_bits,
        )
        bias = np.zeros(len(weights)) if layer.linear.bias is None else float64(layer.linear.bias)
        try:
            neuron = None if layer.neuron is None else FoldedNeuron.of(layer.neuron)
        except (TypeError, ValueError) as error:
            raise ValueError(f"layer {index}: {error}") from None
        folded = FoldedLayer(projections=(projection,), bias=bias, neuron=neuron)
        if layer.norm is not None:
            folded = fold_norm(folded, layer.norm)
        if not (np.isfinite(folded.projections[0].scale).all() and np.isfinite(folded.bias).all()):
            raise ValueError(f"layer {index}: weights and batch norm must be finite")
        layers.append(folded)
        input_shape = (len(weights), 1, 1)
    if layers[-1].neuron is not None:
        layers.append(count_spikes(len(layers) - 1, input_shape[0]))
    return FoldedNetwork(input_shape=network.config.input_shape, layers=tuple(layers))


def _check_behaviour(network: Network) -> None:
    where = "network"
    try:
        check_no_global_hooks()
        for name, part in network.named_modules():
            where = f"{name or where} ({type(part).__name__})"
            kind = next((kind for kind in type(part).__mro__ if kind in _KINDS), type(part))
            check_own_behaviour(part, kind)
    except UnmappedError as refusal:
        raise ValueError(f"{where}: {refusal}") from None


def fold_norm(layer: FoldedLayer, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> FoldedLayer:
    """Fold a batch norm, with its running statistics, into the layer whose currents it takes.

    With ``g = γ / sqrt(variance + ε)``, the channel ``g (s_w sum_j w x + bias - mean) + β`` becomes ``scale = s_w
    |g|``, ``weights = sign(g) w`` and ``bias = (bias - mean) g + β``, in float64. The integers keep their
    magnitudes: they are those that were trained. A channel with ``γ = 0`` has scale 0.
    """
    deviation = np.sqrt(float64(norm.running_var) + norm.eps)
    gain = 1 / deviation if norm.weight is None else float64(norm.weight) / deviation
    bias = (layer.bias - float64(norm.running_mean)) * gain
    return replace(
        layer,
        projections=tuple(_scaled(projection, gain) for projection in layer.projections),
        bias=bias if norm.bias is None else bias + float64(norm.bias),
    )


def _scaled(projection: FoldedProjection, gain: FloatArray) -> FoldedProjection:
    signs = np.where(gain < 0, -1, 1)[:, None, None, None]
    return replace(projection, scale=projection.scale * np.abs(gain), weights=projection.weights * signs)


def float64(tensor: torch.Tensor | None) -> FloatArray:
    """The numbers of a tensor."""
    assert tensor is not None, "batch norm keeps running statistics"
    return tensor.detach().cpu().double().numpy()
