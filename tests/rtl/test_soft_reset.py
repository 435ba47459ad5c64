"""Soft resets of a whole design through its registers; planted faults are found."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module

from lmht.gen.images import encode_image
from lmht.gen.memory_contents import pack_memories
from lmht.gen.plan import PlanOptions
from lmht.rtl import accelerator
from lmht.rtl.accelerator import Accelerator
from lmht.rtl.frame_gate import FrameGate
from lmht.rtl.result_gate import ResultGate
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.random_conv_networks import random_conv_network
from lmht.sim.random_networks import random_design, random_images
from lmht.sim.runner import BenchFailure, run_cocotb

SEED = 404
CONVOLUTIONS_SEED = 5
"""Gives a network with pooling and a residual branch behind a FIFO."""


def run(
    tmp_path: Path,
    rounds: int,
    idle: float = 0.0,
    back_pressure: float = 0.0,
    *,
    convolutions: bool = False,
    **options: Any,
) -> None:
    rng = np.random.default_rng(CONVOLUTIONS_SEED if convolutions else SEED)
    if convolutions:
        network, design = random_design(
            rng, name="dut", make=random_conv_network, hidden_layers=(3, 3), max_size=6, max_channels=4
        )
        assert any(tile.pooling for tile in design.tiles)
        assert any(projection.fifo for tile in design.tiles for projection in tile.projections)
    else:
        network, design = random_design(
            rng,
            name="dut",
            plan_options=PlanOptions(lanes=4, split={0: 2}),
            input_shape=(1, 5, 5),
            widths=(12, 6),
            leak=True,
        )
    image = tmp_path / "image.bin"
    image.write_bytes(encode_image(design, pack_memories(design, network)))
    frames = tmp_path / "frames.bin"
    images = random_images(rng, 4, network.input_shape)
    frames.write_bytes(images.transpose(0, 2, 3, 1).tobytes())
    run_cocotb(
        [emit_verilog(Accelerator(parameters=design), "dut"), *primitive_sources()],
        "dut",
        "lmht.sim.benches.soft_reset",
        parameters={
            "parameters": asdict(design),
            "image_file": str(image),
            "frames": str(frames),
            "idle": idle,
            "back_pressure": back_pressure,
            "rounds": rounds,
        },
        build_args=("-O1",),
        folder=tmp_path,
        seed=SEED,
        **options,
    )


@pytest.mark.parametrize(("idle", "back_pressure"), [(0, 0), (0.4, 0.6)])
def test_the_next_frame_is_right(idle: float, back_pressure: float, tmp_path: Path) -> None:
    run(tmp_path, 20, idle, back_pressure)


@pytest.mark.slow
def test_the_next_frame_is_right_behind_convolutions(tmp_path: Path) -> None:
    """Rows, windows and banks that were open, pooling, a residual branch: all of it begins anew."""
    run(tmp_path, 10, 0.2, 0.3, convolutions=True)


class ForgetfulGate(FrameGate):
    """Takes the rest of a frame that was given up for a new one."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.o.payload.eq(self.i.payload),
            self.o.valid.eq(self.i.valid & self.enable),
            self.i.ready.eq(self.o.ready & self.enable),
        ]
        return m


class OpenEnd(ResultGate):
    """Lets a result that was cut off run into the next one."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.o.valid.eq(self.i.valid),
            self.o.payload.eq(self.i.payload),
            self.i.ready.eq(self.o.ready),
        ]
        return m


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ResetInserter", lambda control: lambda component: component),
        ("FrameGate", ForgetfulGate),
        ("ResultGate", OpenEnd),
    ],
)
def test_planted_faults_are_found(name: str, wrong: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(accelerator, name, wrong)
    with pytest.raises(BenchFailure, match=r"next_frame_is_right|source_may_begin_anew"):
        run(tmp_path, 6, 0.4, 0.6)
