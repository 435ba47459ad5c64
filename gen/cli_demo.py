"""``lmht demo``: the whole way on the bundled handwritten digits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lmht.gen.cli_errors import FAILED, Failure
from lmht.gen.cli_options import make_console

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder of runs, build and picture.")] = Path("build/demo"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Train for fewer or more epochs.")] = None,
    cocotb_images: Annotated[int, typer.Option(min=1, max=360, help="Images through the cocotb bench.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of training and of the random pauses.")] = 0,
) -> None:
    """Train on the bundled handwritten digits, compile, verify every test image, and draw what happened.

    Takes about a minute. Ends with a table and a picture, OUT/demo.png.

    \b
    Examples:
      lmht demo
      lmht demo --out build/another --seed 7
    """
    from lmht.gen.demo import run_demo, summary_table

    console = make_console()
    result = run_demo(
        out, epochs=epochs, cocotb_images=cocotb_images, seed=seed, say=partial(console.print, soft_wrap=True)
    )
    console.print(summary_table(result))
    if not result.equal:
        raise Failure("design and golden model differ", FAILED)
