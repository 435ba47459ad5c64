"""Convolutional networks in hardware: each trained run compiled, compared with the golden model and measured.

Writes ``docs/results-cnn.md`` and ``docs/results-cnn.json``. A network whose figures are there already, from the same
weights, is not measured again unless ``--again`` asks for it. Networks on different data sets may be measured one call
after the other: the figures of all are kept.

    python scripts/cnn_report.py runs/mnist-cnn runs/resnet20 --data-dir DIR
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from readme_block import fill_block

from lmht.gen.build import Build
from lmht.gen.cli_options import measure_densities
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.estimate import estimate
from lmht.gen.files import write_file
from lmht.gen.frame_work import measure_frames
from lmht.model import Dataset, load_checkpoint, load_dataset
from lmht.model.checkpoint import read_run_config
from lmht.sim.expectations import expect
from lmht.sim.golden import GoldenModel
from lmht.sim.harness import Harness
from lmht.sim.report import VerifyReport, summarize_cycles
from lmht.sim.taps import design_fifos
from lmht.sim.verify import verify

PAUSES = 0.3
LARGEST_DEVIATION = 0.02


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Images of each measurement.

    Parameters
    ----------
    images : int
        Through the harness, every logit compared.
    layer_images : int
        Of them, those whose levels are compared in every layer.
    cocotb_images : int
        Through cocotb with random pauses.
    paced_images : int
        Whose cycles are compared with the estimate, and with quiet pixels updated.
    black_images : int
        Without any event.
    every_pixel : bool
        Whether the hardware that updates quiet pixels, too, is built and measured for comparison.
    """

    images: int
    layer_images: int
    cocotb_images: int
    paced_images: int
    black_images: int
    every_pixel: bool


EFFORTS = {
    "mnist": Effort(
        images=10_000, layer_images=200, cocotb_images=5, paced_images=500, black_images=20, every_pixel=True
    ),
    "cifar10": Effort(
        images=200, layer_images=10, cocotb_images=0, paced_images=20, black_images=5, every_pixel=False
    ),
}


def say(text: str) -> None:
    """A line with the time, so that a log shows what takes long."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Progress:
    """A line for every tenth of the images."""

    def __init__(self, what: str):
        self._what = what
        self._shown = 0

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // total
        if tenth > self._shown:
            self._shown = tenth
            say(f"{self._what}: {done} of {total} images")


def compile_run(run: Path, folder: Path, options: CompileOptions, dataset: Dataset) -> Build:
    """Compile with the densities that the run's own spikes have on training images."""
    network, _ = load_checkpoint(run)
    compile_network(run, folder, measure_densities(network, dataset.train_images[:200], options))
    return Build.open(folder)


def check(build: Build, dataset: Dataset, effort: Effort) -> dict[str, Any]:
    """Equality of everything, and the cycles and utilization of all stages."""
    images, labels = dataset.test_images.numpy(), dataset.test_labels.numpy()
    harness = verify(
        build,
        images[: effort.images],
        labels[: effort.images],
        layer_images=effort.layer_images,
        progress=Progress("harness"),
    )
    say(harness.message)
    figures = describe(harness)
    if effort.cocotb_images:
        count = effort.cocotb_images
        cocotb = verify(
            build,
            images[:count],
            labels[:count],
            engine="cocotb",
            idle=PAUSES,
            back_pressure=PAUSES,
            seed=1,
            layer_images=count,
        )
        say(cocotb.message)
        figures["cocotb"] = describe(cocotb)
    return figures


