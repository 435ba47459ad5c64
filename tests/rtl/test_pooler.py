"""Pooler: bench on emitted Verilog, constructor checks, planted faults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lmht.rtl.pooler as pooler
from lmht.rtl.pooler import Pooler
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.benches.pooler import pooled_parameters
from lmht.sim.faults import Fault, Saboteur
from lmht.sim.runner import BenchFailure, run_cocotb

BENCH = "lmht.sim.benches.pooler"
SEED = 717

Case = tuple[dict[str, Any], tuple[str, int, int]]

CASES: dict[str, Case] = {
    "sum 2x2": (
        {"channels": 4, "update_lanes": 4, "levels": 2, "steps": 2, "height": 6, "width": 8},
        ("sum", 2, 2),
    ),
    "max 2x2, cut off": (
        {"channels": 6, "update_lanes": 2, "levels": 3, "steps": 2, "height": 5, "width": 7},
        ("max", 2, 2),
    ),
    "sum 3x3, cut off": (
        {"channels": 5, "update_lanes": 3, "levels": 15, "steps": 1, "height": 11, "width": 20},
        ("sum", 3, 3),
    ),
    "max 1x4": (
        {"channels": 1, "update_lanes": 1, "levels": 2, "steps": 3, "height": 3, "width": 70},
        ("max", 1, 4),
    ),
    "sum of all": (
        {"channels": 9, "update_lanes": 4, "levels": 2, "steps": 2, "height": 4, "width": 4},
        ("sum", 4, 4),
    ),
}
FAULTY = CASES["max 2x2, cut off"]
SPEAKING = CASES["sum 2x2"]
"""Every vector it sends speaks or ends a row: none can be lost or doubled unnoticed."""


def run(component: Pooler | Saboteur, case: Case, folder: Path, **options: Any) -> None:
    tile, pooling = case
    run_cocotb(
        [emit_verilog(component, "dut"), *primitive_sources()],
        "dut",
        BENCH,
        parameters={"tile": tile, "pooling": pooling, "fault": options.pop("fault", 0)},
        folder=folder,
        seed=SEED,
        **options,
    )


@pytest.mark.parametrize("name", CASES)
def test_bench(name: str, tmp_path: Path) -> None:
    run(Pooler(parameters=pooled_parameters(*CASES[name])), CASES[name], tmp_path)


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.DUPLICATE, Fault.CORRUPT, Fault.PAYLOAD_CHANGES])
def test_planted_fault_fails(fault: Fault, tmp_path: Path) -> None:
    component = Saboteur(inner=Pooler(parameters=pooled_parameters(*SPEAKING)), nth=5)
    with pytest.raises(BenchFailure, match="frames"):
        run(component, SPEAKING, tmp_path, fault=int(fault), tests=["frames"])


def test_a_window_off_by_one_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    divide = pooler.divide
    monkeypatch.setattr(
        pooler,
        "divide",
        lambda m, enable, value, divisor, **options: divide(
            m, enable, (value + 1)[: len(value)], divisor, **options
        ),
    )
    with pytest.raises(BenchFailure, match="expected level"):
        run(Pooler(parameters=pooled_parameters(*FAULTY)), FAULTY, tmp_path, tests=["frames"])


def test_a_buffer_that_is_not_cleared_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_hot = pooler._one_hot
    # The first of its two calls names the buffer to clear.
    calls = iter(range(2))
    monkeypatch.setattr(pooler, "_one_hot", lambda bank, enable: one_hot(bank, enable if next(calls) else 0))
    with pytest.raises(BenchFailure, match="expected level"):
        run(Pooler(parameters=pooled_parameters(*FAULTY)), FAULTY, tmp_path, tests=["frames"])


def test_init_without_pooling() -> None:
    with pytest.raises(ValueError, match=r"^parameters must have pooling, not None$"):
        Pooler(parameters=replace(pooled_parameters(*FAULTY), pooling=None))
