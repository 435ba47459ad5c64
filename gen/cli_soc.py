"""``lmht soc``: a build in a RISC-V system, whose firmware classifies test images."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmht.gen.cli_errors import FAILED, Failure
from lmht.gen.cli_options import BuildFolder, DataDir, load_build_data, make_console, parse_image_count
from lmht.gen.cli_verify import shown_progress

if TYPE_CHECKING:
    from rich.table import Table

    from lmht.sim.soc_engine import SocRun

__all__ = ["CompilerName", "soc"]

_LISTED = 20  # images of the table


class CompilerName(StrEnum):
    """Compilers of :func:`lmht.sim.cross_compiler.find_compiler`."""

    zig = "zig"
    gcc = "gcc"


def soc(
    build: BuildFolder,
    images: Annotated[str, typer.Option(help="Number of test images, or 'all'.")] = "20",
    data_dir: DataDir = None,
    compiler: Annotated[
        CompilerName | None,
        typer.Option(
            help="RISC-V compiler: zig (pip install ziglang) or gcc (Debian).  [default: whichever is there]"
        ),
    ] = None,
    uart: Annotated[
        Path | None, typer.Option(help="Write what the firmware said over the UART into this file.")
    ] = None,
) -> None:
    """Run a build in a small RISC-V system, simulated as a whole, and compare with the golden model.

    PicoRV32 with RAM, flash, a UART and a DMA. Its firmware, with the C driver, loads the memory image through the
    bus, classifies the test images, every second one by interrupt, and reports over the UART. Compared are every
    class and logit, the flags and the core's counters. The exit status is 1 if anything differs.

    \b
    Examples:
      lmht soc build/mnist --data-dir DIR --images 20
      lmht soc build/digits --compiler gcc --uart digits.txt
    """
    from lmht.gen.build import Build
    from lmht.gen.files import write_file
    from lmht.sim.cross_compiler import TARGETS, find_compiler
    from lmht.sim.expectations import expect
    from lmht.sim.simulation import SimulationError
    from lmht.sim.soc_engine import SocEngine
    from lmht.sim.soc_report import SocError
    from lmht.sim.soc_verify import compare_soc

    chosen = find_compiler(TARGETS["riscv"], compiler)
    opened = Build.open(build)
    dataset = load_build_data(opened, data_dir)
    count = parse_image_count(images, len(dataset.test_images), dataset.name)
    pixels = dataset.test_images[:count].numpy()
    expected = expect(opened.network, opened.parameters, pixels)
    try:
        with shown_progress(f"RISC-V system, {count} images") as progress:
            run = SocEngine(opened, chosen).run(pixels, progress=progress)
        differences = compare_soc(opened, expected, run)
    except (SocError, SimulationError) as error:
        raise Failure(str(error), FAILED) from None
    if uart is not None:
        write_file(uart, "".join(f"{line}\n" for line in run.report.lines).encode())
    console = make_console()
    console.print(_table(run))
    console.print(
        f"memory image: {run.report.loaded_bytes:,} bytes checked and loaded in {run.report.load_cycles:,} cycles; "
        f"{run.cycles:,} cycles of the system simulated in {run.seconds:.1f} s",
        soft_wrap=True,
    )
    if differences:
        raise Failure(f"system and golden model differ: {differences[0].message}", FAILED)
    console.print(
        f"{count} images through the RISC-V system: all {expected.logits.size} logits and {count} classes equal the "
        "golden model's; no frame was flagged, every counter of the core is as expected.",
        soft_wrap=True,
    )


def _table(run: SocRun) -> Table:
    """Cycles of the images, and their means."""
    from rich.table import Table

    images = run.report.images
    table = Table(
        title="Processor cycles an image",
        caption="core: from the frame's first beat to its result's last word" + _shown(len(images)),
    )
    table.add_column("image")
    table.add_column("class", justify="right")
    table.add_column("awaited by")
    for header in ("send", "wait", "fetch", "total", "core"):
        table.add_column(header, justify="right")
    for number, image in enumerate(images[:_LISTED]):
        cycles = (image.send, image.wait, image.fetch, image.total, image.core)
        table.add_row(str(number), str(image.winner), image.way, *(f"{value:,}" for value in cycles))
    for way in dict.fromkeys(image.way for image in images):
        part = [image for image in images if image.way == way]
        means = (
            sum(getattr(image, name) for image in part) / len(part)
            for name in ("send", "wait", "fetch", "total", "core")
        )
        table.add_section()
        table.add_row("mean", "", way, *(f"{value:,.1f}" for value in means))
    return table


def _shown(images: int) -> str:
    return f"; the first {_LISTED} of {images} images are shown" if images > _LISTED else ""
