"""Pass 4: the narrowest widths in which nothing can overflow, from interval bounds over the real weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from amaranth.utils import bits_for
from numpy.typing import NDArray

from lmht.gen.integer import IntegerLayer, IntegerNetwork
from lmht.rtl.neuron_parameters import NeuronParameters

__all__ = ["Interval", "bound_accumulators", "bound_currents", "bound_membranes", "choose_widths"]

# Python integers: a mixed sum may need more than 64 bits.
BigArray = NDArray[np.object_]


@dataclass(frozen=True)
class Interval:
    """Elementwise closed intervals ``low … high`` of exact Python integers."""

    low: BigArray
    high: BigArray

    def bits(self) -> int:
        """Width in two's complement that holds every interval."""
        low, high = int(self.low.min()), int(self.high.max())
        return max(high.bit_length() if high > 0 else 0, (~low).bit_length() if low < 0 else 0) + 1

    def union(self, other: Interval) -> Interval:
        """Smallest intervals that hold both."""
        return Interval(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def with_zero(self) -> Interval:
        """Smallest intervals that also hold 0."""
        return Interval(np.minimum(self.low, 0), np.maximum(self.high, 0))


def bound_accumulators(layer: IntegerLayer) -> Interval:
    """Ranges over all inputs of ``A[n]``; shape (N,).

    They are exact for a pixel whose kernels reach no padding; one that does has fewer summands of each sign. They
    always hold 0 and every partial sum, in whatever order the events of the projections arrive.
    """
    lowest = highest = np.zeros(layer.channels, dtype=object)
    for projection in layer.projections:
        factor = projection.pooled_max_level << projection.shift
        taps = (1, 2, 3)
        lowest = lowest + np.minimum(projection.weights, 0).sum(axis=taps).astype(object) * factor
        highest = highest + np.maximum(projection.weights, 0).sum(axis=taps).astype(object) * factor
    return Interval(lowest, highest)


def bound_currents(layer: IntegerLayer, accumulator: Interval) -> tuple[Interval, Interval]:
    """Ranges of shape (T, N): of every partial ``sum_u G A`` with its rounding term, and of ``J`` with its bias.

    The sum has one product if the mixing is diagonal.
    """
    gains = layer.multipliers.astype(object)
    products = Interval(gains * accumulator.low, gains * accumulator.high)
    partial = products.with_zero()
    rounding = 1 << (layer.shift - 1) if layer.shift else 0
    mixed = Interval(partial.low.sum(axis=1), partial.high.sum(axis=1) + rounding)
    low, high = products.low.sum(axis=1), products.high.sum(axis=1)
    bias = layer.bias.astype(object)
    return mixed, Interval(
        ((low + rounding) >> layer.shift) + bias, ((high + rounding) >> layer.shift) + bias
    )


def bound_membranes(layer: IntegerLayer, current: Interval) -> Interval:
    """Range of what a membrane register holds in a window, ``v[-1]``, leaked ``v``, ``m``, ``v``; shape (N,).

    Step by step through NUMERICS.md 3 to 5. All of it is monotonic except the soft reset, whose extremes lie
    at the ends of the interval or at the edges of a step of the staircase.
    """
    if layer.levels is None:
        raise ValueError("a classifier has no membrane")
    one = 1 << layer.fraction_bits
    top = (layer.levels + 1) * one
    start = np.full(layer.channels, layer.initial_membrane, dtype=object)
    membrane = Interval(start, start)
    held = membrane
    for step in range(layer.steps):
        if layer.leak is not None:
            factor, rounding = int(layer.leak[step]), 1 << (layer.leak_bits - 1)
            membrane = Interval(
                (membrane.low * factor + rounding) >> layer.leak_bits,
                (membrane.high * factor + rounding) >> layer.leak_bits,
            )
            held = held.union(membrane)
        charged = Interval(membrane.low + current.low[step], membrane.high + current.high[step])
        membrane = _reset(charged, one, top)
        held = held.union(charged).union(membrane)
    return held


def _reset(charged: Interval, one: int, top: int) -> Interval:
    """Range of ``v = m - (clamp(m >> F, 0, L) << F)``.

    It is ``m`` below 0, ``m mod θ`` from 0 to `top` and ``m - L θ`` from there.
    """

    def value(m: BigArray) -> BigArray:
        fired = np.minimum(np.maximum(m // one, 0), top // one - 1)
        return m - fired * one

    low, high = value(charged.low), value(charged.high)
    # A wrap from θ - 1 to 0 inside the interval reaches both; wraps happen at θ, 2 θ, … L θ.
    first_wrap = np.maximum(-(-(charged.low + 1) // one), 1) * one
    wraps = (first_wrap <= charged.high) & (first_wrap <= top - one)
    return Interval(
        np.minimum(np.minimum(low, high), np.where(wraps, 0, low)),
        np.maximum(np.maximum(low, high), np.where(wraps, one - 1, high)),
    )


def choose_widths(network: IntegerNetwork) -> tuple[NeuronParameters, ...]:
    """Widths of every layer.

    ``AB`` holds every partial sum of an accumulation; ``mix_bits`` every partial sum of the mix and its rounding
    term; ``bias_bits`` ``B``; ``current_bits`` ``J``; ``MB`` all of :func:`bound_membranes`, and
    at least the levels above ``F`` with their sign, so that the spike is always a slice of the register.

    Raises
    ------
    ValueError
        If a width lies outside the range of :class:`~lmht.rtl.neuron_parameters.NeuronParameters`.
    """
    return tuple(_choose(index, layer) for index, layer in enumerate(network.layers))


def _choose(index: int, layer: IntegerLayer) -> NeuronParameters:
    accumulator = bound_accumulators(layer)
    mixed, current = bound_currents(layer, accumulator)
    bias = layer.bias.astype(object)
    membrane_bits = 1
    if layer.levels is not None:
        spike_bits = layer.fraction_bits + bits_for(layer.levels) + 1
        membrane_bits = max(bound_membranes(layer, current).bits(), spike_bits)
    try:
        return NeuronParameters(
            input_steps=layer.input_steps,
            steps=layer.steps,
            levels=layer.levels,
            diagonal=layer.diagonal,
            accumulator_bits=accumulator.bits(),
            multiplier_bits=layer.multiplier_bits,
            shift=layer.shift,
            mix_bits=mixed.bits(),
            bias_bits=Interval(bias, bias).bits(),
            current_bits=current.bits(),
            membrane_bits=membrane_bits,
            fraction_bits=layer.fraction_bits,
            leak=layer.leak is not None,
            leak_bits=layer.leak_bits,
        )
    except ValueError as error:
        raise ValueError(f"layer {index}: {error}") from None
