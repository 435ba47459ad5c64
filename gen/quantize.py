"""Pass 3: from folded layers to the integers of NUMERICS.md, "From the trained network to the integers"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmht.gen.accumulator_unit import DEFAULT_GAIN_BITS, residual_shift, residual_weights
from lmht.gen.folded import FloatArray, FoldedLayer, FoldedNetwork, FoldedNeuron, FoldedProjection
from lmht.gen.integer import PIXEL_MAX, IntegerLayer, IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.model.integer_window import LEAK_BITS
from lmht.rtl.checks import check_range

__all__ = ["integer_projection", "largest_shift", "quantize"]

SHIFT_LIMIT = 63

WIDEST_MULTIPLIER = 24

Bits = int | Sequence[int]
"""Of all layers, or of each."""


def quantize(
    network: FoldedNetwork,
    *,
    name: str,
    fraction_bits: Bits = 8,
    multiplier_bits: Bits = 12,
    leak_bits: Bits = LEAK_BITS,
    gain_bits: Bits = DEFAULT_GAIN_BITS,
    meta: Mapping[str, Any] | None = None,
) -> IntegerNetwork:
    """Round biases, multipliers, leaks, initial membranes and the gains of residual branches.

    The weights are integers already. In a network of binary steps, membranes get ``ceil(log2 L)`` fraction bits more,
    so that the L-th part of a current is as exact as the whole.

    All rounding is half to even, in float64.

    Parameters
    ----------
    network : FoldedNetwork
        With balanced scales.
    name : str
        Name of the integer network.
    fraction_bits, multiplier_bits, leak_bits, gain_bits : int, or sequence of int
        ``F`` (0 to 24), ``GB`` (1 to 24), ``FL`` (1 to 16) and ``RB`` (1 to 20), of all layers or of each. ``GB`` of a
        layer with clamped channels grows by its :attr:`~lmht.gen.folded.FoldedLayer.headroom_bits`, and to what a shift
        of 0 needs, up to 24.
    meta : mapping, optional
        Stored with the network.

    Raises
    ------
    ValueError
        If a number does not fit; the message names layer, field, value and allowed range.
    """
    finer = 0 if network.expansion is None else network.expansion.finer_bits
    count = len(network.layers)
    fractions = _per_layer("fraction_bits", fraction_bits, 0, 24 - finer, count)
    multipliers = _per_layer("multiplier_bits", multiplier_bits, 1, WIDEST_MULTIPLIER, count)
    leaks = _per_layer("leak_bits", leak_bits, 1, 16, count)
    gains = _per_layer("gain_bits", gain_bits, 1, 20, count)
    layers = []
    logit_scale = 1.0
    for index, layer in enumerate(network.layers):
        place = f"layer {index} ({layer.name})" if layer.name else f"layer {index}"
        try:
            inputs = _quantize_inputs(network, layer, gains[index])
            widths: dict[str, Any] = {
                "fraction_bits": fractions[index] + finer,
                "multiplier_bits": min(WIDEST_MULTIPLIER, multipliers[index] + layer.headroom_bits),
                "leak_bits": leaks[index],
            }
            if layer.neuron is None:
                classifier, logit_scale = _quantize_classifier(layer.bias, inputs, widths)
                layers.append(classifier)
            else:
                layers.append(_quantize_hidden(layer.bias, layer.neuron, inputs, widths))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{place}: {error}") from None
    return IntegerNetwork(
        name=name,
        input_shape=network.input_shape,
        layers=tuple(layers),
        logit_scale=logit_scale,
        meta=meta or {},
    )


def _per_layer(name: str, bits: Bits, low: int, high: int, count: int) -> list[int]:
    found = [bits] * count if isinstance(bits, int) else list(bits)
    if len(found) != count:
        raise ValueError(f"{name} must be one number, or {count}, one for each layer, not {len(found)}")
    for value in found:
        check_range(name, value, low, high)
    return found


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


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """What feeds a layer: its projections, and the value of ``A = 1`` for every channel."""

    projections: tuple[IntegerProjection, ...]
    unit: FloatArray

    @property
    def steps(self) -> int:
        """``T_in``."""
        return self.projections[0].input_steps


def _quantize_inputs(network: FoldedNetwork, layer: FoldedLayer, gain_bits: int) -> _Inputs:
    """Projections in units of the first one's step, divided by a power of two where a residual branch needs that."""
    main, *residual = layer.projections
    step = main.scale * network.input_value(main)
    shift = 0
    branches = []
    for branch in residual:
        reached = branch.weights.any(axis=(1, 2, 3))
        ratio = np.where(reached, branch.scale * network.input_value(branch) / step, 0.0)
        shift = residual_shift(ratio, gain_bits, int(np.abs(branch.weights).max()))
        weights, weight_bits, own_shift = residual_weights(branch, ratio, shift)
        integers = {"weights": weights, "weight_bits": weight_bits, "shift": own_shift}
        branches.append(integer_projection(network, branch, **integers))
    return _Inputs(
        projections=(integer_projection(network, main, shift=shift), *branches),
        unit=np.ldexp(step, -shift),
    )


