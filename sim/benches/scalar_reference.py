"""NUMERICS.md in plain Python integers, one neuron and one step at a time: the reference of the component benches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lmht.rtl.parameters import NeuronParameters

__all__ = ["ScalarLayer", "round_shift"]


def round_shift(x: int, s: int) -> int:
    """``(x + (1 << (s - 1))) >> s``, `x` for ``s = 0``."""
    return (x + (1 << (s - 1))) >> s if s else x


@dataclass(frozen=True, eq=False)
class ScalarLayer:
    """The numbers of one layer, as in :class:`~lmht.gen.integer.IntegerLayer`, with the formats of `neuron`."""

    neuron: NeuronParameters
    weights: np.ndarray
    bias: np.ndarray
    multipliers: np.ndarray
    leak: np.ndarray | None
    initial_membrane: int

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], neuron: NeuronParameters) -> ScalarLayer:
        """From the arrays that the tests write: `weights`, `bias`, `multipliers`, `leak`, `initial_membrane`."""
        return cls(
            neuron=neuron,
            weights=arrays["weights"],
            bias=arrays["bias"],
            multipliers=arrays["multipliers"],
            leak=arrays["leak"] if neuron.leak else None,
            initial_membrane=int(arrays["initial_membrane"]),
        )

    def outputs(self, inputs: np.ndarray) -> np.ndarray:
        """Levels, shape (T, N) of Python integers, for levels `inputs` of shape (T_in, J); logits for a classifier."""
        sums = inputs.astype(object) @ self.weights.astype(object).T
        return self.update(sums)

    def update(self, sums: np.ndarray) -> np.ndarray:
        """The same from the sums ``sum_j w k``, shape (T_in, N), without bias."""
        neurons = sums.shape[1]
        result = np.zeros((self.neuron.steps, neurons), dtype=object)
        for n in range(neurons):
            accumulators = [int(value) + int(self.bias[n]) for value in sums[:, n]]
            result[:, n] = self._neuron(n, accumulators)
        return result

    def _neuron(self, n: int, accumulators: list[int]) -> list[int]:
        neuron = self.neuron
        currents = [
            round_shift(
                sum(int(self.multipliers[t, u, n]) * a for u, a in enumerate(accumulators)), neuron.shift
            )
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
