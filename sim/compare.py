"""What came out of a design, and what it counted, against the golden model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lmht.rtl.parameters import DesignParameters
from lmht.rtl.registers import RegisterMap
from lmht.sim.expectations import Expectations
from lmht.sim.report import Difference
from lmht.sim.simulation import MISSING_LOGIT, SimulationRun

__all__ = ["compare_registers", "compare_results"]

_LISTED = 20  # differences of one kind that a report lists


def compare_results(expected: Expectations, run: SimulationRun) -> Iterator[Difference]:
    """Differences in logits, classes and flags, a few of each; images without a result."""
    count = run.images
    wrong = np.argwhere(run.logits != expected.logits[:count])
    for image, neuron in wrong[:_LISTED]:
        found, wanted = int(run.logits[image, neuron]), int(expected.logits[image, neuron])
        text = "missing" if found == MISSING_LOGIT else str(found)
        yield Difference(
            kind="logit",
            message=f"image {image}: logit {neuron} is {text} instead of {wanted}",
            image=int(image),
            neuron=int(neuron),
            expected=wanted,
            found=None if found == MISSING_LOGIT else found,
        )
    for image in np.flatnonzero(run.classes != expected.predictions[:count])[:_LISTED]:
        found, wanted = int(run.classes[image]), int(expected.predictions[image])
        message = f"image {image}: class is {found} instead of {wanted}"
        yield Difference(kind="class", message=message, image=int(image), expected=wanted, found=found)
    for image in np.flatnonzero(run.errors)[:_LISTED]:
        message = f"image {image}: its frame is flagged as damaged"
        yield Difference(kind="flag", message=message, image=int(image), expected=0, found=1)
    classes = expected.logits.shape[1]
    for image in np.flatnonzero(run.words != classes)[:_LISTED]:
        message = f"image {image}: {run.words[image]} logits came instead of {classes}"
        yield Difference(
            kind="logit", message=message, image=int(image), expected=classes, found=int(run.words[image])
        )
    if count < run.expected_images:
        yield Difference(
            kind="missing",
            message=f"the stream stopped: {count} of {run.expected_images} images came through",
            image=count,
            expected=run.expected_images,
            found=count,
        )
    if run.surplus:
        message = f"{run.surplus} result words came after the last image"
        yield Difference(kind="surplus", message=message, expected=0, found=run.surplus)


def compare_registers(
    parameters: DesignParameters, expected: Expectations, run: SimulationRun
) -> Iterator[Difference]:
    """Sticky errors and counters, in the order of the data path."""
    for register in RegisterMap.for_design(parameters).registers:
        if not register.name.endswith("_errors"):
            continue
        value = run.registers[register.name]
        stage = register.name.removesuffix("_errors")
        for name, seen in register.unpack(value).items():
            if seen:
                message = f"{stage} reports the error '{name}'"
                yield Difference(kind="error", message=message, stage=stage, expected=0, found=1)
    if run.stalled:
        return  # what a stalled design has not counted says nothing about where it stopped
    for name, wanted in expected.counters(parameters).items():
        found = run.registers[name]
        if found != wanted % 2**32:
            stage, _, _ = name.partition("_events") if "_events" in name else name.rpartition("_")
            yield Difference(
                kind="counter",
                message=f"{stage} counted {found} {name.removeprefix(stage + '_')} instead of {wanted}",
                stage=stage,
                expected=wanted,
                found=found,
            )
