"""Shows the RISC-V system equal to the golden model: every logit, class and flag, every counter of the core."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmht.gen.build import Build
from lmht.rtl.registers import RegisterMap
from lmht.sim.compare import compare_registers, compare_results
from lmht.sim.expectations import Expectations
from lmht.sim.report import Difference
from lmht.sim.simulation import SimulationRun
from lmht.sim.soc_engine import SocRun
from lmht.sim.soc_report import SocError

__all__ = ["compare_soc"]


def compare_soc(build: Build, expected: Expectations, run: SocRun) -> list[Difference]:
    """What differs, logits first; nothing if all is well.

    Parameters
    ----------
    build : Build
    expected : Expectations
        Of the images that were classified.
    run : SocRun

    Raises
    ------
    SocError
        If the firmware did not report every register and no other, or every logit of an image.
    """
    seen = _as_simulation(build, len(expected.logits), run)
    return [*compare_results(expected, seen), *compare_registers(build.parameters, expected, seen)]


def _as_simulation(build: Build, images: int, run: SocRun) -> SimulationRun:
    """The run as the other engines give theirs."""
    results = run.report.images
    registers = RegisterMap.for_design(build.parameters).registers
    readable = {register.address: register.name for register in registers if register.readable}
    for address in readable.keys() - run.report.registers.keys():
        raise SocError(f"the firmware did not report the register {readable[address]}")
    for address in run.report.registers.keys() - readable.keys():
        raise SocError(f"the firmware read a register at {address}, where the core must refuse it")
    classes = build.parameters.classes
    for image, result in enumerate(results):
        if len(result.logits) != classes:
            raise SocError(
                f"image {image}: the firmware reported {len(result.logits)} logits instead of {classes}"
            )
    logits = np.array([result.logits for result in results], np.int64).reshape(len(results), classes)

    def column(values: list[int]) -> NDArray[np.int64]:
        return np.array(values, np.int64)

    return SimulationRun(
        logits=logits,
        classes=column([result.winner for result in results]),
        errors=np.array([result.flagged for result in results], bool),
        words=np.full(len(results), classes),
        first_beat=column([0] * len(results)),
        result=column([result.core for result in results]),
        expected_images=images,
        surplus=0,
        stalled=False,
        registers={name: run.report.registers[address] for address, name in readable.items()},
        cycles=run.cycles,
        simulation_seconds=run.seconds,
        wall_seconds=run.seconds,
    )
