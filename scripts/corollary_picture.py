"""Draw docs/images/corollary-4-3.png: what a window emits under one current, and where it emits it uniformly."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from lmht.gen.files import write_file
from lmht.model import LMHT

LEVELS, STEPS = 2, 4
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "corollary-4-3.png"
_SHADES = ["#f3f0e7", "#7fb3c8", "#1b6ca8"]
_UNEVEN = "#d1801f"


def draw(levels: int = LEVELS, steps: int = STEPS) -> bytes:
    """PNG of the spikes of M-HT neurons (θ = 1, ``v[-1] = θ/2``, no leak) over their current, step by step."""
    neuron = LMHT(levels, steps, 1.0, 0.5, mixing="identity", leak=1.0).double()
    # Steps of 1/64: every threshold is met exactly.
    currents = torch.arange(-32, 64 * levels + 33, dtype=torch.float64) / 64
    with torch.no_grad():
        counts = neuron(currents.expand(steps, -1)).numpy()
    uneven = (counts != counts[0]).any(axis=0)
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 1, sharex=True, height_ratios=(steps, 3))
    extent = (float(currents[0]), float(currents[-1]), steps + 0.5, 0.5)
    shades = ListedColormap(_SHADES[: levels + 1])
    shown = axes[0].imshow(
        counts,
        aspect="auto",
        extent=extent,
        cmap=shades,
        vmin=-0.5,
        vmax=levels + 0.5,
        interpolation="nearest",
    )
    axes[0].set_ylabel("step t")
    axes[0].set_yticks(range(1, steps + 1))
    figure.colorbar(shown, ax=axes[0], ticks=range(levels + 1), label="spikes k[t]")
    axes[1].step(currents, counts.sum(axis=0), where="post", color=_SHADES[-1])
    axes[1].fill_between(
        currents, 0, levels * steps, where=uneven, color=_UNEVEN, alpha=0.35, step="post", lw=0
    )
    axes[1].set_ylabel("spikes in all")
    axes[1].set_xlabel(
        "current I / θ, the same at every step (shaded: steps emit different numbers of spikes)"
    )
    axes[0].set_title(f"M-HT, L = {levels}, T = {steps}, v[-1] = θ/2", fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()


if __name__ == "__main__":
    write_file(PICTURE, draw())