def integer_projection(
    network: FoldedNetwork, projection: FoldedProjection, **changes: Any
) -> IntegerProjection:
    """A projection with its integer weights as they were trained, and other fields in place of its own."""
    neuron = network.source_neuron(projection)
    steps, max_level = (1, PIXEL_MAX) if neuron is None else (neuron.steps, neuron.levels)
    fields: dict[str, Any] = {
        name: getattr(projection, name)
        for name in (
            "source",
            "input_shape",
            "weights",
            "weight_bits",
            "stride",
            "padding",
            "groups",
            "pooling",
        )
    }
    return IntegerProjection(**fields | {"input_steps": steps, "input_max_level": max_level} | changes)


def _quantize_bias(exact: FloatArray) -> NDArray[np.int64]:
    """``B`` from what it stands for, in its own unit."""
    bias = np.rint(exact)
    if not (np.abs(bias) < 2.0**47).all():
        worst = bias.flat[np.argmax(np.abs(bias))]
        raise ValueError(f"bias must be between {-(2**47)} and {2**47 - 1}, not {worst:g}")
    return bias.astype(np.int64)


def _quantize_classifier(
    bias: FloatArray, inputs: _Inputs, widths: dict[str, Any]
) -> tuple[IntegerLayer, float]:
    """The last layer, and the value of a logit of 1."""
    shift = largest_shift(inputs.unit, widths["multiplier_bits"], lowest=-1024, highest=1024)
    gains = np.rint(np.ldexp(inputs.unit, shift)).astype(np.int64)
    layer = IntegerLayer(
        projections=inputs.projections,
        bias=_quantize_bias(np.ldexp(inputs.steps * bias[None], shift)),
        multipliers=np.broadcast_to(gains, (1, inputs.steps, len(gains))),
        shift=0,
        levels=None,
        **widths,
    )
    return layer, math.ldexp(1.0, -shift) / inputs.steps


def _quantize_hidden(
    bias: FloatArray, neuron: FoldedNeuron, inputs: _Inputs, widths: dict[str, Any]
) -> IntegerLayer:
    fraction_bits, leak_bits = widths["fraction_bits"], widths["leak_bits"]
    # Rounded once, so that the parts of a row that is split into binary steps have the same sum.
    row_sums = np.array([[math.fsum(row)] for row in neuron.mixing.tolist()])
    # An image that is the same at every step is sent once: its column of Ω is the sum of the row.
    mixing = neuron.mixing if inputs.steps == neuron.steps else row_sums
    if mixing.shape[1] != inputs.steps:
        raise ValueError(f"input_steps must be 1 or {neuron.steps}, not {inputs.steps}")
    if (mixing < 0).any():
        raise ValueError(f"mixing must be at least 0, not {mixing.min():g}")
    if inputs.steps > 1 and np.array_equal(mixing, np.diag(np.diag(mixing))):
        mixing = np.diag(mixing)[:, None]
    gains = np.ldexp(mixing[:, :, None] * inputs.unit / neuron.theta, fraction_bits)
    # Where one step of the weights is worth many thresholds, the multipliers are as wide as a shift of 0 needs.
    needed = int(np.rint(gains.max())).bit_length()
    widths = widths | {"multiplier_bits": max(widths["multiplier_bits"], min(needed, WIDEST_MULTIPLIER))}
    shift = largest_shift(gains, widths["multiplier_bits"], lowest=0, highest=SHIFT_LIMIT)
    factors = np.rint(np.ldexp(neuron.leak, leak_bits)).astype(np.int64)
    return IntegerLayer(
        projections=inputs.projections,
        bias=_quantize_bias(np.ldexp(bias * row_sums / neuron.theta, fraction_bits)),
        multipliers=np.rint(np.ldexp(gains, shift)).astype(np.int64),
        shift=shift,
        levels=neuron.levels,
        leak=None if (factors == 2**leak_bits).all() else factors,
        initial_membrane=round(neuron.initial_membrane / neuron.theta * 2**fraction_bits),
        **widths,
    )
