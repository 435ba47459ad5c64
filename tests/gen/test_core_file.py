"""``<name>.core``: every file of the build is in it, and the top module is the one that a system instantiates."""

import pytest

from lmht.gen.compile import CompileOptions, compile_network
from lmht.sim.runner import LINT_WAIVERS


def listed_files(text):
    names = [line.split("- ")[1].split(":")[0] for line in text.splitlines() if "      - " in line]
    return [name for name in names if "." in name]


def check_files(folder, text):
    files = listed_files(text)
    assert files[:4] == ["compact.v", "lmht_multiplier.v", "lmht_ram.v", "lmht_rows.v"]
    assert len(files) == len(set(files))
    assert set(files) == {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in (".v", ".c", ".h", ".hex", ".bin")
    }


def test_core_lists_the_files_of_the_build(small_build):
    text = (small_build / "compact.core").read_text()
    assert text.startswith("CAPI=2:\n")
    assert 'name: "::compact:0"' in text
    assert "    toplevel: compact\n" in text
    assert "lmht.c" not in text
    check_files(small_build, text)


@pytest.mark.parametrize("bus", ["axi", "wishbone"])
def test_core_of_a_build_with_a_bus(bus, small_network, tmp_path):
    folder = tmp_path / "build"
    compile_network(small_network, folder, CompileOptions(name="compact", lanes=4, bus=bus))
    text = (folder / "compact.core").read_text()
    assert f"    toplevel: compact_{bus}\n" in text
    assert f"      - compact_{bus}.v\n" in text
    assert "      - lmht.c\n      - lmht_design.h: {is_include_file: true}\n" in text
    check_files(folder, text)


def test_lint_target_leaves_out_what_the_verilog_is_not_checked_for(small_build):
    """As in our own lint, which passes."""
    text = (small_build / "compact.core").read_text()
    options = [line.strip().removeprefix("- ") for line in text.splitlines() if "- -W" in line]
    assert options == ["-Wall", *(f"-Wno-{name}" for name in LINT_WAIVERS)]
