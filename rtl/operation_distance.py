"""How soon two operations may hit the same accumulator row, by the order in which the address generators walk."""

from __future__ import annotations

from functools import cache
from itertools import product

from lmht.rtl.accumulators import WRITTEN_CYCLE
from lmht.rtl.event_address import is_flat
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["least_distance"]

Place = tuple[int, int, int]  # output row, column, group
Positions = tuple[int, ...]
Sets = tuple[Positions, ...]


def least_distance(parameters: TileParameters) -> int:
    """Fewest cycles between two operations on one accumulator row, or ``WRITTEN_CYCLE`` if that is less.

    Events of an input row come in any order, and an event follows the one before it without a gap at best. A gap makes
    any distance larger, so that what is possible is this distance and all above it.
    """
    if parameters.partial:
        return 1
    projections = range(len(parameters.projections))
    rows = [_row_sets(parameters, projection) for projection in projections]
    columns = [_column_sets(parameters, projection) for projection in projections]
    if parameters.tap_unroll or all(len(one) == 1 for sets in (*rows, *columns) for one in sets):
        # One pixel, or all pixels at once: an event's operations are the groups, in order.
        return min(parameters.groups, WRITTEN_CYCLE)
    if len(projections) > 1:
        return 1
    # No operation sees more groups than these.
    return _least_of_walks(rows[0], columns[0], min(parameters.groups, 2 * WRITTEN_CYCLE))


@cache
def _least_of_walks(rows: Sets, columns: Sets, groups: int) -> int:
    """The same for events that walk over one of `rows` and one of `columns`."""
    found = WRITTEN_CYCLE
    for (rows_before, rows_behind), (columns_before, columns_behind) in product(
        _pairs(rows, in_order=True), _pairs(columns, in_order=False)
    ):
        before = _walk(rows_before, columns_before, range(groups))
        behind = _walk(rows_behind, columns_behind, range(groups))
        # What lies before a short event comes close, too.
        found = min(found, len(before) + 1)
        found = min(
            [found]
            + [
                1 + back + ahead
                for back, place in enumerate(reversed(before[-WRITTEN_CYCLE:]))
                for ahead, other in enumerate(behind[:WRITTEN_CYCLE])
                if place == other
            ]
        )
    return found


def _walk(rows: Positions, columns: Positions, groups: range) -> list[Place]:
    """Operations of an event in order: every step changes one coordinate, inner loops run back the way they came."""
    places = []
    columns_now, groups_now = columns, tuple(groups)
    for row in rows:
        for column in columns_now:
            places += [(row, column, group) for group in groups_now]
            groups_now = groups_now[::-1]
        columns_now = columns_now[::-1]
    return places


def _pairs(sets: Sets, *, in_order: bool) -> set[tuple[Positions, Positions]]:
    """All pairs of sets that share a position, moved to 0: only how they lie to each other matters."""
    found = set()
    for place, first in enumerate(sets):
        for second in sets[place:] if in_order else sets:
            if set(first) & set(second):
                base = min(first + second)
                found.add((tuple(a - base for a in first), tuple(b - base for b in second)))
    return found


def _row_sets(parameters: TileParameters, projection: int) -> Sets:
    if is_flat(parameters, projection):
        return ((0,),)
    return _sets(parameters, projection, 0, parameters.height)


def _column_sets(parameters: TileParameters, projection: int) -> Sets:
    return _sets(parameters, projection, 1, parameters.width)


def _sets(parameters: TileParameters, projection: int, axis: int, size: int) -> Sets:
    own = parameters.projections[projection]
    return _reached(own.kernel[axis], own.stride[axis], own.padding[axis], own.pooled[axis], size)


@cache
def _reached(kernel: int, stride: int, padding: int, places: int, size: int) -> Sets:
    """For every input position along an axis the output positions that it reaches, that of the lowest tap first."""
    sets = [
        tuple(out for out in reversed(range(size)) if 0 <= place + padding - out * stride < kernel)
        for place in range(places)
    ]
    return tuple(one for one in sets if one)
