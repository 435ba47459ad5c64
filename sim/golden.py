"""Golden model: the integers of NUMERICS.md in PyTorch, in batches, from the integer network alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lmht.gen.integer import IntegerNetwork
from lmht.rtl.projection import IMAGE
from lmht.sim.golden_layer import GoldenLayer, LayerTrace

__all__ = ["GoldenModel", "GoldenResult", "LayerTrace"]

_LARGEST_BATCH = 1000
_BATCH_ELEMENTS = 2**20  # neurons times steps of the largest layer, of all images of a batch: fits the caches


@dataclass(frozen=True, eq=False)
class GoldenResult:
    """What the hardware must give for a set of images.

    Attributes
    ----------
    logits : torch.Tensor of int64, shape (images, classes)
        ``sum_u G[n] A[u, n] + B[n]``.
    predictions : torch.Tensor of int64, shape (images,)
        Class of the largest logit, the lowest index on ties.
    events : torch.Tensor of int64, shape (images, layers)
        Packed events of every source's map before pooling: pixels that are not 0, then, of each hidden layer, neurons
        with a level that is not 0.
    spikes : torch.Tensor of int64, shape (images, layers - 1)
        Sum of the levels of each hidden layer.
    levels : list of torch.Tensor of uint8, each of shape (T, images, neurons), or None
        Spike levels of every hidden layer before pooling, if asked for; neuron ``(y * W + x) * C + channel``.
    """

    logits: torch.Tensor
    predictions: torch.Tensor
    events: torch.Tensor
    spikes: torch.Tensor
    levels: list[torch.Tensor] | None


class GoldenModel:
    """Integer model of a network.

    All results are exact: products are summed in floating point only where every partial sum is an integer that the
    type holds exactly (below 2^24 in float32, below 2^53 in float64), and in int64 otherwise.

    Parameters
    ----------
    network : IntegerNetwork
        What is computed.

    Raises
    ------
    ValueError
        If a value of the network might not fit into 64 bits.
    """

    def __init__(self, network: IntegerNetwork) -> None:
        self.network = network
        self._layers = [GoldenLayer(index, layer) for index, layer in enumerate(network.layers)]
        sources = [[projection.source for projection in layer.projections] for layer in network.layers]
        # Last layer that needs the levels of each source.
        self._last_use = {source: layer for layer, used in enumerate(sources) for source in used}

    @property
    def default_batch(self) -> int:
        """Images at a time that keep the memory of a run bounded, whatever the network's size."""
        largest = max(layer.neurons * max(layer.steps, layer.input_steps) for layer in self.network.layers)
        return max(1, min(_LARGEST_BATCH, _BATCH_ELEMENTS // max(largest, self.network.inputs)))

    @torch.no_grad()
    def run(
        self,
        images: torch.Tensor | np.ndarray,
        batch_size: int | None = None,
        *,
        keep_levels: bool = False,
    ) -> GoldenResult:
        """Classify images.

        Parameters
        ----------
        images : torch.Tensor or numpy.ndarray of uint8, shape (images, C, H, W)
            Pixels from 0 to 255.
        batch_size : int, optional
            Images at a time, at least 1; :attr:`default_batch` if it is left out.
        keep_levels : bool
            Whether the result holds the spike levels of every hidden layer.

        Raises
        ------
        TypeError
            If the images are not of uint8.
        ValueError
            If their shape or `batch_size` is wrong.
        """
        if batch_size is None:
            batch_size = self.default_batch
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        inputs = self._order_inputs(images)
        parts = [self._run_batch(batch, keep_levels) for batch in inputs.split(batch_size)]
        logits = torch.cat([part.logits for part in parts])
        return GoldenResult(
            logits=logits,
            predictions=_lowest_argmax(logits),
            events=torch.cat([part.events for part in parts]),
            spikes=torch.cat([part.spikes for part in parts]),
            levels=[torch.cat(layer, dim=1) for layer in zip(*(part.levels for part in parts), strict=True)]
            if keep_levels
            else None,
        )

    def _run_batch(self, batch: torch.Tensor, keep_levels: bool) -> _BatchResult:
        """Run images of shape (images, H, W, C) through all layers."""
        maps = {IMAGE: batch.unsqueeze(0)}
        events, spikes, kept = [_count_events(maps[IMAGE])], [], []
        for index, layer in enumerate(self._layers):
            used = [projection.source for projection in layer.layer.projections]
            trace = layer.run([maps[source] for source in used])
            for source in used:
                if self._last_use[source] == index:
                    maps.pop(source, None)
            if trace.levels is None:
                break
            maps[index] = trace.levels.to(torch.uint8)
            events.append(_count_events(maps[index]))
            spikes.append(maps[index].sum(dim=(0, 2, 3, 4)))
            if keep_levels:
                kept.append(maps[index].flatten(2))
        return _BatchResult(
            logits=trace.currents.reshape(len(batch), -1).to(torch.int64),
            events=torch.stack(events, dim=1),
            spikes=torch.stack(spikes, dim=1) if spikes else torch.zeros(len(batch), 0).long(),
            levels=kept,
        )

    @torch.no_grad()
    def trace(self, image: torch.Tensor | np.ndarray) -> list[LayerTrace]:
        """All internal values of every layer for one image of shape (C, H, W); errors as :meth:`run`."""
        maps = {IMAGE: self._order_inputs(torch.as_tensor(image).unsqueeze(0)).unsqueeze(0)}
        traces = []
        for index, layer in enumerate(self._layers):
            batch = layer.run([maps[projection.source] for projection in layer.layer.projections])
            traces.append(batch.image(0))
            if batch.levels is not None:
                maps[index] = batch.levels.to(torch.uint8)
        return traces

    def _order_inputs(self, images: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Images in the hardware's order, shape (images, H, W, C)."""
        tensor = torch.as_tensor(images)
        if tensor.dtype != torch.uint8:
            raise TypeError(f"images must be of uint8, not {tensor.dtype}")
        if tensor.dim() != 4 or tuple(tensor.shape[1:]) != self.network.input_shape or len(tensor) == 0:
            shape = ", ".join(str(size) for size in self.network.input_shape)
            raise ValueError(f"images must have shape (at least 1, {shape}), not {tuple(tensor.shape)}")
        return tensor.permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True, eq=False)
class _BatchResult:
    """The fields of a :class:`GoldenResult` for the images of a batch; no levels unless they are kept."""

    logits: torch.Tensor
    events: torch.Tensor
    spikes: torch.Tensor
    levels: list[torch.Tensor]


def _count_events(maps: torch.Tensor) -> torch.Tensor:
    """Positions of each image with a level that is not 0, for levels of shape (T, images, H, W, C)."""
    return torch.count_nonzero(maps.amax(dim=0), dim=(1, 2, 3))


def _lowest_argmax(logits: torch.Tensor) -> torch.Tensor:
    """Index of the largest logit; the lowest index wins ties."""
    ties = logits == logits.amax(dim=1, keepdim=True)
    classes = torch.arange(logits.shape[1], dtype=torch.int64)
    return torch.where(ties, classes, logits.shape[1]).amin(dim=1)