def describe(report: VerifyReport) -> dict[str, Any]:
    """The figures of one verification."""
    cycles, busiest = report.cycles, report.busiest
    return {
        "engine": report.engine,
        "equal": report.ok,
        "difference": None if report.ok else report.message,
        "images": report.images,
        "logits": report.logits,
        "layer_images": report.layer_images,
        "levels": report.levels,
        "accuracy": report.accuracy,
        "cycles_per_image": None if cycles is None else round(cycles.steady_mean, 1),
        "latency_cycles": None if cycles is None else round(cycles.latency_mean, 1),
        "fifo_words": dict(report.fifo_words),
        "images_per_second": round(report.images / report.simulation_seconds, 2),
        "busiest": None if busiest is None else f"{busiest.stage}, {busiest.resource}",
        "utilization": None if busiest is None else round(busiest.utilization, 4),
        "stages": [
            {
                "stage": row.stage,
                "resource": row.resource,
                "work_cycles": round(row.work, 1),
                "utilization": round(row.utilization, 4),
                "events_in": round(row.events_in, 1),
                "events_out": round(row.events_out, 1),
            }
            for row in report.stages
        ],
    }


def cycles_of(build: Build, images: NDArray[np.uint8]) -> float:
    """Cycles from result to result."""
    summary = summarize_cycles(Harness.for_build(build).run(images))
    assert summary is not None
    return summary.steady_mean


def estimated_cycles(build: Build, images: NDArray[np.uint8]) -> float:
    """What the compiler's estimate says for these very images."""
    levels = GoldenModel(build.network).run(images, keep_levels=True).levels
    assert levels is not None
    work = measure_frames(build.parameters, build.network, images, [layer.numpy() for layer in levels])
    return estimate(build.parameters, work).cycles_per_frame


def pace(build: Build, every_pixel: Build | None, dataset: Dataset, effort: Effort) -> dict[str, Any]:
    """Cycles against the estimate, of black images, and both where quiet pixels are updated."""
    images = dataset.test_images[: effort.paced_images].numpy()
    black = np.zeros((effort.black_images, *build.network.input_shape), np.uint8)
    simulated, estimated = cycles_of(build, images), estimated_cycles(build, images)
    say(f"{simulated:,.1f} cycles an image simulated, {estimated:,.1f} estimated")
    figures = {
        "images": len(images),
        "simulated": round(simulated, 1),
        "estimated": round(estimated, 1),
        "deviation": round(abs(estimated / simulated - 1), 5),
        "update_cycles": round(update_cycles(build, images), 1),
        "black": round(cycles_of(build, black), 1),
    }
    if every_pixel is None:
        return figures
    return figures | {
        "with_quiet_pixels": round(cycles_of(every_pixel, images), 1),
        "update_cycles_with_quiet_pixels": round(update_cycles(every_pixel, images), 1),
        "black_with_quiet_pixels": round(cycles_of(every_pixel, black), 1),
    }


def update_cycles(build: Build, images: NDArray[np.uint8]) -> float:
    """Work of all neuron arrays for an image."""
    expected = expect(build.network, build.parameters, images)
    return sum(float(tile.update.mean()) for tile in expected.tiles.values())


def describe_fifos(build: Build, words: dict[str, int]) -> dict[str, dict[str, int]]:
    """Depth of every FIFO and the most words that were in it."""
    return {
        fifo.name: {"depth": fifo.depth, "held": words[fifo.name]} for fifo in design_fifos(build.parameters)
    }


def describe_hardware(build: Build) -> list[dict[str, Any]]:
    """What every layer is built of."""
    return [
        {
            "layer": layer.notation,
            "tiles": layer.tiles,
            "lanes": layer.lanes,
            "update": f"{layer.update_lanes} x {layer.mix_multipliers}",
            "rows_kept": layer.kept_rows,
            "rows": layer.shape[1],
            "accumulator_bits": layer.accumulator_memory_bits,
            "map_accumulator_bits": layer.map_accumulator_bits,
            "fifo_words": layer.fifo_words,
        }
        for layer in build.manifest.layers
    ]


