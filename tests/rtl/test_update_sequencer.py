"""Update sequencer: bench on emitted Verilog, planted faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Const, Module

from lmht.rtl.pixel_walk import PixelWalk
from lmht.rtl.row_queue import RowQueue
from lmht.rtl.update_sequencer import UpdateSequencer
from lmht.rtl.verilog import emit_verilog
from lmht.sim.benches.update_sequencer import sequencer_parameters
from lmht.sim.faults import Fault, Saboteur
from lmht.sim.runner import BenchFailure, run_cocotb

BENCH = "lmht.sim.benches.update_sequencer"
SEED = 2718

TILES: dict[str, dict[str, Any]] = {
    "linear": {"width": 1, "height": 1, "channels": 13, "lanes": 6, "update_lanes": 2},
    "classifier": {"width": 1, "height": 1, "channels": 10, "lanes": 5, "update_lanes": 5, "levels": None},
    "one word": {
        "width": 7,
        "height": 5,
        "channels": 4,
        "lanes": 4,
        "update_lanes": 4,
        "kernel": 3,
        "constant_events": True,
    },
    "many words": {"width": 70, "height": 6, "channels": 5, "lanes": 2, "update_lanes": 1, "kernel": 5},
    "224 wide": {"width": 224, "height": 3, "channels": 2, "lanes": 2, "update_lanes": 2, "kernel": 3},
    "touched in parts": {
        "width": 19,
        "height": 4,
        "channels": 6,
        "lanes": 2,
        "update_lanes": 2,
        "kernel": 3,
        "channel_groups": 6,
        "constant_events": True,
    },
    "every pixel": {
        "width": 18,
        "height": 4,
        "channels": 3,
        "lanes": 3,
        "update_lanes": 1,
        "kernel": 3,
        "skip_quiet": False,
    },
}
FAULTY = TILES["one word"]


def run(component: UpdateSequencer | Saboteur, tile: dict[str, Any], folder: Path, **options: Any) -> None:
    run_cocotb(
        [emit_verilog(component, "dut")],
        "dut",
        BENCH,
        parameters={"tile": tile, "fault": options.pop("fault", 0)},
        folder=folder,
        seed=SEED,
        **options,
    )


def sequencer(tile: dict[str, Any]) -> UpdateSequencer:
    return UpdateSequencer(parameters=sequencer_parameters(**tile))


@pytest.mark.parametrize("name", TILES)
def test_bench(name: str, tmp_path: Path) -> None:
    run(sequencer(TILES[name]), TILES[name], tmp_path)


@pytest.mark.parametrize(
    "fault", [Fault.DROP, Fault.DUPLICATE, Fault.CORRUPT, Fault.VALID_FALLS, Fault.PAYLOAD_CHANGES]
)
def test_planted_fault_fails(fault: Fault, tmp_path: Path) -> None:
    component = Saboteur(inner=sequencer(FAULTY), nth=5)
    with pytest.raises(BenchFailure, match="rows"):
        run(component, FAULTY, tmp_path, fault=int(fault), tests=["rows"])


def test_a_pixel_skipped_that_is_not_silent_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = PixelWalk._to_visit
    monkeypatch.setattr(PixelWalk, "_to_visit", lambda self, touched, every: visit(self, touched, Const(0)))
    with pytest.raises(BenchFailure, match="rows"):
        run(sequencer(FAULTY), FAULTY, tmp_path, tests=["rows"])


def plant(monkeypatch: pytest.MonkeyPatch, method: str, fault: Callable[..., None]) -> None:
    """Let `fault` override what a method of the sequencer drives."""
    original = getattr(UpdateSequencer, method)

    def faulty(self: UpdateSequencer, m: Module, *parts: Any) -> None:
        original(self, m, *parts)
        fault(self, m, *parts)

    monkeypatch.setattr(UpdateSequencer, method, faulty)


def test_a_quiet_pixel_of_an_empty_row_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(self: UpdateSequencer, m: Module, walk: PixelWalk, queue: RowQueue) -> None:
        m.d.comb += queue.tag.quiet.eq(1)

    plant(monkeypatch, "_ask", fault)
    with pytest.raises(BenchFailure, match="'quiet': 0"):
        run(sequencer(FAULTY), FAULTY, tmp_path, tests=["rows"])


def test_an_early_token_is_found(tmp_path: Path) -> None:
    class Early(UpdateSequencer):
        def elaborate(self, platform: object) -> Module:
            m = super().elaborate(platform)
            m.d.comb += self.o.payload.last.eq(1)
            return m

    with pytest.raises(BenchFailure, match="'last': 1"):
        run(Early(parameters=sequencer_parameters(**FAULTY)), FAULTY, tmp_path, tests=["rows"])


def test_a_bank_freed_too_early_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(self: UpdateSequencer, m: Module, walk: PixelWalk, queue: RowQueue) -> None:
        # As soon as its last row can be asked for.
        pixel = walk.o.payload
        m.d.comb += self.freed.eq((walk.o.valid & queue.room & pixel.last) << pixel.bank)

    plant(monkeypatch, "_ask", fault)
    with pytest.raises(BenchFailure, match="rows"):
        run(sequencer(FAULTY), FAULTY, tmp_path, tests=["rows"])


def test_a_request_without_room_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmht.rtl.row_queue.TRANSIT", -6)
    with pytest.raises(BenchFailure, match="rows"):
        run(sequencer(FAULTY), FAULTY, tmp_path, tests=["rows"])
