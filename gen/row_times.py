"""When rows of feature maps can be there at the earliest: the order in which row streaming passes through a network.

Every row of every map has a *time*: row ``r`` of the image has time ``r``; row ``r`` of a layer has the time of
the last row of its sources that it needs, ``r S - P + K - 1`` in pooled rows where the source is pooled. Rows beyond
the lower edge get their time by the same formula, as if maps went on. The last row of a map closes at ``FRAME_END``,
so it needs the last row of its sources too. No row needs a row of later time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from lmht.rtl.projection import IMAGE, ProjectionParameters
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["RowTimes", "needed_row", "taken_rows"]


def needed_row(tile: TileParameters, projection: ProjectionParameters, row: int) -> int:
    """Last row on the link that row `row` of the tile's own map needs; it may lie beyond the lower edge."""
    last = row * projection.stride[0] - projection.padding[0] + projection.kernel[0]
    last = last * projection.pool[0] - 1
    return max(last, projection.input.height - 1) if row >= tile.height - 1 else last


def taken_rows(tile: TileParameters, projection: ProjectionParameters, base: int) -> int:
    """Rows on the link whose outputs all lie in the window while row `base` of the map is the first open one."""
    beyond = base + tile.banks - 1
    if beyond >= tile.height:
        return projection.input.height
    rows = beyond * projection.stride[0] - projection.padding[0]
    return min(rows * projection.pool[0], projection.input.height)


class RowTimes:
    """Times of the rows of a network.

    Parameters
    ----------
    layers : sequence of TileParameters
        One tile of each layer.
    """

    def __init__(self, layers: Sequence[TileParameters]) -> None:
        self._layers = layers
        self.own = cache(self._own)
        self.link = cache(self._link)

    def _own(self, layer: int, row: int) -> int:
        """Time of a row of a layer's own map, before its pooling."""
        tile = self._layers[layer]
        return max(
            self.link(projection.source, needed_row(tile, projection, row)) for projection in tile.projections
        )

    def _link(self, source: int, row: int) -> int:
        """Time of a row on the link behind a source."""
        return row if source == IMAGE else self.own(source, self.last_own(source, row))

    def last_own(self, layer: int, row: int) -> int:
        """Last row of a layer's own map that row `row` of the link behind it needs."""
        tile = self._layers[layer]
        last = (row + 1) * (1 if tile.pooling is None else tile.pooling.size[0]) - 1
        return max(last, tile.height - 1) if row >= tile.output.height - 1 else last
