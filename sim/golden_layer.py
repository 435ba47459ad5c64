"""One layer of the golden model: steps 1 to 5 of NUMERICS.md on a batch of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lmht.gen.integer import IntegerLayer
from lmht.sim.golden_projection import GoldenProjection

__all__ = ["GoldenLayer", "LayerTrace"]


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """Everything one layer computes, to locate a fault; neurons in the hardware's order ``(y, x, channel)``.

    Of one image, arrays of int64 with the shapes below; of a batch, with ``images, H, W, C`` in place of ``N`` and in
    the type that is computed in.

    Attributes
    ----------
    accumulators : torch.Tensor, shape (T_in, N)
        ``A``.
    currents : torch.Tensor, shape (T, N)
        ``J``; the logits of a classifier.
    charged, membranes, levels : torch.Tensor, shape (T, N), or None
        ``m`` before and ``v`` after the reset, and ``k``; None for a classifier.
    """

    accumulators: torch.Tensor
    currents: torch.Tensor
    charged: torch.Tensor | None
    membranes: torch.Tensor | None
    levels: torch.Tensor | None

    def image(self, number: int) -> LayerTrace:
        """The values of one image of a batch."""

        def pick(values: torch.Tensor) -> torch.Tensor:
            return values[:, number].flatten(1).to(torch.int64)

        def pick_some(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else pick(values)

        return LayerTrace(
            pick(self.accumulators),
            pick(self.currents),
            pick_some(self.charged),
            pick_some(self.membranes),
            pick_some(self.levels),
        )


class GoldenLayer:
    """A layer on a batch, in int32 where every value on the way fits and in int64 otherwise.

    Raises
    ------
    ValueError
        If a value might not fit into 64 bits.
    """

    def __init__(self, index: int, layer: IntegerLayer) -> None:
        self.layer = layer
        self.projections = [GoldenProjection(projection) for projection in layer.projections]
        worst = self._largest_value()
        if worst >= 2**63:
            raise ValueError(
                f"layer {index}: values of the golden model must fit 64 bits, not {worst.bit_length() + 1}"
            )
        self.type = torch.int32 if worst < 2**31 else torch.int64
        self._bias = torch.from_numpy(layer.bias.copy()).to(self.type)
        self._multipliers = torch.from_numpy(layer.multipliers.copy()).to(self.type)

    def _largest_value(self) -> int:
        """Bound of the magnitude of everything that :meth:`run` computes."""
        layer = self.layer
        reaches = zip(*(projection.reach for projection in self.projections), strict=True)
        reach = [sum(parts) for parts in reaches]
        gains = layer.multipliers.sum(axis=1).max(axis=0).tolist()
        mixed = max(gain * bound for gain, bound in zip(gains, reach, strict=True))
        bias = int(np.abs(layer.bias).max())
        current = (mixed >> layer.shift) + 1 + bias
        worst = max(mixed + (1 << layer.shift), *reach, int(layer.multipliers.max()), current)
        if layer.levels is not None:
            membrane = abs(layer.initial_membrane)
            for step in range(layer.steps):
                if layer.leak is not None:
                    product = membrane * int(layer.leak[step]) + (1 << layer.leak_bits)
                    worst = max(worst, product)
                    membrane = product >> layer.leak_bits
                membrane += current
            worst = max(worst, membrane, layer.levels << layer.fraction_bits)
        return worst

    def run(self, sources: Sequence[torch.Tensor]) -> LayerTrace:
        """The layer's values for the levels of its sources, each of shape (T_in, images, H, W, C)."""
        layer = self.layer
        first, *others = (
            projection.run(levels, self.type)
            for projection, levels in zip(self.projections, sources, strict=True)
        )
        accumulators = first
        for other in others:
            accumulators.add_(other)
        mixed = torch.empty(layer.steps, *accumulators.shape[1:], dtype=self.type)
        for step in range(layer.steps):
            first, *others = accumulators[step : step + 1] if layer.diagonal else accumulators
            torch.mul(first, self._multipliers[step, 0], out=mixed[step])
            for source, other in enumerate(others, start=1):
                mixed[step].addcmul_(other, self._multipliers[step, source])
        currents = round_shift(mixed, layer.shift).add_(self._bias[:, None, None, None])
        if layer.levels is None:
            return LayerTrace(accumulators, currents, None, None, None)

        charged, membranes, levels = (torch.empty_like(currents) for _ in range(3))
        membrane = torch.full_like(currents[0], layer.initial_membrane)
        for step in range(layer.steps):
            if layer.leak is not None:
                membrane = round_shift(membrane * int(layer.leak[step]), layer.leak_bits)
            torch.add(membrane, currents[step], out=charged[step])
            fired = torch.bitwise_right_shift(charged[step], layer.fraction_bits)
            torch.clamp(fired, 0, layer.levels, out=levels[step])
            membrane = charged[step] - (levels[step] << layer.fraction_bits)
            membranes[step] = membrane
        return LayerTrace(accumulators, currents, charged, membranes, levels)


def round_shift(values: torch.Tensor, shift: int) -> torch.Tensor:
    """``round_shift`` of NUMERICS.md, in place."""
    if shift == 0:
        return values
    return values.add_(1 << (shift - 1)).bitwise_right_shift_(shift)
