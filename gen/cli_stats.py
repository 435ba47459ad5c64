"""``lmht stats``: what a trained network sends, fires and computes for an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmht.gen.cli_compile import check_spiking
from lmht.gen.cli_options import DataDir, make_console, parse_image_count

__all__ = ["stats"]

_DEFAULT_IMAGES = 500


def stats(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `lmht train` wrote.")],
    data_dir: DataDir = None,
    images: Annotated[
        str | None,
        typer.Option(
            help=f"Number of test images, or 'all'.  [default: {_DEFAULT_IMAGES}, or as many as there are]"
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures into this file, too.")] = None,
) -> None:
    """Count the events, spikes and synaptic operations of a trained network on test images.

    Counted is the integer network that `lmht compile` builds. An event carries the levels of all steps; beside it
    stands what events of single steps would cost. The planner of `lmht compile` uses the same densities.

    \b
    Examples:
      lmht stats runs/digits
      lmht stats runs/mnist --data-dir DIR --images all --json stats.json
    """
    check_spiking(run)
    from lmht.gen.compile import CompileOptions, to_integers
    from lmht.gen.event_statistics import measure_events, statistics_tables
    from lmht.gen.files import write_file
    from lmht.gen.spike_interface import check_spike_interface, draw_frames
    from lmht.model import load_checkpoint, load_dataset

    network, record = load_checkpoint(run)
    check_spike_interface(network)
    dataset = load_dataset(record.dataset, data_dir, coding=record.network.coding)
    available = len(dataset.test_images)
    count = parse_image_count(images or str(min(_DEFAULT_IMAGES, available)), available, dataset.name)
    integers = to_integers(network, CompileOptions(), name=run.resolve().name)
    found = measure_events(integers, draw_frames(dataset.test_images[:count], record.network.coding))
    make_console().print(statistics_tables(found))
    if json is not None:
        write_file(json, found.to_json())
