"""Pass 4: from folded layers to the integers of NUMERICS.md, "From the trained network to the integers"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmht.gen.fold_batch_norm import FloatArray, FoldedLayer, FoldedNetwork, FoldedNeuron
from lmht.gen.integer import PIXEL_MAX, IntegerLayer, IntegerNetwork
from lmht.rtl.checks import check_range

__all__ = ["largest_shift", "quantize"]

SHIFT_LIMIT = 63


def quantize(
    network: FoldedNetwork,
    *,
    name: str,
    fraction_bits: int = 8,
    multiplier_bits: int = 12,
    leak_bits: int = 8,
    meta: Mapping[str, Any] | None = None,
) -> IntegerNetwork:
    """Round biases, multipliers, leaks and initial membranes; the weights are integers already.

    All rounding is half to even, in float64.

    Parameters
    ----------
    network : FoldedNetwork
        In the hardware's input order.
    name : str
        Name of the integer network.
    fraction_bits, multiplier_bits, leak_bits : int
        ``F`` (0 to 24), ``GB`` (1 to 24) and ``FL`` (1 to 16) of every layer.
    meta : mapping, optional
        Stored with the network.

    Raises
    ------
    ValueError
        If a number does not fit; the message names layer, field, value and allowed range.
    """
    check_range("fraction_bits", fraction_bits, 0, 24)
    check_range("multiplier_bits", multiplier_bits, 1, 24)
    check_range("leak_bits", leak_bits, 1, 16)
    layers = []
    input_value, input_steps, input_max_level = 1 / PIXEL_MAX, 1, PIXEL_MAX
    logit_scale = 1.0
    for index, layer in enumerate(network.layers):
        common: dict[str, Any] = {
            "weights": layer.weights,
            "weight_bits": layer.weight_bits,
            "bias": _quantize_bias(layer, input_value, index),
            "fraction_bits": fraction_bits,
            "multiplier_bits": multiplier_bits,
            "leak_bits": leak_bits,
            "input_max_level": input_max_level,
        }
        # Value of A = 1, per channel.
        unit = layer.scale * input_value
        try:
            if layer.neuron is None:
                shift = largest_shift(unit, multiplier_bits, lowest=-1024, highest=1024)
                gains = np.rint(np.ldexp(unit, shift)).astype(np.int64)
                multipliers = np.broadcast_to(gains, (1, input_steps, len(gains)))
                layers.append(IntegerLayer(multipliers=multipliers, shift=0, levels=None, **common))
                logit_scale = math.ldexp(1.0, -shift) / input_steps
                break
            neuron = layer.neuron
            layers.append(_quantize_hidden(neuron, unit, input_steps, common))
        except (TypeError, ValueError) as error:
            raise ValueError(f"layer {index}: {error}") from None
        input_value, input_steps, input_max_level = neuron.theta, neuron.steps, neuron.levels
    return IntegerNetwork(
        name=name,
        input_shape=network.input_shape,
        layers=tuple(layers),
        logit_scale=logit_scale,
        meta=meta or {},
    )


def largest_shift(values: FloatArray, bits: int, *, lowest: int, highest: int) -> int:
    """Largest ``s`` in ``lowest … highest`` for which every ``round(values * 2^s)`` has at most `bits` bits.

    Raises
    ------
    ValueError
        If even `lowest` is too large.
    """
    peak = float(np.max(values))
    if peak <= 0:
        return highest if highest <= SHIFT_LIMIT else 0
    # frexp gives peak < 2^exponent; only the rounding up to 2^bits can cost one more.
    shift = bits - math.frexp(peak)[1]
    if np.rint(math.ldexp(peak, shift)) >= 2**bits:
        shift -= 1
    if shift < lowest:
        needed = int(np.rint(math.ldexp(peak, lowest))).bit_length()
        raise ValueError(f"multiplier_bits must be at least {needed} for its largest multiplier, not {bits}")
    return min(shift, highest)


def _quantize_bias(layer: FoldedLayer, input_value: float, index: int) -> NDArray[np.int64]:
    bias = np.rint(layer.bias / (layer.scale * input_value))
    if not (np.abs(bias) < 2.0**47).all():
        worst = bias[np.argmax(np.abs(bias))]
        raise ValueError(f"layer {index}: bias must be between {-(2**47)} and {2**47 - 1}, not {worst:g}")
    return bias.astype(np.int64)


def _quantize_hidden(
    neuron: FoldedNeuron, unit: FloatArray, input_steps: int, common: dict[str, Any]
) -> IntegerLayer:
    fraction_bits, leak_bits = common["fraction_bits"], common["leak_bits"]
    # An image that is the same at every step is sent once: its column of Ω is the sum of the row.
    mixing = neuron.mixing if input_steps == neuron.steps else neuron.mixing.sum(axis=1, keepdims=True)
    if mixing.shape[1] != input_steps:
        raise ValueError(f"input_steps must be 1 or {neuron.steps}, not {input_steps}")
    if (mixing < 0).any():
        raise ValueError(f"mixing must be at least 0, not {mixing.min():g}")
    gains = np.ldexp(mixing[:, :, None] * unit / neuron.theta, fraction_bits)
    shift = largest_shift(gains, common["multiplier_bits"], lowest=0, highest=SHIFT_LIMIT)
    factor = round(neuron.leak * 2**leak_bits)
    return IntegerLayer(
        multipliers=np.rint(np.ldexp(gains, shift)).astype(np.int64),
        shift=shift,
        levels=neuron.levels,
        leak=None if factor == 2**leak_bits else np.full(neuron.steps, factor, dtype=np.int64),
        initial_membrane=round(neuron.initial_membrane / neuron.theta * 2**fraction_bits),
        **common,
    )
