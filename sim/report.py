"""What a verification found: equality, place of the first fault, timing and utilization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lmht.rtl.parameters import DesignParameters
from lmht.sim.expectations import Expectations, stage_work
from lmht.sim.simulation import SimulationRun

__all__ = [
    "CycleSummary",
    "Difference",
    "SpeedComparison",
    "StageRow",
    "VerifyReport",
    "stage_table",
    "summarize_cycles",
]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One way in which design and golden model differ.

    Parameters
    ----------
    kind : {"memory", "logit", "class", "flag", "missing", "surplus", "error", "counter", "spike", "ports"}
        What was compared; ``spike`` is the place that comparing layer by layer has found, ``ports`` says that it lies
        outside the design.
    message : str
        One line.
    stage : str or None
        Component at fault, where known.
    image, layer, y, x, channel, neuron, step, expected, found : int or None
        Where and what, as far as it applies; `neuron` is the place in the flat order ``(y, x, channel)``.
    """

    kind: str
    message: str
    stage: str | None = None
    image: int | None = None
    layer: int | None = None
    y: int | None = None
    x: int | None = None
    channel: int | None = None
    neuron: int | None = None
    step: int | None = None
    expected: int | None = None
    found: int | None = None

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class CycleSummary:
    """Clock cycles an image takes.

    Parameters
    ----------
    latency_mean, latency_min, latency_max : float
        From an image's first input beat to its class.
    steady_mean, steady_min, steady_max : float
        From one image's class to the next one's; the latency where there is one image only.
    """

    latency_mean: float
    latency_min: float
    latency_max: float
    steady_mean: float
    steady_min: float
    steady_max: float


@dataclass(frozen=True)
class StageRow:
    """One stage in the steady state.

    Parameters
    ----------
    stage : str
    resource : str
        The one that binds: ``integration``, ``update`` or ``encoder``.
    work : float
        Cycles an image that it must work, on average.
    utilization : float
        Work over cycles taken.
    events_in, events_out : float
        Events an image; 0 into the frame encoder.
    """

    stage: str
    resource: str
    work: float
    utilization: float
    events_in: float
    events_out: float


@dataclass(frozen=True)
class SpeedComparison:
    """Images that one processor simulates in a second through the driver, and, of the first of them, through the bare
    harness.

    Parameters
    ----------
    images_per_second, harness_images_per_second : float
        Per second of the processor's time, loading left out.
    harness_images : int
        Images that the harness's figure is of.
    """

    images_per_second: float
    harness_images_per_second: float
    harness_images: int

    @property
    def ratio(self) -> float:
        """Speed of the driver over that of the harness."""
        return self.images_per_second / self.harness_images_per_second


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """Result of :func:`lmht.sim.verify.verify`.

    Parameters
    ----------
    ok : bool
        Every logit, class, flag, counter and memory word is as the golden model says.
    engine : str
    images : int
        Images compared.
    logits : int
        Logits compared.
    layer_images, levels : int
        Images whose words were compared at every link, and the levels that these say, silent neurons' included.
    differences : tuple of Difference
        Empty if `ok`; the place of the fault first, where it was found.
    message : str
        One paragraph.
    accuracy : float or None
        Of the RTL against the labels, 0 to 1; None without labels.
    cycles : CycleSummary or None
        None where no image came through, or the images were disturbed.
    stages : tuple of StageRow
        In the order of the data path; empty where the images were disturbed.
    registers : mapping
        Counters and errors after the run.
    fifo_words : mapping
        The most words that were in the FIFO in front of each input that has one (harness only).
    classes, golden_classes : numpy.ndarray of int64, shape (images,)
        Of the RTL, as far as it came, and of the golden model.
    idle, back_pressure, seed, disturb
        As given.
    speed : SpeedComparison or None
        With the driver only.
    golden_seconds, simulation_seconds, wall_seconds : float
        Golden model; stream's loop; everything, build included.
    """

    ok: bool
    engine: str
    images: int
    logits: int
    layer_images: int
    levels: int
    differences: tuple[Difference, ...]
    message: str
    accuracy: float | None
    cycles: CycleSummary | None
    stages: tuple[StageRow, ...]
    registers: Mapping[str, int] = field(default_factory=dict)
    fifo_words: Mapping[str, int] = field(default_factory=dict)
    classes: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False
    )
    golden_classes: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(0, np.int64), repr=False, compare=False
    )
    idle: float = 0.0
    back_pressure: float = 0.0
    seed: int = 0
    disturb: int = 0
    speed: SpeedComparison | None = None
    golden_seconds: float = 0.0
    simulation_seconds: float = 0.0
    wall_seconds: float = 0.0

    @property
    def busiest(self) -> StageRow | None:
        """The stage with the highest utilization."""
        return max(self.stages, key=lambda row: row.utilization, default=None)


def summarize_cycles(run: SimulationRun) -> CycleSummary | None:
    """Latency and steady state of a run; None where no image came through."""
    if not run.images:
        return None
    latency = run.result - run.first_beat + 1
    steady = np.diff(run.result) if run.images > 1 else latency
    return CycleSummary(
        *(float(value) for row in (latency, steady) for value in (row.mean(), row.min(), row.max()))
    )


def stage_table(
    expected: Expectations, parameters: DesignParameters, run: SimulationRun
) -> tuple[StageRow, ...]:
    """Work and utilization of every stage's binding resource in the steady state.

    From one class to the next every stage does the work of one image: the first image, which fills the pipeline, is
    left out of both.
    """
    images = run.images
    if images < 2:
        return ()
    cycles = float(run.result[-1] - run.result[0])
    rows: dict[str, StageRow] = {}
    for work in stage_work(expected, parameters):
        total = float(work.cycles[1:images].sum())
        held = rows.get(work.stage)
        if held is not None and held.work * (images - 1) >= total:
            continue
        tile = expected.tiles.get(work.stage)
        if tile is not None:
            arrived, sent = float(tile.events_in[:images].mean()), float(tile.events_out[:images].mean())
        else:
            arrived, sent = 0.0, float(expected.link_events[:images, 0].mean())
        rows[work.stage] = StageRow(
            work.stage, work.resource, total / (images - 1), total / cycles, arrived, sent
        )
    return tuple(rows.values())
