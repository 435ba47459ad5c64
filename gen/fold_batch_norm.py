"""Pass 1: fold every batch norm into the scale, the sign and the bias of the linear layer before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from lmht.model import LMHT, Layer, Network

__all__ = ["FoldedLayer", "FoldedNetwork", "FoldedNeuron", "fold_batch_norm"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedNeuron:
    """The neurons of a layer as trained (MODEL.md): L, T, θ, ``v[-1]``, Ω of shape (T, T) and λ."""

    levels: int
    steps: int
    theta: float
    initial_membrane: float
    mixing: FloatArray
    leak: float


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedLayer:
    """A linear layer without batch norm: ``current[n] = scale[n] * sum_j weights[n, j] x[j] + bias[n]``.

    Parameters
    ----------
    weights : numpy.ndarray of int64, shape (N, J)
        Signed integers of `weight_bits` bits.
    scale : numpy.ndarray of float64, shape (N,)
        Value of one integer step, at least 0.
    bias : numpy.ndarray of float64, shape (N,)
        Added at every step.
    weight_bits : int
    neuron : FoldedNeuron or None
        None in the classifier.
    """

    weights: NDArray[np.int64]
    scale: FloatArray
    bias: FloatArray
    weight_bits: int
    neuron: FoldedNeuron | None


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedNetwork:
    """Layers from the image to the classes; `input_shape` is (channels, height, width)."""

    input_shape: tuple[int, int, int]
    layers: tuple[FoldedLayer, ...]


def fold_batch_norm(network: Network) -> FoldedNetwork:
    """Fold the batch norms, with their running statistics, of a network trained with integer weights.

    With ``g = γ / sqrt(variance + ε)``, the channel ``g (s_w sum_j w x - mean) + β`` becomes ``scale = s_w
    |g|``, ``weights = sign(g) w`` and ``bias = β - mean g`` (plus the linear layer's own bias times ``g``),
    in float64. The integers keep their magnitudes: they are those that were trained. A channel with ``γ = 0``
    has scale 0.

    Raises
    ------
    ValueError
        If the network is not a spiking one, a layer was trained without integer weights, or a number is
        not finite.
    """
    if network.config.activation != "lmht":
        raise ValueError(
            f"activation must be lmht, not {network.config.activation}: "
            "`lmht convert` makes a spiking network of it"
        )
    layers = []
    for index, layer in enumerate(cast("Iterable[Layer]", network.layers)):
        if layer.linear.weight_bits is None:
            raise ValueError(
                f"layer {index}: weight_bits must be between 2 and 8, not None: train with integer weights"
            )
        integers, steps = layer.linear.integer_weight()
        weights = integers.cpu().numpy().astype(np.int64)
        scale = _float64(steps)
        bias = np.zeros(len(weights)) if layer.linear.bias is None else _float64(layer.linear.bias)
        if layer.norm is not None:
            gain = _float64(layer.norm.weight) / np.sqrt(_float64(layer.norm.running_var) + layer.norm.eps)
            bias = (bias - _float64(layer.norm.running_mean)) * gain + _float64(layer.norm.bias)
            scale = scale * np.abs(gain)
            weights = weights * np.where(gain < 0, -1, 1)[:, None]
        if not (np.isfinite(scale).all() and np.isfinite(bias).all()):
            raise ValueError(f"layer {index}: weights and batch norm must be finite")
        layers.append(
            FoldedLayer(
                weights=weights,
                scale=scale,
                bias=bias,
                weight_bits=layer.linear.weight_bits,
                neuron=None if layer.neuron is None else _describe(layer.neuron),
            )
        )
    return FoldedNetwork(input_shape=network.config.input_shape, layers=tuple(layers))


def _float64(tensor: torch.Tensor | None) -> FloatArray:
    assert tensor is not None, "batch norm keeps running statistics"
    return tensor.detach().cpu().double().numpy()


def _describe(neuron: LMHT) -> FoldedNeuron:
    return FoldedNeuron(
        levels=neuron.levels,
        steps=neuron.steps,
        theta=neuron.theta,
        initial_membrane=neuron.initial_membrane,
        mixing=_float64(neuron.mixing_matrix()),
        leak=float(_float64(neuron.leak())),
    )