def measure(
    run: Path, builds: Path, options: CompileOptions, data_dir: Path, images: int | None
) -> dict[str, Any]:
    """All figures of one run; `images` through the harness, by default as many as :data:`EFFORTS` says."""
    record = read_run_config(run)
    dataset = load_dataset(record.dataset, data_dir)
    effort = EFFORTS[record.dataset]
    if images is not None:
        fewer = {
            name: min(images, getattr(effort, name))
            for name in ("layer_images", "cocotb_images", "paced_images")
        }
        effort = replace(effort, images=images, **fewer)
    name = run.name.replace("-", "_")
    start = time.perf_counter()
    build = compile_run(run, builds / name, options.model_copy(update={"name": name}), dataset)
    every_pixel = None
    if effort.every_pixel:
        others = options.model_copy(update={"name": f"{name}_every_pixel", "skip_quiet": False})
        every_pixel = compile_run(run, builds / f"{name}_every_pixel", others, dataset)
    say(f"{run}: {build.source.architecture}, compiled in {time.perf_counter() - start:.0f} s")
    figures = {
        "dataset": record.dataset,
        "width": record.network.width,
        "architecture": build.source.architecture,
        "design_hash": build.manifest.design_hash,
        "weights_sha256": build.source.weights_sha256,
        "accuracy_pytorch": build.source.test_accuracy,
        "hardware": describe_hardware(build),
        "expected_cycles_per_image": round(build.manifest.expected_cycles_per_image, 1),
    }
    checked = check(build, dataset, effort)
    fifos = describe_fifos(build, checked.pop("fifo_words"))
    return figures | {"check": checked, "fifos": fifos, "pace": pace(build, every_pixel, dataset, effort)}


def page(networks: dict[str, dict[str, Any]]) -> str:
    """The page with all figures."""
    lines = [
        "# Convolutional networks in hardware",
        "",
        "Written by `python scripts/cnn_report.py RUN... --data-dir DIR`; the figures are in `results-cnn.json`, too.",
        "Simulated is the emitted Verilog. Levels compared are those of every neuron of every hidden layer. Work is",
        "what the busiest resource of a stage must do for an image, utilization its part of the cycles taken.",
        "",
    ]
    for name, figures in networks.items():
        lines += [f"## {name}: {figures['architecture']}", "", *_summary(figures), "", *_stages(figures), ""]
        lines += [*_memories(figures), ""]
        if figures["fifos"]:
            lines += [*_fifos(figures), ""]
    return "\n".join(lines)


def readme_table(networks: dict[str, dict[str, Any]]) -> Iterable[str]:
    """The main figures of all networks."""
    columns = (
        "network",
        "accuracy in PyTorch, RTL",
        "logits equal",
        "cycles an image",
        "busiest stage",
        "estimate",
    )
    yield f"| {' | '.join(columns)} |"
    yield f"| {' | '.join('---' for _ in columns)} |"
    for name, figures in networks.items():
        checked, paced = figures["check"], figures["pace"]
        width = "" if figures["width"] == 1 else f" at width {figures['width']:g}"
        yield (
            f"| {name}{width}, {figures['dataset']} | {figures['accuracy_pytorch']:.2%}, {checked['accuracy']:.2%} "
            f"of {checked['images']:,} | {'all' if checked['equal'] else '**not all**'} of {checked['logits']:,} | "
            f"{checked['cycles_per_image']:,} | {checked['utilization']:.1%} of the time | "
            f"{paced['deviation']:.2%} off |"
        )


