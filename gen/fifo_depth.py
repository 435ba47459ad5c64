"""Depth of the FIFO in front of an input of a layer, so that branches that meet again can never lock each other.

**The danger.** A source sends each word to all its consumers, and sends no further word before all have taken it. A
layer with two inputs takes events only of rows whose outputs all lie in its window of open rows. If the short branch
runs ahead of the long one, its port stops, with it the source, and the long branch never gets the rows that would
move the window on.

**Time.** Every row of every map has a time, by which no row needs a later one (:mod:`lmht.gen.row_times`).

**Claim.** Nothing can lock if the FIFO of every input holds all words of those rows of its source that the window of
the layer does not take while its first open row is ``b``, and whose time is not later than that of row ``b``; for
every ``b``.

**Proof.** Suppose that nothing moves any more. Then some port is full and blocks its source W at row ``r``, while the
port's layer waits to close a row ``b`` because a row is missing at its other input. W's row ``r`` is later than row
``b``, or it would fit. The missing row is not later than row ``b``; following what it waits for, through inputs that
are missing in turn and never later, one comes to a layer that has its inputs and cannot send, since another port is
full, and the row it cannot send is not later than row ``b``. That row in turn is later than the row for which that
port's layer waits. So each full port leads to another one whose layer waits for a strictly earlier row. There are
finitely many: a contradiction. (A head that fits but waits for the update of its bank leads to such a layer at once:
that update ends unless the layer's own output is blocked.) Frames follow in order, and all of a frame is earlier than
the next one. An output that nobody needs any more (the readout) is always taken; tokens need no window.

The bound counts every word of a row: a frame without a single zero. For the main path of a basic block of two 3 x 3
convolutions it is zero: the window of three rows is as wide as the path's lag of two.

**Throughput.** What is safe is not yet fast: a row that leaves the source at the same time as the layer takes row
``r`` has to pass the update, the encoder and the next integration of every layer in between, each of which works on a
row while the others work on their own. While one row of a layer in between is updated and sent, the next one is
integrated, so each of these layers adds up to two of its rows to the lag. The FIFO holds as many more
(:data:`ROWS_PER_LAYER`), in rows of its source, which are more by the strides between: the branches then meet without
a wait even if no neuron is silent.

Where two busy layers follow each other, the rows of both take now longer, now shorter. A tile holds one row that is
updated while the next ones integrate; a row that the next layer does not take yet keeps its bank. A FIFO of half a
row without zeros, which is a whole row or more of events, lets both work on: on two networks of maps of 12 and 15 rows
it raised the busiest stage from 93 % to 96 % of the cycles (:mod:`lmht.gen.estimate`); a whole row added less than half
a per cent. Beside a layer that is busy half of the time or less it gains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lmht.gen.row_times import RowTimes, taken_rows
from lmht.rtl.projection import IMAGE
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["ROWS_PER_LAYER", "fifo_depths", "safe_rows", "with_link_fifos"]

ROWS_PER_LAYER = 2
BUSY = 0.5
"""Of the time of the slowest layer, from which on a layer counts as busy."""


def fifo_depths(layers: Sequence[TileParameters]) -> list[tuple[int, ...]]:
    """Words of the FIFO in front of every input of every layer; 0 where a layer has one input only.

    Parameters
    ----------
    layers : sequence of TileParameters
        One tile of each layer; the FIFOs they may have are not looked at.
    """
    ranks = _ranks(layers)
    depths = []
    for tile, rank in zip(layers, ranks, strict=True):
        words = []
        for number, projection in enumerate(tile.projections):
            link = projection.input
            between = rank - 1 - (0 if projection.source == IMAGE else ranks[projection.source])
            spare = ROWS_PER_LAYER * between * -(-link.height // tile.height)
            rows = min(safe_rows(layers, tile.layer, number) + spare, link.height)
            words.append(rows * (link.width * link.channels + 1) if len(tile.projections) > 1 else 0)
        depths.append(tuple(words))
    return depths


def with_link_fifos(
    layers: Sequence[tuple[TileParameters, ...]], times: Sequence[float]
) -> list[tuple[TileParameters, ...]]:
    """The layers with a FIFO on every link between two busy ones.

    Parameters
    ----------
    layers : sequence of tuple of TileParameters
        All tiles.
    times : sequence of float
        Expected cycles of each layer for an image.
    """
    busy = [time >= BUSY * max(times) for time in times]
    joined = []
    for tiles in layers:
        first, *others = tiles[0].projections
        if busy[tiles[0].layer] and first.source != IMAGE and busy[first.source] and not first.fifo:
            half_row = -(-(first.input.width * first.input.channels + 1) // 2)
            projections = (replace(first, fifo=half_row), *others)
            tiles = tuple(replace(tile, projections=projections) for tile in tiles)
        joined.append(tiles)
    return joined


def safe_rows(layers: Sequence[TileParameters], layer: int, projection: int) -> int:
    """Rows of its source that the FIFO of an input must hold, as claimed above: the largest excess over all ``b``."""
    times, tile = RowTimes(layers), layers[layer]
    input_ = tile.projections[projection]
    return max(
        sum(
            times.link(input_.source, row) <= times.own(layer, base)
            for row in range(taken_rows(tile, input_, base), input_.input.height)
        )
        for base in range(tile.height)
    )


def _ranks(layers: Sequence[TileParameters]) -> list[int]:
    """Layers on the longest way from the image to each layer, itself included."""
    ranks: list[int] = []
    for tile in layers:
        sources = (projection.source for projection in tile.projections)
        ranks.append(1 + max(0 if source == IMAGE else ranks[source] for source in sources))
    return ranks
