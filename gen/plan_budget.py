"""Grows a design step by step until a budget is spent: whatever is slowest gets more hardware."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lmht.gen.plan_layer import Choice, LayerPlan, build
from lmht.gen.resources import Device, design_resources
from lmht.rtl.checks import check_range
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["Budget", "DeviceBudget", "LaneBudget", "grow"]

MAX_DESTINATIONS = 16
"""Of a router."""

Layers = Sequence[tuple[TileParameters, ...]]


class Budget(Protocol):
    """What all tiles together may take."""

    def excess(self, layers: Layers) -> str | None:
        """What a design takes too much of, as ``<name> must be …, not …``; None if it fits."""


@dataclass(frozen=True)
class LaneBudget:
    """Lanes of all tiles, times the taps where all of an event's are integrated at once."""

    lanes: int

    def __post_init__(self) -> None:
        check_range("lane_budget", self.lanes, 1, 2**20)

    def excess(self, layers: Layers) -> str | None:
        used = sum(
            tile.lanes * (sum(projection.taps for projection in tile.projections) if tile.tap_unroll else 1)
            for tiles in layers
            for tile in tiles
        )
        if used <= self.lanes:
            return None
        return f"lane_budget must be at least {used} for the smallest design, not {self.lanes}"


@dataclass(frozen=True)
class DeviceBudget:
    """A device, apart from the part of its logic that place and route needs to find its ways."""

    device: Device

    def excess(self, layers: Layers) -> str | None:
        used = design_resources([tile for tiles in layers for tile in tiles], self.device)
        limit = self.device.usable
        for name in ("lut4", "flip_flops", "block_rams", "multipliers"):
            if getattr(used, name) > getattr(limit, name):
                text = name.replace("_", " ")
                return (
                    f"device must have at least {getattr(used, name):,.0f} {text} to spare for the smallest design, "
                    f"not {getattr(limit, name):,.0f} as {self.device.name}"
                )
        return None


def grow(
    layers: Sequence[LayerPlan],
    fixed: float,
    budget: Budget,
    *,
    tiles: Callable[[int], int],
    unrolls: Callable[[int], bool | None],
) -> list[Choice]:
    """Give the slowest layer its next step until it does not fit, or lanes are no longer what limits the design.

    Parameters
    ----------
    layers : sequence of LayerPlan
    fixed : float
        Cycles that no number of lanes changes: the frame encoder's, and one for each event of the busiest link.
    budget : Budget
    tiles : function of int
        Fewest tiles of a layer.
    unrolls : function of int
        Whether a layer integrates all taps at once; None to decide as it pays.

    Raises
    ------
    ValueError
        If the smallest design does not fit.
    """
    choices = [
        layer.smallest(tiles=tiles(number), tap_unroll=bool(unrolls(number)))
        for number, layer in enumerate(layers)
    ]
    choices = _with_updates(layers, choices)
    excess = budget.excess(build(layers, choices))
    if excess is not None:
        raise ValueError(excess)
    while True:
        times = [layer.time(choice) for layer, choice in zip(layers, choices, strict=True)]
        slowest = max(range(len(layers)), key=times.__getitem__)
        if times[slowest] <= fixed:
            return choices
        for step in layers[slowest].steps(choices[slowest], may_unroll=unrolls(slowest) is None):
            grown = _with_updates(layers, [*choices[:slowest], step, *choices[slowest + 1 :]])
            faster = layers[slowest].time(grown[slowest]) < times[slowest]
            if faster and _routable(layers, grown) and budget.excess(build(layers, grown)) is None:
                choices = grown
                break
        else:
            return choices


def _with_updates(layers: Sequence[LayerPlan], choices: Sequence[Choice]) -> list[Choice]:
    """The choices with updates that are no slower than the slowest integration of the design."""
    limit = max(
        layer.work(replace(choice, update_lanes=1, mix_multipliers=1)).integration
        for layer, choice in zip(layers, choices, strict=True)
    )
    return [layer.with_update(choice, limit) for layer, choice in zip(layers, choices, strict=True)]


def _routable(layers: Sequence[LayerPlan], choices: Sequence[Choice]) -> bool:
    """Whether no router gets too many tiles to send to."""
    destinations: dict[int, int] = {}
    for layer, choice in zip(layers, choices, strict=True):
        for projection in layer.whole.projections:
            destinations[projection.source] = destinations.get(projection.source, 0) + choice.tiles
    return max(destinations.values()) <= MAX_DESTINATIONS
