"""What a folded channel can get and do over a window: its currents, and whether it can only stay silent or saturate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmht.gen.folded import FloatArray, FoldedNetwork, FoldedNeuron, FoldedProjection
from lmht.gen.integer import PIXEL_MAX

__all__ = ["Window", "sum_range"]

BoolArray = NDArray[np.bool_]

_MARGIN = 1 / 16
"""Thresholds that a bound must keep away from a threshold, beside 1/256 of the current: integers are rounded."""

_SMALLEST_PART = 1 / 8
"""Parts below this part of the largest entry of Ω are not taken for decisive."""

_LONGEST_SEARCH = 16


def sum_range(
    network: FoldedNetwork, projection: FoldedProjection, alive: BoolArray | None
) -> tuple[FloatArray, FloatArray]:
    """Least and largest ``X[n] = sum_j w[n, j] k[j]`` over all inputs, each of shape (N,); 0 lies between them.

    Parameters
    ----------
    network : FoldedNetwork
    projection : FoldedProjection
        One of its projections.
    alive : numpy.ndarray of bool, shape (C,), or None
        Channels of the source that can spike; None for all.
    """
    neuron = network.source_neuron(projection)
    level = PIXEL_MAX if neuron is None else neuron.levels
    if projection.pooling is not None:
        level = projection.pooling.max_level(level)
    sources = projection.input_channels
    reached = np.ones(sources.shape, dtype=bool) if alive is None else alive[sources]
    weights = projection.weights * reached[:, :, None, None] * level
    taps = (1, 2, 3)
    low, high = np.minimum(weights, 0).sum(axis=taps), np.maximum(weights, 0).sum(axis=taps)
    return low.astype(np.float64), high.astype(np.float64)


@dataclass(frozen=True, eq=False)
class Window:
    """The window of a layer's neurons (NUMERICS.md, "Clamped channels"), in units of θ; `once`: its input is sent once.

    With ``C[t, u] = sum_(τ ≤ t) λ^(t - τ) Ω[τ, u]``, a membrane before firing is ``m[t] = sum_u C[t, u] I[u]``, plus
    what is left of ``v[-1]``, minus what is left of the resets. :attr:`capacity` bounds these two and the highest
    threshold: a current part beyond it decides a step, whatever came before.
    """

    neuron: FoldedNeuron
    once: bool

    @property
    def row_sums(self) -> FloatArray:
        return self.neuron.mixing.sum(axis=1)

    @property
    def _mixing(self) -> FloatArray:
        return self.row_sums[:, None] if self.once else self.neuron.mixing

    @property
    def parts(self) -> FloatArray:
        """``C``, shape (T, T_in); its column is that of the row sums where the input is sent once."""
        mixing = self._mixing
        parts = np.zeros_like(mixing)
        held = np.zeros(mixing.shape[1])
        for step, leak in enumerate(self.neuron.leak):
            held = leak * held + mixing[step]
            parts[step] = held
        return parts

    @property
    def largest_part(self) -> float:
        """Largest ``sum_u C[t, u]``: what a constant current of 1 brings at most."""
        return float(self.parts.sum(axis=1).max())

    @property
    def smallest_part(self) -> float:
        """Smallest ``C[t, u]`` above 0, but at least an eighth of the largest entry of Ω; 0 if all are 0."""
        parts = self.parts
        found = parts[parts > 0]
        return max(float(found.min()), float(self._mixing.max()) * _SMALLEST_PART) if len(found) else 0.0

    @property
    def capacity(self) -> float:
        neuron = self.neuron
        held, most = abs(neuron.initial_membrane / neuron.theta), 0.0
        for step, leak in enumerate(neuron.leak):
            held = leak * (held + (neuron.levels if step else 0))
            most = max(most, held)
        return most + neuron.levels + 2 * _MARGIN

    def stays_silent(self, current: FloatArray, margin: float = _MARGIN) -> BoolArray:
        """Whether a constant current in every step, and so any lower one, never reaches the first threshold."""
        charged = self._charged(current, reset=0)
        return np.all([membrane + margin + rounding < 1 for membrane, rounding in charged], axis=0)

    def saturates(self, current: FloatArray, margin: float = _MARGIN) -> BoolArray:
        """Whether a constant current, and so any higher one, gives ``k = L`` at every step."""
        levels = self.neuron.levels
        charged = self._charged(current, reset=levels)
        return np.all([membrane - margin - rounding >= levels for membrane, rounding in charged], axis=0)

    def _charged(self, current: FloatArray, reset: int) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Membranes before firing if every step ends with one reset, and the 1/256 by which their currents are off."""
        neuron = self.neuron
        membrane = np.full_like(current, neuron.initial_membrane / neuron.theta)
        for leak, row_sum in zip(neuron.leak, self.row_sums, strict=True):
            membrane = leak * membrane + row_sum * current
            yield membrane, np.abs(row_sum * current) / 256
            membrane = membrane - reset

    def silent_current(self) -> float | None:
        """The first of 0, -1, -2, -4, ... that keeps a neuron silent by half a threshold; None if none does."""
        return self._find(0.0, -1.0, self.stays_silent)

    def saturating_current(self) -> float | None:
        """The first of 2 L, 4 L, ... that saturates a neuron by half a threshold; None if none does."""
        return self._find(2.0 * self.neuron.levels, 4.0 * self.neuron.levels, self.saturates)

    def _find(
        self, first: float, second: float, decide: Callable[[FloatArray, float], BoolArray]
    ) -> float | None:
        candidates = (first, *(second * 2.0**power for power in range(_LONGEST_SEARCH)))
        return next((found for found in candidates if decide(np.array([found]), 0.5)[0]), None)
