"""The MNIST result: 784-128-10 trained, compiled for 16 lanes, verified on every test image, measured and placed.

Writes ``docs/results-mnist.md`` and ``docs/results-mnist.json``. Takes a quarter of an hour, most of it training;
a finished run in ``runs/mnist`` is used as it is.

    python scripts/mnist_report.py --data-dir DIR
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

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
TARGETS = {"accuracy": 0.98, "cycles": 1270, "utilization": 0.95, "speed": 1000, "emit": 10, "clock": 100}


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


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def write_page(path: Path, figures: dict[str, Any]) -> None:
    """The page, every row with the command that gives it."""
    bench, place = figures["bench"], figures["bench"]["place"]
    accuracy = figures["accuracy"]
    verify_all = "`lmht verify build/mnist --data-dir DIR`"
    verify_some = (
        f"`lmht verify build/mnist --data-dir DIR --engine cocotb --images {COCOTB_IMAGES} "
        f"--idle {PAUSES} --back-pressure {PAUSES} --seed 1`"
    )
    measured = "`lmht bench build/mnist --data-dir DIR`"
    placed = "`lmht bench build/mnist --data-dir DIR --place ecp5`"

    def equal(part: dict[str, Any]) -> str:
        return f"{part['logits']:,} of {part['logits']:,}" if part["equal"] else "**DIFFERENT**"

    rows = [
        ("test accuracy in PyTorch", f"{accuracy['test_pytorch']:.2%}", "", "`lmht train`"),
        (
            "test accuracy of the RTL",
            f"{accuracy['test_rtl']:.2%}",
            f">= 98.0 %: {verdict(accuracy['test_rtl'] >= TARGETS['accuracy'])}",
            verify_all,
        ),
        ("logits equal, C++ harness", equal(figures["harness"]), "all", verify_all),
        ("logits equal, cocotb, random pauses", equal(figures["cocotb"]), "all", verify_some),
        (
            "cycles an image, steady state",
            f"{figures['cycles_per_image']:,.1f}",
            f"<= 1,270: {verdict(figures['cycles_per_image'] <= TARGETS['cycles'])}",
            verify_all,
        ),
        (
            "cycles an image, expected by the compiler",
            f"{figures['expected_cycles_per_image']:,.1f}",
            "",
            "`lmht compile`",
        ),
        ("cycles from first pixel to class", f"{figures['latency_cycles']:,.1f}", "", verify_all),
        (
            f"utilization of the busiest stage ({figures['busiest']})",
            f"{figures['utilization']:.1%}",
            f">= 95 %: {verdict(figures['utilization'] >= TARGETS['utilization'])}",
            verify_all,
        ),
        ("golden model, images/s", f"{bench['golden_images_per_second']:,.0f}", "", measured),
        (
            "C++ harness, images/s on one core",
            f"{bench['harness_images_per_second']:,.0f}",
            f">= 1,000: {verdict(bench['harness_images_per_second'] >= TARGETS['speed'])}",
            measured,
        ),
        ("cocotb, images/s", f"{bench['cocotb_images_per_second']:,.1f}", "", measured),
        (
            "seconds to emit",
            f"{bench['emit_seconds']:.1f}",
            f"<= 10: {verdict(bench['emit_seconds'] <= TARGETS['emit'])}",
            measured,
        ),
    ]
    if place is not None:
        rows += [
            (
                "clock on ECP5-85F, speed grade 6, routed",
                f"{place['clock_mhz']:.1f} MHz",
                f">= 100 MHz: {verdict(place['clock_mhz'] >= TARGETS['clock'])}",
                placed,
            ),
            (
                "time an image at that clock",
                f"{figures['cycles_per_image'] / place['clock_mhz']:.1f} us",
                "",
                placed,
            ),
            ("LUT4", f"{place['lut4']:,}", "", placed),
            ("flip-flops", f"{place['flip_flops']:,}", "", placed),
            ("block RAM (DP16KD)", f"{place['block_rams']:,}", "", placed),
            ("multipliers (MULT18X18D)", f"{place['multipliers']:,}", "", placed),
        ]
    rows += [
        ("memories, bits", f"{figures['memory_bits']:,}", "", "`lmht compile`"),
        ("lines of Verilog", f"{figures['verilog_lines']:,}", "", "`lmht compile`"),
    ]
    lines = [
        "# MNIST, 784-128-10",
        "",
        "Two time steps, two threshold levels, 4-bit weights, learned mixing and leak, 16 synapse lanes.",
        "Written by `python scripts/mnist_report.py --data-dir DIR`; the figures are in `results-mnist.json`, too.",
        "Speeds (images/s, seconds) depend on the machine: two shared cores here. Everything else is exact.",
        "",
        "```",
        f"lmht train --data mnist --data-dir DIR --net {NETWORK} --out runs/mnist",
        f"lmht compile runs/mnist --data-dir DIR --lanes {LANES} --out build/mnist",
        "```",
        "",
        "| what | figure | target | command |",
        "| --- | --- | --- | --- |",
        *(f"| {what} | {figure} | {target} | {command} |" for what, figure, target, command in rows),
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
    write_page(options.docs / "results-mnist.md", figures)
    if not (harness.ok and cocotb.ok):
        sys.exit("error: design and golden model differ")


if __name__ == "__main__":
    main()
