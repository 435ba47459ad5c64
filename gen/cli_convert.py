"""``lmht convert``: the run of a QCFS network in, that of a spiking network out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmht.gen.cli_options import DataDir
from lmht.gen.cli_train import check_buildable, show_run
from lmht.rtl.checks import LEVELS_LIMIT, STEPS_LIMIT

__all__ = ["convert"]


def convert(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `lmht train --method qcfs` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the spiking network's run.")],
    levels: Annotated[
        int | None,
        typer.Option(help=f"Threshold levels L of a neuron, 1 to {LEVELS_LIMIT}.  [default: the run's]"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help=f"Time steps T of a window, 1 to {STEPS_LIMIT}.  [default: the run's]")
    ] = None,
    data_dir: DataDir = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run in the folder.")] = False,
) -> None:
    """Turn a QCFS network into a spiking network, without training.

    With L x T = Q the spiking network computes what the QCFS network does; any other L and T keep its expectation.
    The accuracy is measured where the data set is at hand.

    \b
    Examples:
      lmht train --method qcfs --quanta 8 --out runs/qcfs
      lmht convert runs/qcfs --levels 4 --steps 2 --out runs/converted
    """
    from lmht.model import convert_run, load_dataset
    from lmht.model.checkpoint import read_run_config

    record = read_run_config(run)
    levels = record.network.levels if levels is None else levels
    steps = record.network.steps if steps is None else steps
    check_buildable(levels, steps)
    at_hand = data_dir is not None or record.dataset == "digits"
    dataset = load_dataset(record.dataset, data_dir, coding=record.network.coding) if at_hand else None
    show_run(out, convert_run(run, out, levels, steps, dataset, overwrite=overwrite))
