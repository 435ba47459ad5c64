"""Finding the tools, what they are started with, and what a failed build says."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from lmht.model import compiler
from lmht.model.compiler import compiler_command, compiler_identity
from lmht.model.environment import PASSED_ON, own_environment, replaced_environment
from lmht.sim import toolchain
from lmht.sim.model_build import first_reason
from lmht.sim.runner import run_cocotb
from lmht.sim.toolchain import (
    ToolchainError,
    make_values,
    tool_identity,
    toolchain_environment,
    verilator_command,
    verilator_root,
)


def test_verilator_runs_past_its_script() -> None:
    done = subprocess.run(
        verilator_command("--version"),
        env=toolchain_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert " rev " in done.stdout


def test_only_named_variables_reach_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERILATOR_BIN", "another")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    environment = own_environment({"LMHT_TEST": "1"})
    assert set(environment) <= {*PASSED_ON, "LC_ALL", "LMHT_TEST"}
    assert environment["OMP_NUM_THREADS"] == "3"
    assert toolchain_environment()["VERILATOR_ROOT"] == str(verilator_root())


def test_environment_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_TEST", "before")
    monkeypatch.delenv("LMHT_OTHER", raising=False)
    before = dict(os.environ)
    inside = {}
    with suppress(KeyError), replaced_environment({"LMHT_OTHER": "1"}):
        inside = dict(os.environ)
        raise KeyError
    assert inside == {"LMHT_OTHER": "1"}
    assert dict(os.environ) == before


@pytest.mark.parametrize(("program", "package"), [("c++", "g++"), ("make", "make")])
def test_missing_program_is_named(program: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = shutil.which
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(
        toolchain.shutil, "which", lambda name, **options: None if name == program else find(name, **options)
    )
    with pytest.raises(ToolchainError) as caught:
        toolchain_environment()
    assert str(caught.value) == f"{program} is not on PATH; Verilator needs it (Debian package: {package})"


def test_compiler_of_the_user_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "it's $my c++"
    own.write_text('#!/bin/sh\nexec c++ "$@"\n')
    own.chmod(0o755)
    monkeypatch.setenv("CXX", str(own))
    assert compiler_command() == (str(own),)
    (quoted,) = [value for value in make_values("python") if value.startswith("CXX=")]
    (tmp_path / "Makefile").write_text("all:\n\t$(CXX) --version\n")
    said = subprocess.run(
        ["make", "-C", str(tmp_path), quoted], capture_output=True, text=True, check=True
    ).stdout
    assert "Free Software Foundation" in said or "clang" in said
    monkeypatch.setenv("CXX", "env c++ -m64")
    assert compiler_command() == (shutil.which("env"), "c++", "-m64")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolchainError, match=r"^CXX=no-such-compiler is not on PATH; "):
        toolchain_environment()


def test_tools_are_told_by_content_not_by_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = [tmp_path / name for name in ("one", "same", "other")]
    for script in scripts:
        script.write_text('#!/bin/sh\nexec c++ "$@"\n' + "# another\n" * (script.name == "other"))
        script.chmod(0o755)
    one, same, other = (compiler_identity((str(script),)) for script in scripts)
    assert one == same != other
    assert compiler_identity((str(scripts[0]), "-m64")) != one
    before = tool_identity()
    for name in ("copy", "changed"):
        for part in ("bin", "include"):
            shutil.copytree(verilator_root() / part, tmp_path / name / part)
    header = tmp_path / "changed" / "include" / "verilated.h"
    header.write_text(header.read_text() + "\n")
    monkeypatch.setattr(toolchain, "verilator_root", lambda: tmp_path / "copy")
    assert tool_identity() == before
    monkeypatch.setattr(toolchain, "verilator_root", lambda: tmp_path / "changed")
    assert tool_identity() != before
    monkeypatch.undo()
    monkeypatch.setattr(compiler.platform, "libc_ver", lambda: ("glibc", "1.0"))
    assert compiler_identity.__wrapped__((str(scripts[0]),)) != one


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("c++ -c a.cpp\na.cpp:1:2: error: no\nb.cpp:1:2: error: neither\n", "a.cpp:1:2: error: no"),
        ("%Warning-X: a\n%Error: b\n%Error: Exiting due to 1 error(s)\n", "%Error: b"),
        ("%Warning-X: a\n%Error: Exiting due to 1 warning(s)\n", "%Warning-X: a"),
        ("make: Entering directory 'x'\nmake: *** No rule to make target 'a.h', needed by 'b.o'.  Stop.\n",
         "make: *** No rule to make target 'a.h', needed by 'b.o'.  Stop."),
        ("a.mk:7: *** Unsupported: spaces.  Stop.\n", "a.mk:7: *** Unsupported: spaces.  Stop."),
        ("wrapper: broken\nmake: *** [a.mk:1: b.o] Error 127\n", "wrapper: broken"),
        ("/bin/sh: 1: ccache: not found\nmake: *** [a.mk:1: b.o] Error 127\n", "/bin/sh: 1: ccache: not found"),
        ("ld: a.o: in function `b':\na.cpp:(.text+0x5): undefined reference to `c'\ncollect2: error: ld returned 1\n",
         "a.cpp:(.text+0x5): undefined reference to `c'"),
        ("something\nelse\n", "else"),
        ("", None),
    ],
)  # fmt: skip
def test_first_line_that_says_why(log: str, reason: str | None) -> None:
    assert first_reason(log) == reason


def test_verilog_that_does_not_build_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"^dut does not build: %Error.* \(log: .*\.log\)$") as caught:
        run_cocotb(["module dut(input clk"], "dut", "lmht.sim.benches.router", folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_unknown_waveform_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^waves must be 'fst', 'vcd' or None, not 'lxt'$"):
        run_cocotb([], "dut", "lmht.sim.benches.router", waves="lxt", folder=tmp_path)
