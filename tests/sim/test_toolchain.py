"""Finding the tools, and the cache of builds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmht.model.build_cache import build_cache_dir, build_key, cached_build
from lmht.sim import toolchain
from lmht.sim.runner import run_cocotb
from lmht.sim.toolchain import ToolchainError, tool_environment, toolchain_environment


def test_environment_finds_verilator_first() -> None:
    environment = toolchain_environment()
    assert (Path(environment["PATH"].split(os.pathsep)[0]) / "verilator").exists()
    assert "CFG_CXXFLAGS_PCH_I=-include" in environment["MAKEFLAGS"]


def test_environment_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMHT_TEST", raising=False)
    before = dict(os.environ)
    with tool_environment({"LMHT_TEST": "1"}):
        assert os.environ["LMHT_TEST"] == "1"
        assert os.environ["PATH"] != before["PATH"]
    assert dict(os.environ) == before


@pytest.mark.parametrize("program", ["g++", "make", "perl"])
def test_missing_program_is_named(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = toolchain.shutil.which
    monkeypatch.setattr(
        toolchain.shutil, "which", lambda name, **options: None if name == program else find(name, **options)
    )
    with pytest.raises(ToolchainError) as caught:
        toolchain_environment()
    assert str(caught.value).startswith(f"{program} is not on PATH; ")
    assert "\n" not in str(caught.value)


def test_job_server_of_an_outer_make_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEFLAGS", "-j4 --jobserver-auth=3,4")
    assert "jobserver" not in toolchain_environment()["MAKEFLAGS"]


def test_cache_folder_follows_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_CACHE", str(tmp_path))
    assert build_cache_dir() == tmp_path
    monkeypatch.delenv("LMHT_CACHE")
    assert build_cache_dir() == Path.home() / ".cache" / "lmht"


def test_key_depends_on_bytes_flags_and_version_only(tmp_path: Path) -> None:
    one, other = tmp_path / "one.v", tmp_path / "other.v"
    one.write_text("module a; endmodule")
    other.write_text("module a; endmodule")
    key = build_key([one], ["-O3"], "5")
    assert key == build_key([other], ["-O3"], "5") == build_key([one.read_bytes()], ["-O3"], "5")
    different = [
        build_key([one, one], ["-O3"], "5"),
        build_key([b"module b; endmodule"], ["-O3"], "5"),
        build_key([one], ["-O", "3"], "5"),
        build_key([one], ["-O3"], "6"),
    ]
    assert len({key, *different}) == 5


def test_build_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_CACHE", str(tmp_path))
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "result").write_text("done")

    folders = {cached_build("kind", "k" * 64, build) for _ in range(3)}
    assert len(calls) == len(folders) == 1
    assert (folders.pop() / "result").read_text() == "done"


def test_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_CACHE", str(tmp_path))

    def build(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match=r"^no$"):
        cached_build("kind", "k" * 64, build)
    assert not list((tmp_path / "kind").iterdir())


def test_slower_of_two_builds_takes_the_faster_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_CACHE", str(tmp_path))

    def slow(folder: Path) -> None:
        cached_build("kind", "k" * 64, lambda inner: (inner / "fast").touch())
        (folder / "slow").touch()

    folder = cached_build("kind", "k" * 64, slow)
    assert [path.name for path in folder.iterdir()] == ["fast"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_verilog_that_does_not_build_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"^dut does not build: %Error") as caught:
        run_cocotb(["module dut(input clk"], "dut", "lmht.sim.benches.router", folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_unknown_waveform_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^waves must be 'fst', 'vcd' or None, not 'lxt'$"):
        run_cocotb([], "dut", "lmht.sim.benches.router", waves="lxt", folder=tmp_path)
