"""Runs of the tile bench, shared by the tests of tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Const, Module

from lmht.gen.integer import IntegerNetwork
from lmht.gen.memory_contents import pack_memories
from lmht.rtl.accumulators import AccumulatorMemory
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.tile import Tile
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES, TileParameters
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.runner import run_cocotb

SEED = 20240607

RunTile = Callable[..., None]


def write_data(path: Path, network: IntegerNetwork, design: DesignParameters, tile: TileParameters) -> None:
    """What the bench needs of a network: arrays of the tile's layer, contents of its memories."""
    layer = network.layers[tile.layer]
    contents = pack_memories(design, network)
    np.savez(
        path,
        **{
            name: projection.weights
            for name, projection in zip(WEIGHT_MEMORIES, layer.projections, strict=False)
        },
        bias=layer.bias,
        multipliers=layer.multipliers,
        leak=np.zeros(0) if layer.leak is None else layer.leak,
        initial_membrane=layer.initial_membrane,
        **{f"memory_{name}": contents[f"{tile.name}_{name}"] for name in tile.memories},
    )


@pytest.fixture
def run_tile(tmp_path: Path) -> RunTile:
    """Run the bench on one tile of a design; further arguments are parameters of the bench."""

    def run(network: IntegerNetwork, design: DesignParameters, tile: TileParameters, **bench: object) -> None:
        data = tmp_path / f"{tile.name}.npz"
        write_data(data, network, design, tile)
        settings = {
            "frames": 8,
            "idle": ["always"] * len(tile.projections),
            "ready": "always",
            "malformed": 0.0,
            "density": 0.3,
            **bench,
        }
        run_cocotb(
            [emit_verilog(Tile(parameters=tile), "tile"), *primitive_sources()],
            "tile",
            "lmht.sim.benches.tile",
            parameters={"tile": asdict(tile), "data": str(data), **settings},
            folder=tmp_path / tile.name,
            seed=SEED,
        )

    return run


@pytest.fixture
def without_forward(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Plant a fault: results of operations at one distance on a row are not forwarded."""
    hit = AccumulatorMemory._hit

    def plant(distance: int) -> None:
        def missing(self: AccumulatorMemory, m: Module, valid: Any, where: Any, number: int) -> Any:
            return Const(0) if number == distance else hit(self, m, valid, where, number)

        monkeypatch.setattr(AccumulatorMemory, "_hit", missing)

    return plant
