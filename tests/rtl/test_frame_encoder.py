"""Frame encoder: bench on emitted Verilog, constructor checks, planted faults."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lmht.rtl.frame_encoder import FrameEncoder
from lmht.rtl.parameters import FrameParameters
from lmht.rtl.verilog import emit_verilog
from lmht.sim.faults import Fault, Saboteur
from lmht.sim.runner import BenchFailure, run_cocotb

BENCH = "lmht.sim.benches.frame_encoder"

FRAMES = {
    "28x28x1 by 8": FrameParameters(height=28, width=28, channels=1, bytes_per_beat=8),
    "8x8x1 by 16": FrameParameters(height=8, width=8, channels=1, bytes_per_beat=16),
    "5x3x3 by 4": FrameParameters(height=5, width=3, channels=3, bytes_per_beat=4),
    "4x3x3 by 2": FrameParameters(height=4, width=3, channels=3, bytes_per_beat=2),
    "1x1x16 by 8": FrameParameters(height=1, width=1, channels=16, bytes_per_beat=8),
    "1x7x1 by 1": FrameParameters(height=1, width=7, channels=1, bytes_per_beat=1),
}


def run(component: FrameEncoder | Saboteur, frame: FrameParameters, folder: Path, **options: object) -> None:
    parameters = {"frame": dataclasses.asdict(frame), "fault": options.pop("fault", 0)}
    run_cocotb(
        [emit_verilog(component, "dut")], "dut", BENCH, parameters=parameters, folder=folder, **options
    )


@pytest.mark.parametrize("name", FRAMES)
def test_bench(name: str, tmp_path: Path) -> None:
    run(FrameEncoder(frame=FRAMES[name]), FRAMES[name], tmp_path)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
def test_planted_fault_fails(fault: Fault, tmp_path: Path) -> None:
    frame = FRAMES["5x3x3 by 4"]
    component = Saboteur(inner=FrameEncoder(frame=frame), nth=5)
    with pytest.raises(BenchFailure, match="good_frames"):
        run(component, frame, tmp_path, fault=int(fault), tests=["good_frames"])


def test_saboteur_without_a_fault_passes(tmp_path: Path) -> None:
    frame = FRAMES["5x3x3 by 4"]
    run(Saboteur(inner=FrameEncoder(frame=frame), nth=5), frame, tmp_path)


def test_init_wrong_frame() -> None:
    with pytest.raises(TypeError, match=r"^frame must be FrameParameters, not 3$"):
        FrameEncoder(frame=3)  # type: ignore[arg-type]
