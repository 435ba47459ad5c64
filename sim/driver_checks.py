"""What a verification through the C driver adds: its speed beside the bare harness's, and faults outside the design."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmht.sim.compare import compare_results
from lmht.sim.expectations import Expectations
from lmht.sim.harness import Harness
from lmht.sim.report import Difference, SpeedComparison
from lmht.sim.simulation import SimulationRun

__all__ = ["compare_speed", "outside_fault"]

_COMPARED_CYCLES = 20_000_000  # some 20 s of the harness
_RESULTS = ("logit", "class", "flag", "missing")  # kinds of differences in what comes out


def compare_speed(
    harness: Harness,
    images: NDArray[np.uint8],
    run: SimulationRun,
    *,
    idle: float,
    back_pressure: float,
    seed: int,
) -> SpeedComparison | None:
    """Speed of `run` and, on the first of its images, of the harness with the same pauses; None where not all of them
    came through."""
    if run.stalled:
        return None
    sample = images[: max(1, _COMPARED_CYCLES * len(images) // run.cycles)]
    bare = harness.run(sample, idle=idle, back_pressure=back_pressure, seed=seed)
    if bare.stalled:
        return None
    return SpeedComparison(
        run.images / run.processor_seconds, bare.images / bare.processor_seconds, len(sample)
    )


def outside_fault(
    harness: Harness, images: NDArray[np.uint8], expected: Expectations, differences: list[Difference]
) -> Difference | None:
    """The place of the first wrong result, where every word inside the design was found right: the ports or the driver,
    if the harness, which has neither, gives the right result for the same image."""
    first = next((item for item in differences if item.kind in _RESULTS and item.image is not None), None)
    if first is None or first.image is None:
        return None
    run = harness.run(images[: first.image + 1])
    if any(compare_results(expected, run)):
        return None
    return Difference(
        kind="ports",
        message=f"{first.message}, though every word inside the design is right, and so is the result without its AXI "
        "ports: the fault lies in the ports or in the driver",
        stage="ports or driver",
        image=first.image,
        neuron=first.neuron,
        expected=first.expected,
        found=first.found,
    )
