"""Tile of a Linear layer: every output word against NUMERICS.md, malformed input, cycles; planted faults are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Const

from lmht.gen.integer import IntegerNetwork
from lmht.gen.plan import PlanOptions
from lmht.rtl.parameters import DesignParameters
from lmht.sim.random_networks import random_design
from lmht.sim.runner import BenchFailure

SEED = 20240607

RunTile = Callable[..., None]


def make_design(rng: np.random.Generator, **options: Any) -> tuple[IntegerNetwork, DesignParameters]:
    planned = ("lanes", "split", "update_lanes", "mix_multipliers")
    plan_options = PlanOptions(**{key: options.pop(key) for key in planned if key in options})
    return random_design(rng, plan_options=plan_options, **options)


CASES = {
    "if_lanes1": {"steps": 4, "levels": 1, "lanes": [1, 1], "widths": (5, 3), "input_shape": (1, 3, 5)},
    "groups1": {"steps": 2, "levels": 2, "lanes": [16, 10], "widths": (16, 10)},
    "groups2_lanes7": {"steps": 2, "levels": 3, "lanes": [7, 5], "widths": (13, 10), "update_lanes": 7},
    "groups3": {"steps": 3, "levels": 3, "lanes": [4, 4], "widths": (12, 9), "mix_multipliers": 3},
    "groups4": {"steps": 2, "levels": 2, "lanes": [3, 3], "widths": (11, 10), "update_lanes": 3},
    "groups5_leak": {
        "steps": 4,
        "levels": 2,
        "leak": True,
        "lanes": [2, 2],
        "widths": (10, 4),
        "weight_bits": 8,
    },
    "one_step": {"steps": 1, "levels": 4, "lanes": [8, 8], "widths": (20, 10), "weight_bits": 2},
    "eight_steps": {
        "steps": 8,
        "levels": 1,
        "lanes": [8, 8],
        "widths": (16, 8),
        "mix_multipliers": 64,
        "update_lanes": 2,
        "leak": True,
    },
    "wide_membrane": {
        "steps": 2,
        "levels": 15,
        "leak": True,
        "fraction_bits": 16,
        "multiplier_bits": 20,
        "weight_bits": 8,
        "lanes": [8, 8],
        "widths": (16, 8),
    },
    "rgb": {"steps": 2, "levels": 2, "input_shape": (3, 4, 5), "lanes": [5, 5], "widths": (15, 7)},
}


@pytest.mark.parametrize("case", CASES)
def test_every_word_of_every_frame(case: str, run_tile: RunTile) -> None:
    rng = np.random.default_rng(SEED)
    network, design = make_design(rng, **CASES[case])
    run_tile(network, design, design.tiles[0], idle=["bursts"], ready="half", malformed=0.03, frames=12)


@pytest.mark.parametrize("case", ["groups1", "groups5_leak", "eight_steps"])
def test_classifier(case: str, run_tile: RunTile) -> None:
    network, design = make_design(np.random.default_rng(SEED), **CASES[case])
    run_tile(network, design, design.tiles[-1], idle=["bursts"], ready="half", malformed=0.03, frames=12)


@pytest.mark.parametrize(
    ("idle", "ready"), [("always", "always"), ("rarely", "always"), ("always", "rarely"), ("half", "bursts")]
)
def test_idle_and_back_pressure(idle: str, ready: str, run_tile: RunTile) -> None:
    rng = np.random.default_rng(SEED)
    network, design = make_design(rng, widths=(24, 16, 10), lanes=[8, 4, 10])
    run_tile(network, design, design.tiles[1], idle=[idle], ready=ready, frames=20, malformed=0.02)


def test_slices_of_one_layer(run_tile: RunTile) -> None:
    rng = np.random.default_rng(SEED)
    network, design = make_design(rng, widths=(23, 10), lanes=[4, 4], split={0: 3})
    for tile in design.layers[0]:
        run_tile(network, design, tile, frames=6)


@pytest.mark.parametrize("lanes", [4, 16])
def test_integration_sets_the_pace(lanes: int, run_tile: RunTile) -> None:
    """With the input always there a frame takes ``events * groups + 1`` cycles: no bubble between events or frames."""
    rng = np.random.default_rng(SEED)
    network, design = make_design(
        rng, widths=(32, 10), lanes=[lanes, 5], input_shape=(1, 12, 12), steps=1, levels=3
    )
    run_tile(network, design, design.tiles[0], frames=14, density=0.6, steady=True)


def test_a_wrong_reset_is_found(run_tile: RunTile, monkeypatch: pytest.MonkeyPatch) -> None:
    import lmht.rtl.fire as fire

    original = fire._join
    monkeypatch.setattr(fire, "_join", lambda fraction, units: original(fraction, units + 1))
    rng = np.random.default_rng(SEED)
    network, design = make_design(rng)
    with pytest.raises(BenchFailure, match="expected Event"):
        run_tile(network, design, design.tiles[0])


def test_a_missing_hazard_forward_is_found(run_tile: RunTile, without_forward: Callable[[int], None]) -> None:
    without_forward(2)
    rng = np.random.default_rng(SEED)
    network, design = make_design(
        rng, widths=(8, 9), lanes=[4, 4]
    )  # two groups: every event hits at distance 2
    with pytest.raises(BenchFailure):
        run_tile(network, design, design.tiles[0])


def test_an_unchecked_level_is_found(run_tile: RunTile, monkeypatch: pytest.MonkeyPatch) -> None:

    import lmht.rtl.event_filter as event_filter

    monkeypatch.setattr(event_filter, "exceeds", lambda value, largest, *_: Const(0))
    rng = np.random.default_rng(SEED)
    network, design = make_design(rng)
    with pytest.raises(BenchFailure):
        run_tile(network, design, design.tiles[1], malformed=0.1)
