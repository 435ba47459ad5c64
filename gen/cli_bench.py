"""``lmht bench``: the figures of a build, and of training."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmht.gen.cli_errors import FAILED, Failure
from lmht.gen.cli_options import DataDir, load_build_data, make_console, parse_image_count

if TYPE_CHECKING:
    from lmht.gen.build import Build

__all__ = ["bench"]


class DeviceName(StrEnum):
    """Devices of :func:`lmht.gen.place.place_design`."""

    ecp5 = "ecp5"


def bench(
    build: Annotated[
        Path | None, typer.Argument(metavar="BUILD", help="Folder that `lmht compile` wrote.")
    ] = None,
    images: Annotated[str, typer.Option(help="Number of test images through the harness, or 'all'.")] = "all",
    cocotb_images: Annotated[
        int, typer.Option(min=0, help="How many of them through cocotb; 0 for none.")
    ] = 20,
    data_dir: DataDir = None,
    place: Annotated[
        DeviceName | None, typer.Option(help="Synthesize, place and route (needs the extra 'place').")
    ] = None,
    place_folder: Annotated[
        Path | None, typer.Option(help="Keep its netlist and logs in this folder.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures into this file, too.")] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Measure the speed of training instead of a build.")
    ] = False,
) -> None:
    """Measure a build: cycles, utilization, speed of every engine, time to emit, size and clock on an FPGA.

    The exit status is 1 if a logit differs from the golden model's. With --training it is the fused neuron that is
    measured against the plain loop over the steps.

    \b
    Examples:
      lmht bench build/digits
      lmht bench --training --json training.json
      lmht bench build/mnist --data-dir DIR --place ecp5 --json mnist.json
    """
    if training == (build is not None):
        raise Failure("bench needs either the folder of a build or --training")
    if build is None:
        _bench_training(json)
        return
    from lmht.gen.build import Build
    from lmht.gen.files import write_file
    from lmht.sim.benchmark import benchmark

    opened = Build.open(build)
    dataset = load_build_data(opened, data_dir)
    count = parse_image_count(images, len(dataset.test_images), dataset.name)
    result = benchmark(
        opened,
        dataset.test_images[:count].numpy(),
        cocotb_images=min(cocotb_images, count),
        emit=lambda: _emit(opened),
        place=None if place is None else place.value,
        place_folder=place_folder,
    )
    make_console().print(result.table())
    if json is not None:
        write_file(json, (result.model_dump_json(indent=2) + "\n").encode())
    if not result.equal:
        raise Failure(
            f"{build}: not every logit equals the golden model's; lmht verify finds the place", FAILED
        )


def _bench_training(json: Path | None) -> None:
    from lmht.gen.files import write_file
    from lmht.model.training_speed import measure_training_speed

    result = measure_training_speed()
    make_console().print(result.table())
    if json is not None:
        write_file(json, (result.model_dump_json(indent=2) + "\n").encode())


def _emit(build: Build) -> None:
    """Write the whole design once more, for the time it takes."""
    from lmht.gen.write import write_design

    with tempfile.TemporaryDirectory(prefix="lmht-emit-") as folder:
        write_design(Path(folder), build.parameters, build.network)
