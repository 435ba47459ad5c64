"""``lmht verify``: a build in, equality with the golden model, or the place where it ends, out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmht.gen.cli_errors import FAILED, Failure
from lmht.gen.cli_options import (
    BuildFolder,
    DataDir,
    EngineName,
    load_build_data,
    make_console,
    parse_image_count,
)

if TYPE_CHECKING:
    from rich.table import Table

    from lmht.gen.build import Build
    from lmht.sim.report import Difference, VerifyReport
    from lmht.sim.simulation import Progress

__all__ = ["shown_progress", "stages_table", "verify"]

_DEFAULT_IMAGES = {EngineName.harness: "all", EngineName.cocotb: "20", EngineName.driver: "all"}


def verify(
    build: BuildFolder,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="C++ harness (fast), cocotb bench, or the C driver through the AXI ports; all run the emitted Verilog."
        ),
    ] = EngineName.harness,
    images: Annotated[
        str | None, typer.Option(help="Number of test images, or 'all'.  [default: all; 20 with cocotb]")
    ] = None,
    data_dir: DataDir = None,
    idle: Annotated[float, typer.Option(help="Probability that the input pauses in a cycle.")] = 0.0,
    back_pressure: Annotated[
        float, typer.Option(help="Probability that the output pauses in a cycle.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of both.")] = 0,
    disturb: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="With the driver: before every N images, reset the core in the middle of a frame and send a malformed "
            "packet.  [default: never]",
        ),
    ] = None,
    layer_images: Annotated[
        int, typer.Option(min=1, help="Images whose levels are compared in every layer.")
    ] = 8,
    waves: Annotated[
        Path | None,
        typer.Option(help="Record a waveform of the first image, or of the first wrong one, into this file."),
    ] = None,
) -> None:
    """Stream test images through the emitted Verilog and compare all of it with the golden model.

    The data set is the one that the network was trained on. Compared are every logit and class, the error flags,
    the counters and the memory words, and for the first images the levels of every layer. The exit status is 1 if
    anything differs; the first difference is then located: layer, row, column, channel and time step.

    \b
    Examples:
      lmht verify build/mnist --data-dir DIR --engine harness --images all
      lmht verify build/mnist --data-dir DIR --engine cocotb --images 100 --idle 0.3 --back-pressure 0.3
      lmht verify build/mnist-axi --data-dir DIR --engine driver --images all
      lmht verify build/mnist-axi --data-dir DIR --engine driver --images 1000 --disturb 10 --back-pressure 0.3
      lmht verify build/digits --images 10 --waves digits.fst
    """
    from lmht.gen.build import Build
    from lmht.sim.runner import BenchFailure
    from lmht.sim.verify import verify as verify_build

    if waves is not None and engine is EngineName.driver:
        raise Failure("waves must be recorded with the engine harness or cocotb, not driver")
    opened = Build.open(build)
    dataset = load_build_data(opened, data_dir)
    count = parse_image_count(images or _DEFAULT_IMAGES[engine], len(dataset.test_images), dataset.name)
    pixels, labels = dataset.test_images[:count].numpy(), dataset.test_labels[:count].numpy()
    try:
        with shown_progress(f"{engine.value}, {count} images") as progress:
            report = verify_build(
                opened,
                pixels,
                labels,
                engine=engine.value,
                idle=idle,
                back_pressure=back_pressure,
                seed=seed,
                disturb=disturb or 0,
                layer_images=layer_images,
                progress=progress,
            )
    except BenchFailure as failure:
        raise Failure(str(failure), FAILED) from None
    _show(report)
    warning = _show_accuracy(report, opened)
    if waves is not None:
        from lmht.sim.harness import Harness

        first = next((d.image for d in report.differences if d.image is not None), 0)
        recorded = Harness.for_build(opened).run(
            pixels[: first + 3],
            idle=idle,
            back_pressure=back_pressure,
            seed=seed,
            waves=range(first, first + 1),
            waveform=waves,
        )
        typer.echo(f"waveform of image {first}: {recorded.waveform}")
    if not report.ok:
        raise Failure(_place(report.differences[0]), FAILED)
    if warning is not None:
        typer.echo(f"warning: {warning}", err=True)


def _show_accuracy(report: VerifyReport, build: Build) -> str | None:
    """Print accuracies beside that of the network in PyTorch, as far as it is known; returns a warning."""
    from lmht.gen.fidelity import accuracy_table, compare_classes, find_warning, read_classes

    measured = read_classes(build.folder)
    found = {"integers": report.golden_classes, "RTL": report.classes}
    if not len(report.classes):
        return None
    if measured is None:
        trained = build.source.test_accuracy
        known = "is not known" if trained is None else f"was {trained:.2%} of all test images after training"
        typer.echo(f"accuracy of the network in PyTorch: {known}; nothing was measured when it was compiled")
        return None
    classes = compare_classes(measured, found)
    make_console().print(accuracy_table(classes))
    return find_warning(classes)


def _show(report: VerifyReport) -> None:
    console = make_console()
    if report.stages:
        console.print(stages_table(report))
    if report.accuracy is not None:
        console.print(f"accuracy of the RTL: {report.accuracy:.2%} of {report.images} images")
    if report.cycles is not None:
        cycles = report.cycles
        console.print(
            f"cycles an image: {cycles.steady_mean:,.1f} in the steady state ({cycles.steady_min:,.0f} to "
            f"{cycles.steady_max:,.0f}); {cycles.latency_mean:,.1f} from first pixel to class"
        )
    if report.speed is not None:
        speed = report.speed
        console.print(
            f"{report.engine}: {speed.images_per_second:,.0f} images/s of processor time; bare harness: "
            f"{speed.harness_images_per_second:,.0f} images/s on {speed.harness_images:,} of them; "
            f"ratio {speed.ratio:.0%}",
            soft_wrap=True,
        )
    if report.ok:
        console.print(report.message, soft_wrap=True)


def _place(difference: Difference) -> str:
    """The difference's own line, then every coordinate it has."""
    fields = ("stage", "image", "layer", "y", "x", "channel", "neuron", "step", "expected", "found")
    named = [
        f"{name} {getattr(difference, name)}" for name in fields if getattr(difference, name) is not None
    ]
    return f"design and golden model differ: {difference.message}" + (
        f" [{', '.join(named)}]" if named else ""
    )


def stages_table(report: VerifyReport) -> Table:
    """Work and utilization of every stage of a verification, for a terminal."""
    from rich.table import Table

    busiest = report.busiest
    assert busiest is not None
    table = Table(
        title=f"Stages, {report.images} images",
        caption=f"busiest: {busiest.stage}, {busiest.resource}, {busiest.utilization:.1%}",
    )
    table.add_column("stage")
    table.add_column("busy with")
    for header in ("cycles an image", "utilization", "events in", "events out"):
        table.add_column(header, justify="right")
    for row in report.stages:
        table.add_row(
            row.stage,
            row.resource,
            f"{row.work:,.1f}",
            f"{row.utilization:.1%}",
            f"{row.events_in:,.1f}" if row.events_in else "-",
            f"{row.events_out:,.1f}",
        )
    return table


@contextmanager
def shown_progress(label: str) -> Iterator[Progress]:
    """A progress bar on the error output, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
