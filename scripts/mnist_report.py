"""The MNIST result: 784-128-10 trained, compiled for 16 lanes, verified on every test image, measured and placed.

Writes ``docs/results-mnist.md`` and ``docs/results-mnist.json``, and the main figures into the README. Takes a quarter
of an hour, most of it training; a finished run in ``runs/mnist`` is used as it is.

    python scripts/mnist_report.py --data-dir DIR
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readme_block import fill_block

from lmht.gen.build import Build
from lmht.gen.cli import main as lmht
from lmht.model import load_dataset
from lmht.sim.benchmark import BenchmarkResult
from lmht.sim.report import VerifyReport
from lmht.sim.verify import verify

NETWORK = "784-128-10 --levels 2 --steps 2 --weight-bits 4"
LANES = 16
COCOTB_IMAGES = 100
PAUSES = 0.3


def run(command: str, *paths: str) -> None:
    """Run a command of ``lmht`` as a user would; ends the script if it fails."""
    arguments = [*command.split(), *paths]
    print("$ lmht", *arguments, flush=True)
    status = lmht(arguments)
    if status:
        sys.exit(status)


def check(build: Build, data: Any) -> tuple[VerifyReport, VerifyReport]:
    """All test images through the harness, some through cocotb with random pauses."""
    images, labels = data.test_images.numpy(), data.test_labels.numpy()
    harness = verify(build, images, labels, engine="harness")
    print(harness.message, flush=True)
    some = slice(0, COCOTB_IMAGES)
    cocotb = verify(
        build, images[some], labels[some], engine="cocotb", idle=PAUSES, back_pressure=PAUSES, seed=1
    )
    print(cocotb.message, flush=True)
    return harness, cocotb


def summarize(
    build: Build, harness: VerifyReport, cocotb: VerifyReport, bench: BenchmarkResult
) -> dict[str, Any]:
    """The figures of the report."""
    assert harness.cycles is not None
    assert harness.accuracy is not None
    assert harness.busiest is not None
    source = build.source
    return {
        "architecture": source.architecture,
        "design_hash": build.manifest.design_hash,
        "accuracy": {
            "validation": source.validation_accuracy,
            "test_pytorch": source.test_accuracy,
            "test_rtl": harness.accuracy,
        },
        "harness": {"images": harness.images, "logits": harness.logits, "equal": harness.ok},
        "cocotb": {
            "images": cocotb.images,
            "logits": cocotb.logits,
            "equal": cocotb.ok,
            "idle": cocotb.idle,
            "back_pressure": cocotb.back_pressure,
        },
        "cycles_per_image": round(harness.cycles.steady_mean, 2),
        "latency_cycles": round(harness.cycles.latency_mean, 2),
        "expected_cycles_per_image": round(build.manifest.expected_cycles_per_image, 2),
        "utilization": round(harness.busiest.utilization, 4),
        "busiest": f"{harness.busiest.stage}, {harness.busiest.resource}",
        "memory_bits": sum(layer.memory_bits for layer in build.manifest.layers),
        "verilog_lines": sum(len(path.read_text().splitlines()) for path in build.verilog_files),
        "bench": bench.model_dump(mode="json"),
    }


@dataclass(frozen=True)
class Row:
    """A line of the table: a figure, its target where there is one, and the command that gives it."""

    what: str
    figure: str
    command: str
    target: str = ""
    met: bool = True
    in_readme: bool = True


def make_rows(figures: dict[str, Any]) -> list[Row]:
    """Every figure with the command that gives it."""
    bench, place, accuracy = figures["bench"], figures["bench"]["place"], figures["accuracy"]
    verify_all = "lmht verify build/mnist --data-dir DIR"
    pauses = f"--idle {PAUSES} --back-pressure {PAUSES} --seed 1"
    verify_some = f"{verify_all} --engine cocotb --images {COCOTB_IMAGES} {pauses}"
    measured = "lmht bench build/mnist --data-dir DIR"
    placed = f"{measured} --place ecp5"
    compiled = "lmht compile runs/mnist --data-dir DIR --out build/mnist"
    rtl, cycles, busy = accuracy["test_rtl"], figures["cycles_per_image"], figures["utilization"]
    speed, emit = bench["harness_images_per_second"], bench["emit_seconds"]
    harness, cocotb = figures["harness"], figures["cocotb"]
    rows = [
        Row("test accuracy in PyTorch", f"{accuracy['test_pytorch']:.2%}", "lmht train", in_readme=False),
        Row("test accuracy of the RTL", f"{rtl:.2%}", verify_all, ">= 98.0 %", rtl >= 0.98),
        Row("logits equal, C++ harness", count_equal(harness), verify_all, "all", harness["equal"]),
        Row(
            "logits equal, cocotb with random pauses",
            count_equal(cocotb),
            verify_some,
            "all",
            cocotb["equal"],
        ),
        Row("cycles an image, steady state", f"{cycles:,.1f}", verify_all, "<= 1,270", cycles <= 1270),
        Row(
            "cycles an image, expected by the compiler",
            f"{figures['expected_cycles_per_image']:,.1f}",
            compiled,
            in_readme=False,
        ),
        Row(
            "cycles from first pixel to class",
            f"{figures['latency_cycles']:,.1f}",
            verify_all,
            in_readme=False,
        ),
        Row(f"utilization of {figures['busiest']}", f"{busy:.1%}", verify_all, ">= 95 %", busy >= 0.95),
        Row("golden model, images/s", f"{bench['golden_images_per_second']:,.0f}", measured),
        Row("C++ harness, images/s on one core", f"{speed:,.0f}", measured, ">= 1,000", speed >= 1000),
        Row("cocotb, images/s", f"{bench['cocotb_images_per_second']:,.1f}", measured),
        Row("seconds to emit", f"{emit:.1f}", measured, "<= 10", emit <= 10),
        Row("memories, bits", f"{figures['memory_bits']:,}", compiled, in_readme=False),
        Row("lines of Verilog", f"{figures['verilog_lines']:,}", compiled, in_readme=False),
    ]
    if place is not None:
        clock = place["clock_mhz"]
        rows += [
            Row(
                "clock on ECP5-85F, speed grade 6, routed",
                f"{clock:.1f} MHz",
                placed,
                ">= 100 MHz",
                clock >= 100,
            ),
            Row("time an image at that clock", f"{cycles / clock:.1f} us", placed),
            Row("LUT4, flip-flops", f"{place['lut4']:,}, {place['flip_flops']:,}", placed),
            Row("block RAM (DP16KD)", f"{place['block_rams']:,}", placed),
            Row("multipliers (MULT18X18D)", f"{place['multipliers']:,}", placed),
        ]
    return rows


def count_equal(part: dict[str, Any]) -> str:
    """Logits compared and equal."""
    return f"{part['logits']:,} of {part['logits']:,}" if part["equal"] else "**DIFFERENT**"


def make_table(rows: list[Row]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| what | figure | target | command |", "| --- | --- | --- | --- |"]
    for row in rows:
        target = row.target and f"{row.target}: {'met' if row.met else '**missed**'}"
        lines.append(f"| {row.what} | {row.figure} | {target} | `{row.command}` |")
    return lines


def write_page(path: Path, rows: list[Row]) -> None:
    """The page with all figures."""
    lines = [
        "# MNIST, 784-128-10",
        "",
        "Two time steps, two threshold levels, 4-bit weights, learned mixing and leak, 16 synapse lanes.",
        "Written by `python scripts/mnist_report.py --data-dir DIR`; the figures are in `results-mnist.json`, too.",
        "Images/s and seconds depend on the machine, two shared cores here; everything else is exact.",
        "",
        "```sh",
        f"lmht train --data mnist --data-dir DIR --net {NETWORK} --out runs/mnist",
        f"lmht compile runs/mnist --data-dir DIR --lanes {LANES} --out build/mnist",
        "```",
        "",
        *make_table(rows),
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Read the command line and do all of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the MNIST files")
    parser.add_argument("--run", type=Path, default=Path("runs/mnist"))
    parser.add_argument("--build", type=Path, default=Path("build/mnist"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--no-place", action="store_true", help="leave out place and route")
    options = parser.parse_args()

    data_dir = ["--data-dir", str(options.data_dir)]
    run(f"train --data mnist --net {NETWORK}", *data_dir, "--out", str(options.run))
    run(f"compile --lanes {LANES} --name mnist", str(options.run), *data_dir, "--out", str(options.build))
    build, data = Build.open(options.build), load_dataset("mnist", options.data_dir)
    harness, cocotb = check(build, data)
    result = options.build.parent / f"{options.build.name}-bench.json"
    place = [] if options.no_place else ["--place", "ecp5"]
    run("bench", str(options.build), *data_dir, "--json", str(result), *place)
    figures = summarize(build, harness, cocotb, BenchmarkResult.model_validate_json(result.read_bytes()))
    options.docs.mkdir(parents=True, exist_ok=True)
    (options.docs / "results-mnist.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    rows = make_rows(figures)
    write_page(options.docs / "results-mnist.md", rows)
    fill_block(
        options.docs.parent / "README.md", "results", make_table([row for row in rows if row.in_readme])
    )
    if not (harness.ok and cocotb.ok):
        sys.exit("error: design and golden model differ")


if __name__ == "__main__":
    main()
