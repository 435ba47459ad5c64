"""NUMERICS.md, steps 2 to 5, in plain Python integers, one neuron and one step at a time, and pooling: the reference of
the benches. Maps have the shape (steps, height, width, channels)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.projection import Pooling

__all__ = ["ScalarLayer", "pool", "round_shift"]


def round_shift(x: int, s: int) -> int:
    """``(x + (1 << (s - 1))) >> s``, `x` for ``s = 0``."""
    return (x + (1 << (s - 1))) >> s if s else x


def pool(levels: np.ndarray, pooling: Pooling) -> np.ndarray:
    """A map behind the pooling, one window after the other."""
    rows, columns = pooling.size
    height, width = pooling.pooled(*levels.shape[1:3])
    result = np.zeros((levels.shape[0], height, width, levels.shape[3]), dtype=levels.dtype)
    for y, x in np.ndindex(height, width):
        window = levels[:, y * rows : (y + 1) * rows, x * columns : (x + 1) * columns]
        result[:, y, x] = window.sum(axis=(1, 2)) if pooling.kind == "sum" else window.max(axis=(1, 2))
    return result


@dataclass(frozen=True, eq=False)
class ScalarLayer:
    """The numbers of one layer, as in :class:`~lmht.gen.integer.IntegerLayer`, with the formats of `neuron`.

    Parameters
    ----------
    neuron : NeuronParameters
    bias, multipliers : numpy.ndarray, shapes (T, N) and (T, T_in, N), or (T, 1, N) if `neuron` is diagonal
    leak : numpy.ndarray of shape (T,), or None
    initial_membrane : int
    """

    neuron: NeuronParameters
    bias: np.ndarray
    multipliers: np.ndarray
    leak: np.ndarray | None
    initial_membrane: int

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], neuron: NeuronParameters) -> ScalarLayer:
        """From the arrays that the tests write: `bias`, `multipliers`, `leak`, `initial_membrane`."""
        return cls(
            neuron=neuron,
            bias=arrays["bias"],
            multipliers=arrays["multipliers"],
            leak=arrays["leak"] if neuron.leak else None,
            initial_membrane=int(arrays["initial_membrane"]),
        )

    def update(self, sums: np.ndarray) -> np.ndarray:
        """Levels of a pixel, shape (T, N), from the sums of its synapses, shape (T_in, N)."""
        neurons = sums.shape[1]
        result = np.zeros((self.neuron.steps, neurons), dtype=object)
        for n in range(neurons):
            result[:, n] = self._neuron(n, [int(value) for value in sums[:, n]])
        return result

    def _neuron(self, n: int, accumulators: list[int]) -> list[int]:
        neuron = self.neuron
        currents = [
            round_shift(
                int(self.multipliers[t, 0, n]) * accumulators[t]
                if neuron.diagonal
                else sum(int(self.multipliers[t, u, n]) * a for u, a in enumerate(accumulators)),
                neuron.shift,
            )
            + int(self.bias[t, n])
            for t in range(neuron.steps)
        ]
        if neuron.levels is None:
            return currents
        levels = []
        v = self.initial_membrane
        for t, current in enumerate(currents):
            if self.leak is not None:
                v = round_shift(int(self.leak[t]) * v, neuron.leak_bits)
            m = v + current
            k = min(max(m >> neuron.fraction_bits, 0), neuron.levels)
            v = m - (k << neuron.fraction_bits)
            levels.append(k)
        return levels
