"""A whole design through AXI4-Lite and AXI4-Stream, and its Wishbone variant's Verilog."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from lmht.gen.images import encode_image
from lmht.gen.memory_contents import pack_memories
from lmht.gen.plan import PlanOptions
from lmht.rtl.accelerator import Accelerator
from lmht.rtl.bus_accelerator import BusAccelerator
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.golden import GoldenModel
from lmht.sim.random_networks import random_design, random_images
from lmht.sim.runner import BenchFailure, run_cocotb

SEED = 63


def make_design(bytes_per_beat: int):
    rng = np.random.default_rng(SEED)
    options = PlanOptions(lanes=4, split={0: 2, 1: 2}, bytes_per_beat=bytes_per_beat)
    return random_design(rng, name="dut", plan_options=options, input_shape=(1, 5, 5), widths=(12, 6))


def run(bytes_per_beat: int, tmp_path: Path, *, wrong_logit: int = 0) -> None:
    network, design = make_design(bytes_per_beat)
    images = random_images(np.random.default_rng(SEED), 4, (1, 5, 5), density=0.6)
    logits = GoldenModel(network).run(images).logits.tolist()
    logits[1][2] += wrong_logit
    image, frames = tmp_path / "image.bin", tmp_path / "frames.bin"
    image.write_bytes(encode_image(design, pack_memories(design, network)))
    frames.write_bytes(images.transpose(0, 2, 3, 1).tobytes())
    run_cocotb(
        [
            emit_verilog(BusAccelerator(parameters=design), "dut_axi"),
            emit_verilog(Accelerator(parameters=design), "dut"),
            *primitive_sources(),
        ],
        "dut_axi",
        "lmht.sim.benches.bus_accelerator",
        parameters={
            "parameters": asdict(design),
            "image_file": str(image),
            "frames": str(frames),
            "logits": logits,
        },
        build_args=("-O1",),
        folder=tmp_path,
        seed=SEED,
    )


@pytest.mark.slow
@pytest.mark.parametrize("bytes_per_beat", [4, 8])
def test_bench(bytes_per_beat: int, tmp_path: Path) -> None:
    run(bytes_per_beat, tmp_path)


@pytest.mark.slow
def test_a_wrong_logit_is_found(tmp_path: Path) -> None:
    with pytest.raises(BenchFailure, match="images_through_the_ports: image 1"):
        run(8, tmp_path, wrong_logit=1)


def test_wishbone_takes_the_place_of_axi_lite() -> None:
    _, design = make_design(8)
    text = emit_verilog(BusAccelerator(parameters=design, bus="wishbone"), "dut_wishbone")
    assert "input wb_cyc" in text
    assert "s_axi_awvalid" not in text
    assert "output m_axis_tvalid" in text


@pytest.mark.parametrize(
    ("bytes_per_beat", "bus", "message"),
    [
        (8, "apb", r"^bus must be one of axi, wishbone, not 'apb'$"),
        (16, "axi", r"^bytes_per_beat of an AXI4-Stream must be one of 4, 8, not 16$"),
    ],
)
def test_init_wrong(bytes_per_beat: int, bus: str, message: str) -> None:
    design: DesignParameters = make_design(bytes_per_beat)[1]
    with pytest.raises(ValueError, match=message):
        BusAccelerator(parameters=design, bus=bus)
