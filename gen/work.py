"""Work of a tile: what an event costs by its coordinates, and what an average frame costs.

An event is integrated once for every output pixel that one of its kernel's taps reaches, and for every group of
lanes that its channel is connected to. The three factors belong to its row, its column and its channel alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lmht.rtl.projection import ProjectionParameters
from lmht.rtl.tile_parameters import TileParameters

__all__ = [
    "TileWork",
    "channel_spans",
    "expected_work",
    "reached_outputs",
    "stolen_cycles",
]

CLOSING_CYCLES = 2
"""Of the synapse lanes for a row that closes, until the first event behind it."""

IntArray = NDArray[np.int64]


@lru_cache(maxsize=1024)
def reached_outputs(projection: ProjectionParameters, axis: int) -> IntArray:
    """Output rows (`axis` 0) or columns (1) that an event reaches, by its row or column on the link.

    0 where folded pooling leaves the coordinate out, or where no kernel touches it.
    """
    size = (projection.input.height, projection.input.width)[axis]
    pool, kernel, stride = projection.pool[axis], projection.kernel[axis], projection.stride[axis]
    padding = projection.padding[axis]
    place = np.arange(size) // pool + padding
    first = np.maximum(-(-(place - kernel + 1) // stride), 0)
    last = np.minimum(place // stride, projection.output[axis] - 1)
    reached: IntArray = np.where(np.arange(size) // pool < projection.pooled[axis], last - first + 1, 0)
    return np.maximum(reached, 0)


def channel_spans(tile: TileParameters, projection: int) -> IntArray:
    """Groups of lanes that an event meets, by its channel."""
    parameters = tile.projections[projection]
    if parameters.channel_groups == 1:
        return np.full(parameters.input.channels, tile.groups, dtype=np.int64)
    channels = range(parameters.input.channels)
    return np.array([tile.spans(projection, channel) for channel in channels], dtype=np.int64)


@dataclass(frozen=True)
class TileWork:
    """Cycles of work for an average frame.

    Attributes
    ----------
    projections : tuple of float
        Of the synapse lanes for the events of each projection: events x outputs x groups.
    closing : float
        Of the synapse lanes for the rows that close.
    stolen : float
        Of the synapse lanes while the update reads the accumulators.
    update : float
        Of the neuron array: pixels that are updated.
    constant : float
        Of the neuron array: pixels that send constant events.
    """

    projections: tuple[float, ...]
    closing: float
    stolen: float
    update: float
    constant: float

    @property
    def integration(self) -> float:
        return sum(self.projections) + self.closing + self.stolen

    @property
    def neurons(self) -> float:
        """Of the neuron array, in all."""
        return self.update + self.constant


def expected_work(tile: TileParameters, events: Sequence[float]) -> TileWork:
    """Work for events spread evenly over the map; `events` are those on the link of each projection."""
    integration = []
    untouched = 1.0
    for number, (projection, count) in enumerate(zip(tile.projections, events, strict=True)):
        rows, columns = (reached_outputs(projection, axis) for axis in (0, 1))
        if tile.tap_unroll:
            rows, columns = np.minimum(rows, 1), np.minimum(columns, 1)
        spans = channel_spans(tile, number)
        integration.append(count * float(rows.mean() * columns.mean() * spans.mean()))
        density = min(1.0, count / projection.input.positions)
        inputs = projection.taps * projection.pool[0] * projection.pool[1] * projection.input.channels
        untouched *= (1 - density) ** (inputs / projection.channel_groups)
    if not tile.skip_quiet or tile.neuron.is_classifier:
        untouched = 0.0
    pixels = tile.height * tile.width
    update = pixels * (1 - untouched) * tile.update_cycles
    constant = pixels * untouched * tile.update_rows if tile.constant_events else 0.0
    stolen = update * stolen_cycles(tile)
    return TileWork(tuple(integration), tile.height * CLOSING_CYCLES, stolen, update, constant)


def stolen_cycles(tile: TileParameters) -> float:
    """Cycles that the synapse lanes lose for each cycle of the update: one for an accumulator row that it fetches.

    With ``tap_unroll`` other memories than those that are fetched integrate on.
    """
    return 0.0 if tile.tap_unroll else 1 / (tile.row_slots * tile.mix_phases)
