"""Golden model: the integers of NUMERICS.md in PyTorch, in batches, from the integer network alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lmht.gen.integer import IntegerLayer, IntegerNetwork

__all__ = ["GoldenModel", "GoldenResult", "LayerTrace"]


@dataclass(frozen=True, eq=False)
class GoldenResult:
    """What the hardware must give for a set of images.

    Attributes
    ----------
    logits : torch.Tensor of int64, shape (images, classes)
        ``sum_u G[n] A[u, n]``.
    predictions : torch.Tensor of int64, shape (images,)
        Class of the largest logit, the lowest index on ties.
    events : torch.Tensor of int64, shape (images, layers)
        Packed events that enter each layer: pixels that are not 0, then neurons with a level that is not 0.
    spikes : torch.Tensor of int64, shape (images, layers - 1)
        Sum of the levels that each hidden layer sends.
    levels : list of torch.Tensor of uint8, each of shape (T, images, neurons), or None
        Spike levels of every hidden layer, if asked for.
    """

    logits: torch.Tensor
    predictions: torch.Tensor
    events: torch.Tensor
    spikes: torch.Tensor
    levels: list[torch.Tensor] | None


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """Everything one layer computes for one image, to locate a fault; arrays of int64.

    Attributes
    ----------
    accumulators : torch.Tensor, shape (T_in, N)
        ``A`` with its bias.
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
        """The values of one image, where those of a batch have shape (…, images, N)."""

        def pick(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else values[:, number]

        return LayerTrace(
            self.accumulators[:, number],
            self.currents[:, number],
            pick(self.charged),
            pick(self.membranes),
            pick(self.levels),
        )


class GoldenModel:
    """Integer model of a network.

    All results are exact: a matrix product is computed in floating point only where every partial sum is an
    integer that the type holds exactly (below 2^24 in float32, below 2^53 in float64), and in int64
    otherwise.

    Parameters
    ----------
    network : IntegerNetwork
        What is computed.

    Raises
    ------
    ValueError
        If a value of the network might not fit into 63 bits.
    """

    def __init__(self, network: IntegerNetwork) -> None:
        self.network = network
        self._layers = [_GoldenLayer(index, layer) for index, layer in enumerate(network.layers)]

    @torch.no_grad()
    def run(
        self, images: torch.Tensor | np.ndarray, batch_size: int = 1000, *, keep_levels: bool = False
    ) -> GoldenResult:
        """Classify images.

        Parameters
        ----------
        images : torch.Tensor or numpy.ndarray of uint8, shape (images, C, H, W)
            Pixels from 0 to 255.
        batch_size : int
            Images at a time, at least 1.
        keep_levels : bool
            Whether the result holds the spike levels of every hidden layer.

        Raises
        ------
        TypeError
            If the images are not of uint8.
        ValueError
            If their shape or `batch_size` is wrong.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        inputs = self._order_inputs(images)
        logits, events, spikes = [], [], []
        levels: list[list[torch.Tensor]] = [[] for _ in self._layers[1:]]
        for batch in inputs.split(batch_size):
            value = batch.unsqueeze(0)
            batch_events, batch_spikes = [torch.count_nonzero(batch, dim=1)], []
            for index, layer in enumerate(self._layers):
                trace = layer.run(value)
                if trace.levels is None:
                    logits.append(trace.currents[0])
                    break
                value = trace.levels.to(torch.uint8)
                batch_events.append(torch.count_nonzero(value.amax(dim=0), dim=1))
                batch_spikes.append(value.sum(dim=(0, 2)))
                if keep_levels:
                    levels[index].append(value)
            events.append(torch.stack(batch_events, dim=1))
            spikes.append(
                torch.stack(batch_spikes, dim=1) if batch_spikes else torch.zeros(len(batch), 0).long()
            )
        all_logits = torch.cat(logits)
        return GoldenResult(
            logits=all_logits,
            predictions=_lowest_argmax(all_logits),
            events=torch.cat(events),
            spikes=torch.cat(spikes),
            levels=[torch.cat(layer, dim=1) for layer in levels] if keep_levels else None,
        )

    @torch.no_grad()
    def trace(self, image: torch.Tensor | np.ndarray) -> list[LayerTrace]:
        """All internal values of every layer for one image of shape (C, H, W); errors as :meth:`run`."""
        value = self._order_inputs(torch.as_tensor(image).unsqueeze(0)).unsqueeze(0)
        traces = []
        for layer in self._layers:
            batch = layer.run(value)
            traces.append(batch.image(0))
            if batch.levels is not None:
                value = batch.levels
        return traces

    def _order_inputs(self, images: torch.Tensor | np.ndarray) -> torch.Tensor:
        """(images, J) in the hardware's order ``(y, x, channel)``."""
        tensor = torch.as_tensor(images)
        if tensor.dtype != torch.uint8:
            raise TypeError(f"images must be of uint8, not {tensor.dtype}")
        if tensor.dim() != 4 or tuple(tensor.shape[1:]) != self.network.input_shape or len(tensor) == 0:
            shape = ", ".join(str(size) for size in self.network.input_shape)
            raise ValueError(f"images must have shape (at least 1, {shape}), not {tuple(tensor.shape)}")
        return tensor.permute(0, 2, 3, 1).flatten(1)


def _lowest_argmax(logits: torch.Tensor) -> torch.Tensor:
    """Index of the largest logit; the lowest index wins ties."""
    ties = logits == logits.amax(dim=1, keepdim=True)
    classes = torch.arange(logits.shape[1], dtype=torch.int64)
    return torch.where(ties, classes, logits.shape[1]).amin(dim=1)


def _round_shift(values: torch.Tensor, shift: int) -> torch.Tensor:
    """``round_shift`` of NUMERICS.md, in place."""
    if shift == 0:
        return values
    return values.add_(1 << (shift - 1)).bitwise_right_shift_(shift)


class _GoldenLayer:
    """One layer on a batch; the values of a step have shape (images, N)."""

    def __init__(self, index: int, layer: IntegerLayer) -> None:
        self.layer = layer
        sums = [sum(abs(w) for w in row) for row in layer.weights.tolist()]
        reach = [
            layer.input_max_level * total + abs(bias)
            for total, bias in zip(sums, layer.bias.tolist(), strict=True)
        ]
        self._check_bounds(index, reach)
        self.matrix_type = _exact_type(max(reach))
        self.weights = torch.from_numpy(layer.weights.copy()).to(self.matrix_type).t().contiguous()
        self.bias = torch.from_numpy(layer.bias.copy())
        self.multipliers = torch.from_numpy(layer.multipliers.copy())

    def _check_bounds(self, index: int, reach: list[int]) -> None:
        """Refuse a layer whose intermediate values might leave int64."""
        layer = self.layer
        gains = layer.multipliers.sum(axis=1).max(axis=0).tolist()
        mixed = max(gain * bound for gain, bound in zip(gains, reach, strict=True))
        worst = mixed + (1 << layer.shift)
        if layer.levels is not None:
            membrane = abs(layer.initial_membrane)
            for step in range(layer.steps):
                if layer.leak is not None:
                    product = membrane * int(layer.leak[step]) + (1 << layer.leak_bits)
                    worst = max(worst, product)
                    membrane = product >> layer.leak_bits
                membrane += (mixed >> layer.shift) + 1
            worst = max(worst, membrane)
        if worst >= 2**63:
            raise ValueError(
                f"layer {index}: values of the golden model must fit 64 bits, not {worst.bit_length() + 1}"
            )

    def run(self, inputs: torch.Tensor) -> LayerTrace:
        """Steps 1 to 5 of NUMERICS.md for input levels of shape (T_in, images, J)."""
        layer = self.layer
        accumulators = (inputs.to(self.matrix_type) @ self.weights).to(torch.int64).add_(self.bias)
        mixed = torch.empty(layer.steps, *accumulators.shape[1:], dtype=torch.int64)
        for step in range(layer.steps):
            torch.mul(accumulators[0], self.multipliers[step, 0], out=mixed[step])
            for source in range(1, layer.input_steps):
                mixed[step].addcmul_(accumulators[source], self.multipliers[step, source])
        currents = _round_shift(mixed, layer.shift)
        if layer.levels is None:
            return LayerTrace(accumulators, currents, None, None, None)

        charged, membranes, levels = (torch.empty_like(currents) for _ in range(3))
        membrane = torch.full_like(currents[0], layer.initial_membrane)
        for step in range(layer.steps):
            if layer.leak is not None:
                membrane = _round_shift(membrane * int(layer.leak[step]), layer.leak_bits)
            torch.add(membrane, currents[step], out=charged[step])
            fired = torch.bitwise_right_shift(charged[step], layer.fraction_bits)
            torch.clamp(fired, 0, layer.levels, out=levels[step])
            membrane = charged[step] - (levels[step] << layer.fraction_bits)
            membranes[step] = membrane
        return LayerTrace(accumulators, currents, charged, membranes, levels)


def _exact_type(bound: int) -> torch.dtype:
    """Fastest type in which integers up to `bound`, and all partial sums on the way, are exact."""
    if bound < 2**24:
        return torch.float32
    return torch.float64 if bound < 2**53 else torch.int64
