"""Event FIFO: bench on emitted Verilog, constructor checks, planted faults."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from amaranth.lib import wiring

from lmht.rtl.event_fifo import EventFifo
from lmht.rtl.events import EventLayout
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.faults import Fault, Saboteur
from lmht.sim.runner import BenchFailure, run_cocotb

LAYOUT = EventLayout.for_levels(height=5, width=6, channels=7, steps=2, max_level=3)


def run(folder: Path, component: wiring.Component, depth: int, fault: Fault = Fault.NONE) -> None:
    run_cocotb(
        [emit_verilog(component, "fifo"), *primitive_sources()],
        "fifo",
        "lmht.sim.benches.event_fifo",
        parameters={"layout": asdict(LAYOUT), "depth": depth, "fault": int(fault)},
        folder=folder,
    )


@pytest.mark.parametrize("depth", [1, 2, 5, 64])
def test_bench(depth: int, tmp_path: Path) -> None:
    run(tmp_path, EventFifo(payload=LAYOUT.payload, depth=depth), depth)


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.DUPLICATE, Fault.CORRUPT, Fault.HANG])
def test_a_planted_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    with pytest.raises(BenchFailure, match="order"):
        run(tmp_path, Saboteur(inner=EventFifo(payload=LAYOUT.payload, depth=5)), 5, fault)


def test_missing_room_is_found(tmp_path: Path) -> None:
    with pytest.raises(BenchFailure, match="4 words fit, not 5 to 7"):
        run(tmp_path, EventFifo(payload=LAYOUT.payload, depth=2), 5)


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (0, "depth must be between 1 and 16777216, not 0"),
        (2**24 + 1, "depth must be between 1 and 16777216, not "),
    ],
)
def test_init_wrong_depth(depth: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EventFifo(payload=LAYOUT.payload, depth=depth)


def test_init_wrong_depth_type() -> None:
    with pytest.raises(TypeError, match=r"depth must be an integer, not 2\.0"):
        EventFifo(payload=LAYOUT.payload, depth=2.0)  # type: ignore[arg-type]
