"""Picture of docs/results.md: accuracy of every network in hardware, over what it reads for an image."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from results_plan import BITS

from lmht.gen.files import write_file

__all__ = ["draw"]

_COLOURS = {8: "#1b6ca8", 4: "#d1801f", 2: "#8b2f4b"}
_MARKERS = {1: "o", 2: "s", 4: "^"}


def draw(path: Path, cells: dict[str, list[tuple[int, int, int, dict[str, Any]]]]) -> None:
    """Draw one panel a network.

    Parameters
    ----------
    path : Path
        PNG file.
    cells : dict
        By title: levels, steps, bits and record of every network with hardware figures.
    """
    figure = Figure(figsize=(5.2 * len(cells), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, networks) in zip(
        figure.subplots(1, len(cells), squeeze=False)[0], cells.items(), strict=True
    ):
        for levels, steps, bits, record in networks:
            reads, accuracy = record["hardware"]["weight_bits_read"] / 1000, 100 * record["test_accuracy"]
            axes.plot(reads, accuracy, _MARKERS[levels], color=_COLOURS[bits], markersize=6)
            axes.annotate(
                f"T={steps}", (reads, accuracy), xytext=(4, 3), textcoords="offset points", fontsize=6
            )
        axes.set_title(title.replace("`", ""), fontsize=10)
        axes.set_xlabel("kbit of weights read an image")
        axes.set_ylabel("test accuracy, %")
        axes.set_xscale("log")
        for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            formatted(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(alpha=0.3)
    handles = [
        figure.axes[0].plot([], [], "s", color=_COLOURS[bits], label=f"{bits} bits")[0] for bits in BITS[1:]
    ]
    handles += [
        figure.axes[0].plot([], [], marker, color="grey", label=f"L = {levels}")[0]
        for levels, marker in _MARKERS.items()
    ]
    figure.axes[0].legend(handles=handles, fontsize=7, loc="lower right")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    write_file(path, content.getvalue())
