"""``bus`` of the compiler: a design behind AXI or Wishbone beside the plain one."""

import subprocess

import pytest

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.sim.runner import LINT_WAIVERS
from lmht.sim.toolchain import toolchain_environment, verilator_command


@pytest.mark.parametrize("bus", ["axi", "wishbone"])
def test_wrapper_lints_and_leaves_the_design_as_it_is(small_network, small_build, tmp_path, bus):
    options = CompileOptions(name="compact", lanes=4, split={0: 2}, bus=bus)
    compile_network(small_network, tmp_path / "build", options)
    build, plain = Build.open(tmp_path / "build"), Build.open(small_build)
    wrapper = build.folder / f"compact_{bus}.v"
    assert wrapper.name in build.manifest.files
    assert wrapper not in build.verilog_files
    for file, same in zip(build.verilog_files, plain.verilog_files, strict=True):
        assert file.read_bytes() == same.read_bytes()
    core = (build.folder / "compact.core").read_text()
    assert f"- {wrapper.name}" in core
    assert f"toplevel: compact_{bus}" in core
    top = f"compact_{bus}"
    command = verilator_command(
        "--lint-only", "-Wall", *(f"-Wno-{name}" for name in LINT_WAIVERS), "--top-module", top
    )
    command += map(str, (wrapper, *build.verilog_files))
    done = subprocess.run(command, env=toolchain_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_beats_of_another_width_are_refused(small_network, tmp_path):
    options = CompileOptions(lanes=4, bus="axi", bytes_per_beat=16)
    with pytest.raises(ValueError, match=r"^bytes_per_beat of an AXI4-Stream must be one of 4, 8, not 16$"):
        compile_network(small_network, tmp_path / "build", options)
    assert list(tmp_path.iterdir()) == []
