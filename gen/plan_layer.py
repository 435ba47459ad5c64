"""Choices about the hardware of one layer, and the time each of them takes for an average frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from lmht.gen.fifo_depth import with_link_fifos
from lmht.gen.plan_tiles import slice_channels
from lmht.gen.work import TileWork, expected_work, reached_outputs
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["MAX_LANES", "Choice", "LayerPlan", "build"]

MAX_LANES = 128
ROW_SLACK = 4
"""On MNIST the busiest layer of a network of two convolutions works 96.6 % of the time with 4, 93.5 % with 2."""


@dataclass(frozen=True)
class Choice:
    """Size of a layer's hardware; the parameters of :class:`~lmht.rtl.tile_parameters.TileParameters`."""

    lanes: int = 1
    tiles: int = 1
    tap_unroll: bool = False
    update_lanes: int = 1
    mix_multipliers: int = 1


class LayerPlan:
    """What can be chosen for a layer.

    Parameters
    ----------
    tile : TileParameters
        The whole layer as one tile.
    events : sequence of float
        Expected events on the link of each input.
    most_update_lanes, most_mix_multipliers : int or None
        Limits; None for none. The largest possible value up to the number is taken, not less.
    """

    def __init__(
        self,
        tile: TileParameters,
        events: Sequence[float],
        *,
        most_update_lanes: int | None = None,
        most_mix_multipliers: int | None = None,
    ) -> None:
        self.whole = tile
        self._events = tuple(events)
        self._limits = most_update_lanes, most_mix_multipliers
        self.work = cache(self._work)

    def build(self, choice: Choice) -> tuple[TileParameters, ...]:
        """The tiles of the layer."""
        return tuple(
            replace(
                self.whole,
                name=f"layer{self.whole.layer}_tile{number}",
                channel_offset=offset,
                channels=size,
                lanes=choice.lanes,
                tap_unroll=choice.tap_unroll,
                update_lanes=choice.update_lanes,
                mix_multipliers=choice.mix_multipliers,
            )
            for number, (offset, size) in enumerate(slice_channels(self.whole.channels, choice.tiles))
        )

    def _work(self, choice: Choice) -> TileWork:
        """Of the largest tile."""
        return expected_work(self.build(choice)[0], self._events)

    def time(self, choice: Choice) -> float:
        """Cycles of the slower of integration and update."""
        work = self.work(choice)
        return max(work.integration, work.neurons)

    def channels(self, choice: Choice) -> int:
        """Of the largest tile."""
        return -(-self.whole.channels // choice.tiles)

    def smallest(self, *, tiles: int, tap_unroll: bool) -> Choice:
        """One lane, with the update's limits kept; all taps at once only where an event has more than one."""
        choice = Choice(tiles=tiles, tap_unroll=tap_unroll and self.has_taps)
        return self.with_update(choice, float("inf"))

    @property
    def has_taps(self) -> bool:
        """Whether an event of the layer can reach more than one output pixel."""
        return any(
            int(reached_outputs(projection, axis).max()) > 1
            for projection in self.whole.projections
            for axis in (0, 1)
        )

    def within(self, limit: float, *, tiles: int, tap_unroll: bool) -> Choice:
        """The fewest lanes with which integration takes at most `limit` cycles, or as many as there may be."""
        choice = self.smallest(tiles=tiles, tap_unroll=tap_unroll)
        while self.work(choice).integration > limit and (more := self.more_lanes(choice)):
            choice = more
        return choice

    def more_lanes(self, choice: Choice) -> Choice | None:
        """The next larger number of lanes that saves a group, if there is one."""
        channels = self.channels(choice)
        groups = -(-channels // choice.lanes)
        if groups == 1:
            return None
        lanes = -(-channels // (groups - 1))
        return replace(choice, lanes=lanes, update_lanes=1) if lanes <= MAX_LANES else None

    def steps(self, choice: Choice, *, may_unroll: bool) -> Iterator[Choice]:
        """What makes the layer faster, the least first: more lanes, then more tiles, then all taps at once."""
        more = self.more_lanes(choice)
        if more:
            yield more
        elif self.channels(choice) > MAX_LANES:
            tiles = choice.tiles + 1
            yield replace(choice, tiles=tiles, lanes=min(MAX_LANES, -(-self.whole.channels // tiles)))
        elif may_unroll and self.has_taps and not choice.tap_unroll:
            yield replace(choice, tap_unroll=True)

    def with_update(self, choice: Choice, limit: float) -> Choice:
        """The fewest multipliers, then the fewest update lanes, with which the update takes no longer than the
        integration or `limit` cycles; the fastest choice if none does.

        A map of several rows is updated :data:`ROW_SLACK` times as fast: its rows differ, and a row with few events is
        integrated no faster than the one before is updated.
        """
        limit = max(limit, self.work(choice).integration)
        if self.whole.height > 1:
            limit /= ROW_SLACK
        choices = [
            replace(choice, update_lanes=lanes, mix_multipliers=multipliers)
            for lanes in self._update_lanes(choice)
            for multipliers in self._mix_multipliers()
        ]
        choices.sort(key=lambda one: (one.update_lanes * one.mix_multipliers, one.update_lanes))
        for one in choices:
            if self.work(one).neurons <= limit:
                return one
        return min(choices, key=lambda one: self.work(one).neurons)

    def _update_lanes(self, choice: Choice) -> list[int]:
        counts = [count for count in range(1, choice.lanes + 1) if choice.lanes % count == 0]
        most = self._limits[0]
        return counts if most is None else [max(count for count in counts if count <= most)]

    def _mix_multipliers(self) -> list[int]:
        counts = list(self.whole.neuron.mix_choices)
        most = self._limits[1]
        return counts if most is None else [max(count for count in counts if count <= most)]


def build(layers: Sequence[LayerPlan], choices: Sequence[Choice]) -> list[tuple[TileParameters, ...]]:
    """All tiles, with FIFOs between the busy layers."""
    times = [layer.time(choice) for layer, choice in zip(layers, choices, strict=True)]
    return with_link_fifos(
        [layer.build(choice) for layer, choice in zip(layers, choices, strict=True)], times
    )
