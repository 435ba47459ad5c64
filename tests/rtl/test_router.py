"""Event router: bench on emitted Verilog, constructor checks, planted faults."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Value

from lmht.rtl.events import EventLayout
from lmht.rtl.router import EventRouter
from lmht.rtl.select import first_of
from lmht.rtl.verilog import emit_verilog
from lmht.sim.faults import Fault, Saboteur
from lmht.sim.runner import BenchFailure, run_cocotb

BENCH = "lmht.sim.benches.router"
LAYOUT = EventLayout(height=3, width=5, channels=4, steps=2, level_bits=8)


def run(component: EventRouter | Saboteur, shape: tuple[int, int], folder: Path, **options: Any) -> None:
    parameters = {
        "layout": dataclasses.asdict(LAYOUT),
        "sources": shape[0],
        "destinations": shape[1],
        "fault": options.pop("fault", 0),
    }
    run_cocotb(
        [emit_verilog(component, "dut")], "dut", BENCH, parameters=parameters, folder=folder, **options
    )


def make(shape: tuple[int, int]) -> EventRouter:
    return EventRouter(layout=LAYOUT, sources=shape[0], destinations=shape[1])


@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 1), (1, 3), (3, 2)], ids=lambda shape: "x".join(map(str, shape))
)
def test_bench(shape: tuple[int, int], tmp_path: Path) -> None:
    run(make(shape), shape, tmp_path)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
def test_planted_fault_fails(fault: Fault, tmp_path: Path) -> None:
    component = Saboteur(inner=make((2, 1)), nth=5)
    with pytest.raises(BenchFailure, match="good_frames"):
        run(component, (2, 1), tmp_path, fault=int(fault), tests=["good_frames"])


def test_fixed_priority_fails(tmp_path: Path) -> None:
    """A router that always prefers the lowest source is not fair."""

    class Unfair(EventRouter):
        def _turn(self, requests: Value, behind: Value) -> Value:
            return first_of(requests)

    with pytest.raises(BenchFailure, match="throughput"):
        run(Unfair(layout=LAYOUT, sources=2, destinations=1), (2, 1), tmp_path, tests=["throughput"])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sources", 0, "^sources must be between 1 and 16, not 0$"),
        ("destinations", 17, "^destinations must be between 1 and 16, not 17$"),
    ],
)
def test_init_wrong_size(name: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EventRouter(**{"layout": LAYOUT, "sources": 1, "destinations": 1, name: value})
