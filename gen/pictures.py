"""The picture of a verified network: spikes of one image layer by layer, and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from lmht.sim.golden import GoldenResult

__all__ = ["confusion_matrix", "draw_picture", "save_picture"]

Shape = tuple[int, int, int]

_INK, _QUIET, _RIGHT, _WRONG = "#22303c", "#8a97a3", "#1f7a8c", "#d1495b"
_STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.linewidth": 0.6,
}


def save_picture(
    path: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    golden: GoldenResult,
    predictions: NDArray[np.int64],
    classes: Sequence[str],
    *,
    levels: int,
    shapes: Sequence[Shape] | None = None,
    image: int | None = None,
) -> None:
    """Draw and write a PNG; the same input gives the same picture. Parameters as in :func:`draw_picture`."""
    with matplotlib.rc_context(_STYLE):
        figure = draw_picture(
            images, labels, golden, predictions, classes, levels=levels, shapes=shapes, image=image
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130, facecolor="white", metadata={"Software": "lmht"})


def draw_picture(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    golden: GoldenResult,
    predictions: NDArray[np.int64],
    classes: Sequence[str],
    *,
    levels: int,
    shapes: Sequence[Shape] | None = None,
    image: int | None = None,
) -> Figure:
    """Draw the spike raster of one image and the confusion matrix of all.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (N, C, H, W)
    labels, predictions : numpy.ndarray of int64, shape (N,)
        Classes as they should be, and as the hardware gave them.
    golden : GoldenResult
        Of these images, with its levels kept.
    classes : sequence of str
    levels : int
        ``L``, the highest level.
    shapes : sequence of tuple of int, optional
        Channels, height and width of every hidden layer's map. A map of more than one pixel is drawn as such, its
        channels added up; without shapes every neuron has a row of its own.
    image : int, optional
        Which one; by default the first whose class is right.

    Raises
    ------
    ValueError
        If `golden` holds no levels, or `image` lies outside the images.
    """
    if golden.levels is None:
        raise ValueError("golden must hold the levels of every layer: run it with keep_levels=True")
    chosen = _first_right(labels, predictions) if image is None else image
    if not 0 <= chosen < len(images):
        raise ValueError(f"image must be between 0 and {len(images) - 1}, not {chosen}")

    hidden = len(golden.levels)
    steps = [layer.shape[0] for layer in golden.levels]
    widths = [2.6, *(max(1.0, 0.45 * count) for count in steps), 2.2, 4.0]
    figure = Figure(figsize=(sum(widths) + 0.5 * len(widths) + 0.6, 5.0))
    grid = figure.add_gridspec(
        1, len(widths), width_ratios=widths, left=0.04, right=0.985, bottom=0.14, top=0.83, wspace=0.30
    )
    axes = [figure.add_subplot(grid[0, column]) for column in range(len(widths))]

    _draw_pixels(axes[0], images[chosen], int(golden.events[chosen, 0]))
    for index, layer in enumerate(golden.levels):
        spiking = int(golden.events[chosen, index + 1])
        shape = (layer.shape[2], 1, 1) if shapes is None else shapes[index]
        if shape[1] * shape[2] > 1:
            _draw_map(axes[1 + index], layer[:, chosen].numpy(), index, shape, spiking)
        else:
            _draw_levels(axes[1 + index], layer[:, chosen].numpy(), index, levels, spiking)
    _draw_logits(axes[1 + hidden], golden.logits[chosen].numpy(), classes, int(labels[chosen]))
    _draw_confusion(axes[2 + hidden], confusion_matrix(labels, predictions, len(classes)), classes)
    _draw_key(figure, levels)
    figure.suptitle(
        f"Image {chosen}, label {classes[labels[chosen]]}, class {classes[predictions[chosen]]}: "
        "the events of every layer, time step by time step",
        x=0.04,
        y=0.97,
        ha="left",
        fontsize=12,
    )
    return figure


def confusion_matrix(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Images by label (rows) and by class found (columns); shape (classes, classes)."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


def _first_right(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> int:
    right = np.flatnonzero(labels == predictions)
    return int(right[0]) if len(right) else 0


def _level_colours(levels: int) -> tuple[ListedColormap, BoundaryNorm]:
    """One colour for every level; 0 is nearly white."""
    scale = matplotlib.colormaps["GnBu"](np.linspace(0.45, 1.0, levels))
    colours = ListedColormap([(0.957, 0.965, 0.973, 1.0), *map(tuple, scale)])
    return colours, BoundaryNorm(np.arange(-0.5, levels + 1), levels + 1)


def _draw_pixels(axes: Axes, image: NDArray[np.uint8], events: int) -> None:
    # Colours where there are three channels; any other number is averaged to grey.
    picture = np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(axis=0)
    axes.imshow(picture, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title("Pixels")
    axes.set_xlabel(f"{events} events")
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_levels(axes: Axes, levels: NDArray[np.uint8], index: int, highest: int, events: int) -> None:
    steps, neurons = levels.shape
    colours, norm = _level_colours(highest)
    axes.pcolormesh(
        levels.T, cmap=colours, norm=norm, edgecolors="white", linewidth=0.7 if neurons <= 80 else 0
    )
    axes.invert_yaxis()
    axes.set_title(f"Hidden layer {index}" if steps > 3 else f"Layer {index}")
    axes.set_xlabel(f"time step\n{events} events, {int(levels.sum())} spikes")
    axes.set_xticks(np.arange(steps) + 0.5, [str(step) for step in range(steps)])
    shown = np.unique(np.linspace(0, neurons - 1, 5).round().astype(int))
    axes.set_yticks(shown + 0.5, [str(neuron) for neuron in shown])
    axes.set_ylabel("neuron", labelpad=1)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_map(axes: Axes, levels: NDArray[np.uint8], index: int, shape: Shape, events: int) -> None:
    """Spikes of all channels at every pixel, one map below the other for the time steps."""
    channels, height, width = shape
    maps = levels.reshape(-1, height, width, channels).sum(axis=3, dtype=np.int64).astype(float)
    # A row without a value between two maps.
    stacked = np.pad(maps, ((0, 0), (0, 1), (0, 0)), constant_values=np.nan).reshape(-1, width)[:-1]
    axes.imshow(stacked, cmap="GnBu", vmin=0, interpolation="nearest")
    axes.set_title(f"Layer {index}")
    axes.set_xlabel(f"{events} events, {int(levels.sum())} spikes\nof {channels} channels")
    centers = np.arange(len(maps)) * (height + 1) + (height - 1) / 2
    axes.set_yticks(centers, [f"step {step}" for step in range(len(maps))], rotation=90, va="center")
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_logits(axes: Axes, logits: NDArray[np.int64], classes: Sequence[str], label: int) -> None:
    winner = int(logits.argmax())
    colours = [_QUIET] * len(classes)
    colours[winner] = _RIGHT if winner == label else _WRONG
    axes.barh(range(len(classes)), logits, color=colours, height=0.72)
    axes.axvline(0, color=_INK, linewidth=0.7)
    axes.set_yticks(range(len(classes)), classes)
    axes.invert_yaxis()
    scale = 3 * max(0, int(math.log10(max(1, int(np.abs(logits).max())))) // 3)
    ticks = axes.get_xticks()
    axes.set_xticks(ticks[1:-1:2] if len(ticks) > 5 else ticks, minor=False)
    if scale:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 10**scale:g}")
    axes.set_title("Logits")
    axes.set_xlabel({0: "integer", 3: "thousands", 6: "millions"}.get(scale, f"units of 10^{scale}"))
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _draw_confusion(axes: Axes, matrix: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Colours by part of a label's images, so that classes of any size read the same."""
    parts = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(parts, cmap="GnBu", vmin=0, vmax=1, aspect="equal")
    for label, row in enumerate(matrix):
        for found, count in enumerate(row):
            if not count:
                continue
            colour = "white" if parts[label, found] > 0.6 else _INK if label == found else _WRONG
            weight = "normal" if label == found else "bold"
            axes.text(
                found, label, str(count), ha="center", va="center", color=colour, fontsize=7.5, weight=weight
            )
    total, right = int(matrix.sum()), int(np.trace(matrix))
    axes.set_title(f"All {total:,} images: {right / max(total, 1):.2%} right")
    rotation = 0 if max(map(len, classes)) <= 2 else 90
    axes.set_xticks(range(len(classes)), classes, rotation=rotation)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("class found by the hardware")
    axes.set_ylabel("label", labelpad=1)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_key(figure: Figure, levels: int) -> None:
    """Colour of every level, below the pixels."""
    colours, norm = _level_colours(levels)
    key = [
        Patch(facecolor=colours(norm(level)), edgecolor=_QUIET, linewidth=0.4) for level in range(levels + 1)
    ]
    figure.legend(
        key,
        [str(level) for level in range(levels + 1)],
        title="level of a spike event",
        loc="lower left",
        bbox_to_anchor=(0.03, 0.0),
        alignment="left",
        ncols=levels + 1,
        frameon=False,
        fontsize=8,
        title_fontsize=8,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.0,
        handletextpad=0.4,
    )