def _summary(figures: dict[str, Any]) -> Iterable[str]:
    checked, paced = figures["check"], figures["pace"]
    yield "| what | figure |"
    yield "| --- | --- |"
    if figures["accuracy_pytorch"] is not None:
        yield f"| test accuracy in PyTorch | {figures['accuracy_pytorch']:.2%} |"
    yield f"| accuracy of the RTL, {checked['images']:,} test images | {checked['accuracy']:.2%} |"
    for part in (checked, *([checked["cocotb"]] if "cocotb" in checked else [])):
        engine = "C++ harness" if part["engine"] == "harness" else f"cocotb, pauses {PAUSES:g} at both ends"
        verdict = "equal" if part["equal"] else f"**DIFFERENT**: {part['difference']}"
        yield f"| logits compared, {engine} | {part['logits']:,} of {part['images']:,} images: {verdict} |"
        yield f"| levels compared, {engine} | {part['levels']:,} of {part['layer_images']:,} images: {verdict} |"
    yield f"| cycles an image, steady state | {checked['cycles_per_image']:,} |"
    yield f"| cycles from first pixel to class | {checked['latency_cycles']:,} |"
    yield f"| utilization of {checked['busiest']} | {checked['utilization']:.1%} |"
    met = "met" if paced["deviation"] <= LARGEST_DEVIATION else "**missed**"
    yield (
        f"| estimate of {paced['images']} images against simulation | {paced['estimated']:,} to "
        f"{paced['simulated']:,} cycles: {paced['deviation']:.2%} (at most {LARGEST_DEVIATION:.0%}: {met}) |"
    )
    yield f"| work of all neuron arrays for an image | {paced['update_cycles']:,} cycles |"
    yield f"| a black image | {paced['black']:,} cycles |"
    if "with_quiet_pixels" in paced:
        yield f"| cycles an image where quiet pixels are updated, too | {paced['with_quiet_pixels']:,} |"
        yield f"| work of all neuron arrays then | {paced['update_cycles_with_quiet_pixels']:,} cycles |"
        yield f"| a black image then | {paced['black_with_quiet_pixels']:,} cycles |"
    yield f"| simulation, images/s | {checked['images_per_second']:,} |"


def _stages(figures: dict[str, Any]) -> Iterable[str]:
    yield "| stage | busy with | cycles an image | utilization | events in | events out |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in figures["check"]["stages"]:
        mark = " (busiest)" if f"{row['stage']}, {row['resource']}" == figures["check"]["busiest"] else ""
        yield (
            f"| {row['stage']}{mark} | {row['resource']} | {row['work_cycles']:,} | {row['utilization']:.1%} | "
            f"{row['events_in']:,} | {row['events_out']:,} |"
        )


def _memories(figures: dict[str, Any]) -> Iterable[str]:
    yield "| layer | tiles x lanes | rows kept | accumulator bits | of a whole map | FIFO words |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for layer in figures["hardware"]:
        yield (
            f"| {layer['layer']} | {layer['tiles']} x {layer['lanes']} | {layer['rows_kept']} of {layer['rows']} | "
            f"{layer['accumulator_bits']:,} | {layer['map_accumulator_bits']:,} | {layer['fifo_words'] or '-'} |"
        )


def _fifos(figures: dict[str, Any]) -> Iterable[str]:
    yield "| FIFO in front of | words it holds | most words in it |"
    yield "| --- | --- | --- |"
    for name, fifo in figures["fifos"].items():
        yield f"| {name} | {fifo['depth']:,} | {fifo['held']:,} |"


def main() -> None:
    """Read the command line and measure every run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders that `lmht train` wrote")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--builds", type=Path, default=Path("build/cnn"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--lanes", type=int, default=16, help="lanes of the slowest layer")
    parser.add_argument(
        "--images", type=int, help="images through the harness; as the data set asks by default"
    )
    parser.add_argument("--again", action="store_true", help="measure even what was measured before")
    options = parser.parse_args()

    path = options.docs / "results-cnn.json"
    networks: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    for run in options.runs:
        weights = read_run_config(run).weights_sha256
        if not options.again and networks.get(run.name, {}).get("weights_sha256") == weights:
            say(f"{run}: measured before")
            continue
        networks[run.name] = measure(
            run, options.builds, CompileOptions(lanes=options.lanes), options.data_dir, options.images
        )
        write_file(path, (json.dumps(networks, indent=1) + "\n").encode())
        write_file(options.docs / "results-cnn.md", page(networks).encode())
        fill_block(options.docs.parent / "README.md", "cnn", readme_table(networks))
    different = [
        name
        for name, figures in networks.items()
        if not all(
            part["equal"] for part in (figures["check"], figures["check"].get("cocotb", {"equal": True}))
        )
    ]
    if different:
        sys.exit(f"error: design and golden model differ: {', '.join(different)}")


if __name__ == "__main__":
    main()
