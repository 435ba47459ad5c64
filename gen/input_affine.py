"""Normalization of the image in front of the first convolution: ``(x - mean) / std`` of every channel.

``conv(W, a x + d)`` with zero padding is ``conv(W a, x) + conv(W d, 1)``, where 1 is a channel that is 1 inside the map
and, as every input, 0 outside. ``a`` goes into the weights (NUMERICS.md, "Normalized images"). Without padding the
second part is a bias. With padding it is the second projection, behind a layer of one neuron a pixel whose bias makes
it fire 1 in every window: no part of the hardware is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lmht.gen.capture_values import Currents, Spikes, UnmappedError, Value
from lmht.gen.folded import FloatArray, FoldedLayer, FoldedNetwork, FoldedNeuron, FoldedProjection
from lmht.gen.integer import PIXEL_MAX
from lmht.rtl.projection import IMAGE

__all__ = ["apply_constant", "fold_affine", "image_affine", "insert_constants", "normalize_image"]

CONSTANT = IMAGE - 1
"""Source that stands for a constant channel until :func:`insert_constants` makes its layer."""

GAIN_BITS = 10
"""Bits of the smallest gain where channels have different ones, at least: the others are rounded by at most 2^-11."""

CONSTANT_BITS = 4
"""A weight of the constant is off by at most ``2^-5`` of one grey level times one step of the trained weights."""

MULTIPLIER_WEIGHT, WIDEST_WEIGHT = 18, 24
"""Weights as wide as the multipliers of an FPGA, and the widest; gains take what the trained bits leave."""


def image_affine(value: Value) -> tuple[Spikes, FloatArray, FloatArray] | None:
    """The image of ``a x + d``, ``a`` and ``d`` of shape (C,); None if `value` is something else."""
    if isinstance(value, Spikes) or value.is_weighted or len(value.layer.projections) > 1:
        return None
    (part,) = value.layer.projections
    if part.source != IMAGE:
        return None
    image = Spikes(source=IMAGE, source_shape=part.input_shape, pooling=part.pooling, flat=value.flat)
    return image, part.scale * part.weights[:, 0, 0, 0], value.layer.bias


def apply_constant(value: Value, gain: object = 1.0, offset: object = 0.0) -> Currents:
    """``gain value + offset`` of the image, with numbers or tensors of one number or of (C, 1, 1).

    Raises
    ------
    UnmappedError
        If `value` is not the image, or a constant has another shape.
    """
    currents = value.as_currents() if isinstance(value, Spikes) and value.source == IMAGE else value
    if not isinstance(currents, Currents) or image_affine(currents) is None or currents.flat:
        raise UnmappedError(
            "constants are mapped on the image alone, before the first layer; put others into a bias or a batch norm"
        )
    channels = currents.shape[0]
    factor, term = (_per_channel(each, channels) for each in (gain, offset))
    if not (np.isfinite(factor).all() and np.isfinite(term).all()):
        raise UnmappedError("constants on the image must be finite")
    (part,) = currents.layer.projections
    signs = np.where(factor < 0, -1, 1)[:, None, None, None]
    scaled = replace(part, scale=part.scale * np.abs(factor), weights=part.weights * signs)
    layer = replace(currents.layer, projections=(scaled,), bias=currents.layer.bias * factor + term)
    return replace(currents, layer=layer)


def normalize_image(value: Value, mean: Sequence[float], std: Sequence[float]) -> Currents:
    """``(value - mean) / std`` of the image, with a number for every channel, or one for all."""
    centred, spread = (np.asarray(each, dtype=np.float64).reshape(-1, 1, 1) for each in (mean, std))
    if not (spread != 0).all():
        raise UnmappedError("std must not be 0")
    return apply_constant(value, gain=1 / spread, offset=-centred / spread)


def _per_channel(constant: object, channels: int) -> FloatArray:
    array: FloatArray = np.asarray(constant, dtype=np.float64)
    trimmed = array.reshape(array.shape[1:]) if array.ndim == 4 and len(array) == 1 else array
    if array.size == 1:
        return np.full(channels, array.reshape(()))
    if trimmed.shape != (channels, 1, 1):
        raise UnmappedError(
            f"a constant on the image must be one number or have the shape ({channels}, 1, 1), not {array.shape}"
        )
    return trimmed.reshape(channels)


def fold_affine(layer: FoldedLayer, gain: FloatArray, offset: FloatArray) -> FoldedLayer:
    """A layer of one projection onto the image, of ``gain x + offset`` instead."""
    (part,) = layer.projections
    channels = part.input_channels
    factors, unit, finer = _integer_gains(gain, part.weight_bits)
    weights = part.weights * factors[channels][:, :, None, None]
    bits = max(part.weight_bits, int(np.abs(weights).max()).bit_length() + 1)
    pixels = replace(part, weights=weights, scale=part.scale * unit, weight_bits=bits)
    # What the constant adds through every tap of the kernel, for every output channel.
    taps = (
        np.einsum("nchw,nc->nhw", part.weights.astype(np.float64), offset[channels])
        * part.scale[:, None, None]
    )
    total = taps.sum(axis=(1, 2))
    if part.padding == (0, 0) or not offset.any():
        return replace(layer, projections=(pixels,), bias=layer.bias + total)
    window = part.pooling.window if part.pooling is not None else 1
    # A power of two of the pixels' own unit, so that both meet in the accumulators without a rounding.
    step = np.ldexp(pixels.scale / (PIXEL_MAX * window), finer - CONSTANT_BITS)
    integers = np.rint(taps / np.where(step > 0, step, 1.0)[:, None, None]).astype(np.int64)[:, None]
    constant = replace(
        part,
        source=CONSTANT,
        input_shape=(1, *part.pooled_shape[1:]),
        weights=integers,
        scale=step,
        weight_bits=max(2, int(np.abs(integers).max()).bit_length() + 1),
        groups=1,
        pooling=None,
    )
    # The bias takes what rounding left, so that only pixels whose kernel reaches the padding see any of it.
    left = total - step * integers.sum(axis=(1, 2, 3))
    return replace(layer, projections=(pixels, constant), bias=layer.bias + left)


def _integer_gains(gain: FloatArray, weight_bits: int) -> tuple[NDArray[np.int64], float, int]:
    """Gains as signed integers times a number, and the bits of the smallest; 1 and -1 where all are equally large."""
    sizes = np.abs(gain)
    live = sizes[sizes > 0]
    if not len(live):
        return np.zeros(len(gain), dtype=np.int64), 1.0, 0
    smallest = float(live.min())
    if (live == smallest).all():
        return np.sign(gain).astype(np.int64), smallest, 0
    room = WIDEST_WEIGHT - weight_bits - int(np.ceil(np.log2(live.max() / smallest)))
    if room < 0:
        raise UnmappedError(
            f"the channels of the image are scaled too differently, by {live.max() / smallest:.3g}; expected at most "
            f"{2 ** (WIDEST_WEIGHT - weight_bits)}"
        )
    finer = min(room, max(GAIN_BITS, room - WIDEST_WEIGHT + MULTIPLIER_WEIGHT))
    unit = float(np.ldexp(smallest, -finer))
    return np.rint(gain / unit).astype(np.int64), unit, finer


def insert_constants(network: FoldedNetwork) -> FoldedNetwork:
    """The network with a layer in front for every size of constant channel that its projections ask for."""
    shapes = {
        part.input_shape: layer.projections[0]
        for layer in network.layers
        for part in layer.projections
        if part.source == CONSTANT
    }
    places = {shape: place for place, shape in enumerate(shapes)}

    def moved(part: FoldedProjection) -> FoldedProjection:
        if part.source == CONSTANT:
            return replace(part, source=places[part.input_shape])
        return part if part.source == IMAGE else replace(part, source=part.source + len(places))

    layers = [replace(layer, projections=tuple(map(moved, layer.projections))) for layer in network.layers]
    return replace(network, layers=(*map(_constant_layer, shapes.values()), *layers))


def _constant_layer(pixels: FoldedProjection) -> FoldedLayer:
    """One neuron for every pixel of that projection's input, without weights, that fires 1 in every window."""
    nothing = replace(
        pixels,
        weights=np.zeros((1, pixels.input_shape[0], 1, 1), dtype=np.int64),
        scale=np.ones(1),
        weight_bits=2,
        stride=(1, 1),
        padding=(0, 0),
        groups=1,
    )
    one = np.ones((1, 1))
    neuron = FoldedNeuron(levels=1, steps=1, theta=1.0, initial_membrane=0.0, mixing=one, leak=one[0])
    # Half a threshold above what it takes: no rounding reaches that far.
    return FoldedLayer(projections=(nothing,), bias=np.array([1.5]), neuron=neuron, name="constant")
