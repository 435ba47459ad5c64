"""Build and run a tiny design as bench and as program, in a process of its own, whose folders and variables are odd.

``build_tiny_design.py FOLDER`` works in that folder and prints what it made.
"""

import sys
from pathlib import Path

from lmht.sim.program import build_program, run_program
from lmht.sim.runner import run_cocotb

DESIGN = "module dut(input clk, input d, output q); assign q = d; endmodule\n"
BENCH = """
import cocotb
from cocotb.triggers import Timer

@cocotb.test()
async def follows(dut):
    for level in (0, 1, 0):
        dut.d.value = level
        await Timer(1, "ns")
        assert dut.q.value == level

@cocotb.test()
async def exists(dut):
    assert dut.q is not None
"""
MAIN = b"""
#include <fstream>
#include "Vdut.h"
extern "C" int next_level(int);
int main(int, char** arguments) {
    Vdut model;
    std::ofstream file(arguments[2]);
    for (int level = 0, count = 0; count < 4; level = next_level(level), ++count) {
        model.d = level;
        model.eval();
        file << int(model.q);
    }
    return !file.flush();
}
"""
OTHER = b"int next_level(int level);\nint next_level(int level) { return !level; }\n"


def build_and_run(folder: Path) -> None:
    (folder / "tiny_bench.py").write_text(BENCH, encoding="utf-8")
    sys.path.append(str(folder))
    result = run_cocotb(
        [DESIGN], "dut", "tiny_bench", build_args=["-O0"], waves="vcd", folder=folder / "bench", seed=1
    )
    assert sorted(result.tests) == ["exists", "follows"], result.tests
    assert "$enddefinitions" in result.waveform.read_text()
    source = folder / "dut.v"
    source.write_text(DESIGN)
    program = build_program(
        "tiny",
        "dut",
        {"main.cpp": MAIN, "other.c": OTHER},
        [source],
        b"`verilator_config\n",
        main="main.cpp",
        c_sources={"other.c": ["-std=c99", "-Wall", "-Werror"]},
        optimize=False,
    )
    run_program(program, {"out": folder / "levels.txt"}, images=1)
    assert (folder / "levels.txt").read_text() == "0101"
    print(f"built {program}")


if __name__ == "__main__":
    build_and_run(Path(sys.argv[1]))
