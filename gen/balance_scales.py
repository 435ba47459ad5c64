"""Pass 2: channels that can only be silent or saturated are clamped, so that they cost the live ones nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lmht.gen.channel_range import Window, sum_range
from lmht.gen.folded import ChannelChange, FloatArray, FoldedLayer, FoldedNetwork
from lmht.rtl.projection import IMAGE

__all__ = ["LARGEST_RATIO", "balance_scales"]

SMALLEST_GAIN = 2.0**-60
"""Weights whose step is worth less, in thresholds, are none: ``γ`` is 0."""

LARGEST_RATIO = 512
"""Steps of the first projection's weights in one of the residual branch's, at most: such a gain needs no shift."""

BoolArray = NDArray[np.bool_]
Range = tuple[FloatArray, FloatArray]


def balance_scales(network: FoldedNetwork) -> FoldedNetwork:
    """Clamp the channels whose scale or bias lies beyond everything that a window can tell apart.

    One shift S serves all multipliers of a layer (NUMERICS.md), so a channel with a huge scale would take their bits
    from all others. Batch norm makes such channels: behind a source that (almost) never spikes, the variance is near 0
    and ``γ / sqrt(variance + ε)`` up to 300. Channels are measured against the threshold, and changed are only these:

    * **Constant**: bounds over the integer weights, and over the source channels that can spike at all, show that a
      channel never reaches θ, or saturates at every step, or gets nothing but its bias. Its weights become 0, and its
      bias the smallest that does the same (the bias that it has, in the last case). This is exact.
    * **Decisive**: one unit of ``X = sum_j w k`` crosses all levels and everything a membrane can hold. With ``X0``
      the integer at which the current lies nearest to 0, ``I = c + σ (X - X0)``: σ is clamped to the smallest step that
      still decides, while ``c`` stays, so that nothing changes at ``X0``, and the channel saturates or is silent
      elsewhere as before. NUMERICS.md says where that is exact. The layer's multipliers get the bits that this
      channel's takes more (:attr:`~lmht.gen.folded.FoldedLayer.headroom_bits`).
    * **Faint**, in front of a residual branch only: its gain would be a huge number of steps of a faint first
      projection. The first projection's weights are rounded, half to even, to steps of which a step of the branch has
      :data:`LARGEST_RATIO`.

    A first projection without weights in a channel has no scale of its own and gets the layer's largest. All other
    channels keep weights, scales and biases as they are. A classifier has no threshold and stays as it is.

    Returns
    -------
    FoldedNetwork
        With :attr:`~lmht.gen.folded.FoldedNetwork.changes`.
    """
    layers: list[FoldedLayer] = []
    changes: list[ChannelChange] = []
    alive: dict[int, BoolArray | None] = {IMAGE: None}
    for index, layer in enumerate(network.layers):
        channels = _Channels(network, layer)
        if layer.neuron is not None:
            window = Window(layer.neuron, once=layer.projections[0].source == IMAGE)
            ranges = [sum_range(network, part, alive[part.source]) for part in layer.projections]
            alive[index] = channels.settle_constants(window, ranges)
            channels.clamp_decisive(window, ranges)
        channels.coarsen_faint()
        layers.append(channels.build())
        changes += channels.changes(index)
    return replace(network, layers=tuple(layers), changes=tuple(changes))


class _Channels:
    """Channels of a layer while they are changed; currents in thresholds, in logits in a classifier.

    `gains` are σ of every projection, `reasons` what was found and done in which channel.
    """

    def __init__(self, network: FoldedNetwork, layer: FoldedLayer) -> None:
        self.layer = layer
        self.theta = 1.0 if layer.neuron is None else layer.neuron.theta
        self.values = [network.input_value(part) / self.theta for part in layer.projections]
        self.gains = [part.scale * value for part, value in zip(layer.projections, self.values, strict=True)]
        self.weights = [
            np.where(_per_channel(gain >= SMALLEST_GAIN), part.weights, 0)
            for part, gain in zip(layer.projections, self.gains, strict=True)
        ]
        self.bias = layer.bias / self.theta
        self.decisive: BoolArray = np.zeros(len(self.bias), dtype=bool)
        self.reasons: dict[int, str] = {}

    def live(self, number: int) -> BoolArray:
        """Channels in which a projection has weights."""
        found: BoolArray = np.any(self.weights[number], axis=(1, 2, 3))
        return found

    def settle_constants(self, window: Window, ranges: Sequence[Range]) -> BoolArray:
        """Take the weights of channels that do the same in every window; returns which channels can spike."""
        low, high = (
            self.bias + sum(gain * ends[side] for gain, ends in zip(self.gains, ranges, strict=True))
            for side in (0, 1)
        )
        silent, full = window.stays_silent(high), window.saturates(low)
        unreached = np.all([(ends[0] == 0) & (ends[1] == 0) for ends in ranges], axis=0)
        self._settle(silent, window.silent_current(), window, "never reaches its threshold")
        self._settle(full, window.saturating_current(), window, "saturates at every step")
        self._settle(unreached & ~silent & ~full, None, window, "hears silent channels only")
        return ~silent

    def _settle(self, channels: BoolArray, current: float | None, window: Window, reason: str) -> None:
        """Leave `channels` their bias alone, and `current` for it where it is larger than a window can hold."""
        large = channels & (np.abs(self.bias) > window.capacity) & (current is not None)
        weighted = channels & np.any([part.any(axis=(1, 2, 3)) for part in self.weights], axis=0)
        self._note(large | weighted, reason)
        self.bias = np.where(large, current or 0.0, self.bias)
        self.weights = [np.where(_per_channel(channels), 0, part) for part in self.weights]

    def clamp_decisive(self, window: Window, ranges: Sequence[Range]) -> None:
        """Clamp σ of each projection where one unit of it decides every step in which it counts."""
        if window.smallest_part == 0:
            return
        reach = [
            # A projection that decides by itself is left out: it and another one rarely leave X0 at once.
            np.where(
                self.live(number) & (gain * window.smallest_part <= window.capacity),
                gain * np.maximum(-low, high),
                0,
            )
            for number, (gain, (low, high)) in enumerate(zip(self.gains, ranges, strict=True))
        ]
        for number, gain in enumerate(self.gains):
            others = sum(reach) - reach[number]
            step = np.where(self.live(number), gain, 1.0)
            pivot = np.rint(-self.bias / step)
            rest = self.bias + step * pivot
            need = window.capacity + window.largest_part * others
            most = need / window.smallest_part
            far = np.abs(rest) > most
            clamped = (need + window.largest_part * np.minimum(np.abs(rest), most)) / window.smallest_part
            if len(self.gains) > 1 and number == 0:
                clamped = _next_power(clamped, np.where(self.live(1), self.gains[1], clamped))
            found = self.live(number) & (gain > clamped)
            kept = np.where(far, np.sign(rest) * np.maximum(most, np.abs(rest) * clamped / step), rest)
            self._note(found, "one unit of its sum decides every step")
            self.gains[number] = np.where(found, clamped, gain)
            self.bias = np.where(found, kept - clamped * pivot, self.bias)
            if number == 0:
                self.decisive |= found

    def coarsen_faint(self) -> None:
        """Round the first projection's weights where a residual branch's gain would be too many of its steps, and give
        a scale where there are no weights."""
        if len(self.gains) > 1:
            smallest = self.gains[1] / LARGEST_RATIO
            faint = self.live(0) & self.live(1) & (self.gains[0] < smallest)
            ratio = self.gains[0] / np.where(faint, smallest, 1.0)
            rounded = np.rint(self.weights[0] * _per_channel(ratio)).astype(np.int64)
            self._note(faint, "faint beside its residual branch: weights rounded")
            self.weights[0] = np.where(_per_channel(faint), rounded, self.weights[0])
            self.gains[0] = np.where(faint, smallest, self.gains[0])
        for number, gain in enumerate(self.gains):
            live = self.live(number)
            usual = live & ~self.decisive if (live & ~self.decisive).any() else live
            missing = np.full_like(gain, gain[usual].max() if usual.any() else 1.0)
            if number == 0 and len(self.gains) > 1:
                missing = _next_power(missing, np.where(self.live(1), self.gains[1], missing))
            self.gains[number] = np.where(live, gain, missing)

    def _note(self, channels: BoolArray, reason: str) -> None:
        for channel in np.flatnonzero(channels).tolist():
            self.reasons[channel] = reason

    def build(self) -> FoldedLayer:
        """The layer as it is now; a layer without a change is the one that was given, but for missing scales."""
        live = self.live(0)
        usual = live & ~self.decisive
        headroom = 0
        if usual.any() and self.decisive.any():
            headroom = max(0, math.ceil(math.log2(self.gains[0][live].max() / self.gains[0][usual].max())))
        projections = (
            replace(
                part, weights=weights, scale=np.where(gain == part.scale * value, part.scale, gain / value)
            )
            for part, weights, gain, value in zip(
                self.layer.projections, self.weights, self.gains, self.values, strict=True
            )
        )
        bias = np.where(self.bias == self.layer.bias / self.theta, self.layer.bias, self.bias * self.theta)
        return replace(self.layer, projections=tuple(projections), bias=bias, headroom_bits=headroom)

    def changes(self, index: int) -> list[ChannelChange]:
        """What was done, channel by channel."""
        before = [part.scale * value for part, value in zip(self.layer.projections, self.values, strict=True)]
        found = []
        for channel, reason in sorted(self.reasons.items()):
            # The projection that changed most.
            number = max(
                range(len(before)),
                key=lambda which: abs(
                    math.log((self.gains[which][channel] or 1) / (before[which][channel] or 1))
                ),
            )
            found.append(
                ChannelChange(
                    layer=index,
                    channel=channel,
                    reason=reason,
                    gain_before=float(before[number][channel]),
                    gain_after=float(self.gains[number][channel])
                    if self.weights[number][channel].any()
                    else 0.0,
                    bias_before=float(self.layer.bias[channel] / self.theta),
                    bias_after=float(self.bias[channel]),
                )
            )
        return found


def _next_power(values: FloatArray, unit: FloatArray) -> FloatArray:
    """At least `values`, but a power of two of `unit`: the gain of a residual branch is then exact."""
    found: FloatArray = unit * np.exp2(np.ceil(np.log2(values / unit)))
    return found


def _per_channel(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Values of the output channels beside weights of shape (N, C, KH, KW)."""
    return values[:, None, None, None]
