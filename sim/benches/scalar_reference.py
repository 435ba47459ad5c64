"""NUMERICS.md in plain Python integers and loops, one neuron and one step at a time: the reference of the benches.

Maps have the shape (steps, height, width, channels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.projection import Pooling, ProjectionParameters

__all__ = ["ScalarLayer", "pool", "reached", "round_shift"]


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


def reached(projection: ProjectionParameters, y: int, x: int) -> list[tuple[int, int, int, int]]:
    """Output pixels that an event at ``(y, x)`` of a projection's input meets, and through which kernel row and
    column: ``(output y, output x, ky, kx)``."""
    y, x = y // projection.pool[0], x // projection.pool[1]
    if y >= projection.pooled[0] or x >= projection.pooled[1]:
        return []
    height, width = projection.output
    found = []
    for ky, kx in np.ndindex(*projection.kernel):
        above, left = y + projection.padding[0] - ky, x + projection.padding[1] - kx
        oy, ox = above // projection.stride[0], left // projection.stride[1]
        aligned = above % projection.stride[0] == 0 and left % projection.stride[1] == 0
        if aligned and 0 <= oy < height and 0 <= ox < width:
            found.append((oy, ox, ky, kx))
    return found


@dataclass(frozen=True, eq=False)
class ScalarLayer:
    """The numbers of one layer, as in :class:`~lmht.gen.integer.IntegerLayer`, with the formats of `neuron`.

    Parameters
    ----------
    neuron : NeuronParameters
    weights : tuple of numpy.ndarray, each of shape (N, C / groups, KH, KW)
        Of every projection.
    bias, multipliers : numpy.ndarray, shapes (N,) and (T, T_in, N)
    leak : numpy.ndarray of shape (T,), or None
    initial_membrane : int
    """

    neuron: NeuronParameters
    weights: tuple[np.ndarray, ...]
    bias: np.ndarray
    multipliers: np.ndarray
    leak: np.ndarray | None
    initial_membrane: int

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], neuron: NeuronParameters) -> ScalarLayer:
        """From the arrays that the tests write: `weights0` and perhaps `weights1`, `bias`, `multipliers`, `leak`,
        `initial_membrane`."""
        return cls(
            neuron=neuron,
            weights=tuple(arrays[name] for name in ("weights0", "weights1") if name in arrays),
            bias=arrays["bias"],
            multipliers=arrays["multipliers"],
            leak=arrays["leak"] if neuron.leak else None,
            initial_membrane=int(arrays["initial_membrane"]),
        )

    def outputs(
        self, projections: Sequence[ProjectionParameters], inputs: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Levels (logits of a classifier) of the layer's map for input maps of all projections, as the links carry
        them; Python integers."""
        height, width = projections[0].output
        steps, channels = self.neuron.input_steps, len(self.bias)
        sums = np.zeros((steps, height, width, channels), dtype=object)
        for projection, weights, levels in zip(projections, self.weights, inputs, strict=True):
            per_group_in, per_group_out = weights.shape[1], channels // projection.channel_groups
            for u, y, x, c in zip(*np.nonzero(levels), strict=True):
                part, inside = divmod(int(c), per_group_in)
                outputs = slice(part * per_group_out, (part + 1) * per_group_out)
                for oy, ox, ky, kx in reached(projection, int(y), int(x)):
                    products = weights[outputs, inside, ky, kx].astype(object) * int(levels[u, y, x, c])
                    sums[u, oy, ox, outputs] += products << projection.shift
        result = np.zeros((self.neuron.steps, height, width, channels), dtype=object)
        for y, x in np.ndindex(height, width):
            result[:, y, x] = self.update(sums[:, y, x])
        return result

    def update(self, sums: np.ndarray) -> np.ndarray:
        """Levels of a pixel, shape (T, N), from the sums of its synapses, shape (T_in, N), without bias."""
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
