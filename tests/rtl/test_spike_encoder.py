"""Spike encoder: bench on emitted Verilog, constructor checks, planted faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Cat
from amaranth.lib import data

from lmht.rtl.spike_encoder import SpikeEncoder
from lmht.rtl.verilog import emit_verilog
from lmht.sim.benches.spike_encoder import encoder_parameters
from lmht.sim.faults import Fault, Saboteur
from lmht.sim.runner import BenchFailure, run_cocotb

BENCH = "lmht.sim.benches.spike_encoder"

TILES: dict[str, dict[str, Any]] = {
    "4 lanes with padding, 2 steps": {
        "channels": 18,
        "update_lanes": 4,
        "levels": 3,
        "steps": 2,
        "offset": 7,
        "beyond": 5,
    },
    "1 lane": {"channels": 9, "update_lanes": 1, "levels": 2, "steps": 3},
    "one row": {"channels": 5, "update_lanes": 6, "levels": 1, "steps": 1},
    "classifier": {"channels": 10, "update_lanes": 4, "levels": None},
    "map": {"channels": 5, "update_lanes": 2, "levels": 2, "steps": 2, "offset": 3, "height": 3, "width": 6},
}
PADDED = TILES["4 lanes with padding, 2 steps"]


def run(component: SpikeEncoder | Saboteur, tile: dict[str, Any], folder: Path, **options: Any) -> None:
    parameters = {"tile": tile, "fault": options.pop("fault", 0)}
    text = emit_verilog(component, "dut")
    run_cocotb([text], "dut", BENCH, parameters=parameters, folder=folder, **options)


@pytest.mark.parametrize("name", TILES)
def test_bench(name: str, tmp_path: Path) -> None:
    run(SpikeEncoder(parameters=encoder_parameters(**TILES[name])), TILES[name], tmp_path)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
def test_planted_fault_fails(fault: Fault, tmp_path: Path) -> None:
    component = Saboteur(inner=SpikeEncoder(parameters=encoder_parameters(**PADDED)), nth=5)
    with pytest.raises(BenchFailure, match="frames"):
        run(component, PADDED, tmp_path, fault=int(fault), tests=["frames"])


def test_sending_padding_fails(tmp_path: Path) -> None:
    class Padded(SpikeEncoder):
        def _speaking_lanes(self, vector: data.View) -> Cat:
            return Cat(levels.as_value().any() for levels in vector.levels)

    with pytest.raises(BenchFailure, match="frames"):
        run(Padded(parameters=encoder_parameters(**PADDED)), PADDED, tmp_path, tests=["frames"])


def test_init_wrong_parameters() -> None:
    with pytest.raises(TypeError, match=r"^parameters must be TileParameters, not 3$"):
        SpikeEncoder(parameters=3)  # type: ignore[arg-type]
