"""Accuracy of a network in PyTorch beside that of its integers and of the RTL, on the same images."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table
from torch import Tensor

from lmht.gen.integer import IntegerNetwork
from lmht.gen.spike_interface import draw_frames
from lmht.model import Network, SpikingNetwork
from lmht.model.evaluation import BATCH_SIZE, predict
from lmht.sim.golden import GoldenModel

__all__ = [
    "NETWORK",
    "Classes",
    "FidelityRecord",
    "TestImages",
    "accuracy_table",
    "compare_classes",
    "find_warning",
    "measure_classes",
    "read_classes",
]

CLASSES_FILE = "test_classes.csv"

NETWORK = "PyTorch"
"""Column of the network that was compiled, among those of :class:`Classes`."""

NOTICEABLE = 0.005
"""Accuracies that are further apart are worth a warning."""


class FidelityRecord(BaseModel):
    """What a compile measured on the first test images.

    Attributes
    ----------
    images : int
    network_accuracy, integer_accuracy : float
        Parts of the images that the network in PyTorch and its integers classify rightly, 0 to 1.
    agreement : float
        Part of the images that both give the same class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    images: int = Field(ge=1)
    network_accuracy: float = Field(ge=0, le=1)
    integer_accuracy: float = Field(ge=0, le=1)
    agreement: float = Field(ge=0, le=1)


@dataclass(frozen=True, eq=False)
class TestImages:
    """The first `count` test images of a data set, with the coding of a run's network.

    Parameters
    ----------
    images : torch.Tensor of uint8, shape (N, C, H, W)
        All test images; random spikes are drawn for whole batches, so that they are those of every other measurement.
    labels : torch.Tensor of int64, shape (N,)
    count : int
        At least 1; all of them if there are fewer.
    coding : str
    """

    __test__ = False  # not a test class for pytest

    images: Tensor
    labels: Tensor
    count: int
    coding: str = "direct"


@dataclass(frozen=True, eq=False)
class Classes:
    """Labels of some images and the classes that the network and its hardware give them; arrays of shape (images,).

    Parameters
    ----------
    labels : numpy.ndarray of int64
    found : mapping of str to numpy.ndarray of int64
        By who found them, :data:`NETWORK` first.
    """

    labels: NDArray[np.int64]
    found: Mapping[str, NDArray[np.int64]]

    def accuracy(self, name: str) -> float:
        return float((self.found[name] == self.labels).mean())

    def agreement(self, name: str) -> float:
        """Part of the images with the class that the network in PyTorch gives."""
        return float((self.found[name] == self.found[NETWORK]).mean())

    def record(self) -> FidelityRecord:
        return FidelityRecord(
            images=len(self.labels),
            network_accuracy=self.accuracy(NETWORK),
            integer_accuracy=self.accuracy("integers"),
            agreement=self.agreement("integers"),
        )

    def to_csv(self) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["label", *self.found])
        writer.writerows(
            zip(self.labels.tolist(), *(part.tolist() for part in self.found.values()), strict=True)
        )
        return text.getvalue().encode()


def measure_classes(network: Network | SpikingNetwork, integers: IntegerNetwork, test: TestImages) -> Classes:
    """Classes of the test images in PyTorch and by the golden model."""
    count = min(test.count, len(test.images))
    whole = -(-count // BATCH_SIZE) * BATCH_SIZE
    images = test.images[:whole]
    return Classes(
        test.labels[:count].numpy(),
        {
            NETWORK: predict(network, images)[:count].numpy(),
            "integers": GoldenModel(integers)
            .run(draw_frames(images, test.coding)[:count])
            .predictions.numpy(),
        },
    )


def read_classes(folder: Path) -> Classes | None:
    """What a compile wrote into its build; None where it had no images."""
    try:
        text = (folder / CLASSES_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    (_, *names), *rows = csv.reader(io.StringIO(text))
    labels, *found = np.array(rows, dtype=np.int64).T
    return Classes(labels, dict(zip(names, found, strict=True)))


def compare_classes(measured: Classes, more: Mapping[str, NDArray[np.int64]]) -> Classes:
    """The network's classes of `measured` beside `more`, on as many of the first images as all have."""
    count = min(len(measured.labels), *(len(part) for part in more.values()))
    found = {NETWORK: measured.found[NETWORK], **more}
    return Classes(measured.labels[:count], {name: part[:count] for name, part in found.items()})


def find_warning(classes: Classes) -> str | None:
    """A line that says by how much the hardware's accuracy is off, if that is more than half a point."""
    network = classes.accuracy(NETWORK)
    for name in classes.found:
        accuracy = classes.accuracy(name)
        if abs(accuracy - network) > NOTICEABLE + 1e-9:  # 1 - 0.995 is above 0.005
            return (
                f"accuracy of the {name} is {accuracy:.2%} on {len(classes.labels):,} test images, that of the network "
                f"in PyTorch {network:.2%}: `lmht compile --fidelity` chooses widths that keep it"
            )
    return None


def accuracy_table(classes: Classes) -> Table:
    """Accuracies side by side, for a terminal; with the warning, if there is one."""
    warning = find_warning(classes)
    table = Table(
        title=f"accuracy on the first {len(classes.labels):,} test images",
        caption=None if warning is None else f"warning: {warning}",
    )
    table.add_column("by")
    table.add_column("accuracy", justify="right")
    table.add_column("classes as in PyTorch", justify="right")
    for name in classes.found:
        same = "-" if name == NETWORK else f"{classes.agreement(name):.2%}"
        table.add_row(name, f"{classes.accuracy(name):.2%}", same)
    return table
