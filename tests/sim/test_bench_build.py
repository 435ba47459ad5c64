"""Builds of benches: what their key covers, and that the precompiled header serves them."""

from __future__ import annotations

import random
import shlex
import subprocess
from pathlib import Path

import pytest

from lmht.sim import bench_build, runner
from lmht.sim.bench_build import build_bench
from lmht.sim.model_build import Workplace

VERILOG = "module dut(input clk, input d, output q); assign q = d; endmodule\n"


@pytest.fixture
def key_of(monkeypatch: pytest.MonkeyPatch):
    """Function that takes the arguments of build_bench and returns the key of the build, which is not made."""
    monkeypatch.setattr(bench_build, "cached_build", lambda kind, key, build: Path(kind, key))
    return build_bench


def test_key_covers_all_that_matters(key_of, monkeypatch: pytest.MonkeyPatch) -> None:
    first = key_of([VERILOG], "dut")
    assert key_of([VERILOG], "dut") == first
    keys = {
        first,
        key_of([VERILOG.replace("= d", "= !d")], "dut"),
        key_of([VERILOG.replace("dut", "other")], "other"),
        key_of([VERILOG], "dut", ["-O3"]),
        key_of([VERILOG], "dut", open_nets=["w"]),
        key_of([VERILOG], "dut", waves="vcd"),
    }
    monkeypatch.setattr(bench_build, "_MAKE_VALUES", ("OPT_FAST=-O0",))
    keys.add(key_of([VERILOG], "dut"))
    monkeypatch.setattr(bench_build, "_HEADER_TEXT", "")
    keys.add(key_of([VERILOG], "dut"))
    monkeypatch.setattr(bench_build, "tool_identity", lambda: "another compiler")
    keys.add(key_of([VERILOG], "dut"))
    monkeypatch.setattr(bench_build, "version", lambda package: "another cocotb")
    keys.add(key_of([VERILOG], "dut"))
    assert len(keys) == 10


def test_precompiled_header_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other flags the compiler would pass it over in silence, and every build would take twice as long."""
    runtimes, logs = [], []
    make_library, compile_model = bench_build.library, Workplace.compile

    def remember_library(*arguments) -> Path:
        runtimes.append(make_library(*arguments))
        return runtimes[-1]

    def remember_log(self: Workplace, *arguments) -> None:
        compile_model(self, *arguments)
        logs.append(self.log)

    monkeypatch.setattr(bench_build, "library", remember_library)
    monkeypatch.setattr(Workplace, "compile", remember_log)
    # Text that no cache has seen.
    build_bench([f"{VERILOG}// {random.getrandbits(64):x}\n"], "dut", ["-O3"])
    assert len(runtimes) == 1
    for name in ("runtime.h", "runtime.h.gch"):
        (tmp_path / name).symlink_to(runtimes[0] / name)
    commands = [line for line in logs[-1].splitlines() if " -c -o " in line]
    (tmp_path / "model.cpp").write_text("int model = VL_IDATASIZE;\n")
    models = [shlex.split(command) for command in commands]
    assert [command[-1].rpartition("/")[2] for command in models] == ["verilator.cpp", "Vtop__ALL.cpp"]

    def complaints(command: list[str], *more: str) -> str:
        place = command.index("-c")
        flags = [part for part in command[:place] if part not in ("ccache", "-MMD")]
        line = [*flags, *more, "-Winvalid-pch", "-fsyntax-only", "model.cpp"]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False).stderr

    for command in models:
        assert "-include" in command
        assert "invalid-pch" not in complaints(command)
    assert "invalid-pch" in complaints(models[0], "-O0")


def test_asserts_are_rewritten_in_the_folder_of_the_bench_only() -> None:
    names = runner._neighbours("lmht.sim.benches.router").split()
    assert {"router.py", "support.py"} <= set(names)
    assert "numpy.py" not in names
    assert all("*" not in name for name in names)
    assert runner._neighbours("nowhere.bench") == "bench.py"
