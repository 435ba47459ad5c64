"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from lmht.gen.build import Build
    from lmht.gen.compile import CompileOptions
    from lmht.model import Dataset, Network, SpikingNetwork

__all__ = [
    "BuildFolder",
    "DataDir",
    "DataName",
    "EngineName",
    "MethodName",
    "MixingName",
    "load_build_data",
    "make_console",
    "measure_densities",
    "parse_image_count",
    "parse_lanes",
    "parse_leak",
    "parse_split",
    "parse_unroll",
]

BuildFolder = Annotated[Path, typer.Argument(metavar="BUILD", help="Folder that `lmht compile` wrote.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="LMHT_DATA",
        help="Folder of the data set's files, or with a subfolder of its name.",
    ),
]


class DataName(StrEnum):
    """Data sets, as in :func:`lmht.model.load_dataset`."""

    digits = "digits"
    mnist = "mnist"
    fashion_mnist = "fashion-mnist"
    cifar10 = "cifar10"
    cifar100 = "cifar100"
    tiny_imagenet = "tiny-imagenet"
    image_folder = "image-folder"
    n_mnist = "n-mnist"
    dvs_cifar10 = "dvs-cifar10"


class EngineName(StrEnum):
    """Engines of :func:`lmht.sim.verify.verify`."""

    harness = "harness"
    cocotb = "cocotb"
    driver = "driver"


class MethodName(StrEnum):
    """Ways to train: STBP, a QCFS network, or :func:`lmht.model.train_hybrid`."""

    stbp = "stbp"
    qcfs = "qcfs"
    hybrid = "hybrid"


class MixingName(StrEnum):
    """Temporal mixing, as in :class:`lmht.model.NetworkConfig`."""

    learned = "learned"
    identity = "identity"
    uniform = "uniform"


def parse_lanes(text: str) -> int | tuple[int, ...]:
    """``16`` for the slowest layer, ``16,4`` for every layer."""
    numbers = tuple(_number("lanes", part) for part in text.split(","))
    return numbers[0] if len(numbers) == 1 else numbers


def parse_split(texts: Sequence[str]) -> dict[int, int]:
    """``["0:3", "1:2"]`` or ``["0:3,1:2"]``: layer to number of tiles."""
    split: dict[int, int] = {}
    for part in ",".join(texts).split(",") if texts else ():
        layer, colon, tiles = part.partition(":")
        if not colon:
            raise ValueError(f"split must be LAYER:TILES, such as 0:3, not {part!r}")
        index = _number("layer in split", layer)
        if index in split:
            raise ValueError(f"split must name every layer once, not layer {index} again")
        split[index] = _number("tiles in split", tiles)
    return split


def parse_unroll(texts: Sequence[str]) -> bool | dict[int, bool] | None:
    """``["auto"]`` for None, ``["on"]`` or ``["off"]`` for all layers, ``["0:on,3:off"]`` for single ones."""
    words = {"auto": None, "on": True, "off": False}
    parts = ",".join(texts).split(",") if texts else ["auto"]
    if len(parts) == 1 and parts[0] in words:
        return words[parts[0]]
    layers: dict[int, bool] = {}
    for part in parts:
        layer, colon, word = part.partition(":")
        value = words.get(word)
        if not colon or value is None:
            raise ValueError(f"tap_unroll must be auto, on, off, or LAYER:on or LAYER:off, not {part!r}")
        layers[_number("layer in tap_unroll", layer)] = value
    return layers


def parse_leak(text: str) -> str | float:
    """``learned`` or a number."""
    if text == "learned":
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"leak must be 'learned' or a number from 0 to 1.5, not {text!r}") from None


def parse_image_count(text: str, available: int, dataset: str) -> int:
    """``all`` or a number of test images."""
    if text == "all":
        return available
    count = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= count <= available:
        raise ValueError(
            f"images must be 'all' or 1 to {available}, the test images of {dataset}, not {text!r}"
        )
    return count


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.strip().isdigit() and len(text) < 10):
        raise ValueError(f"{name} must be a whole number, not {text!r}")
    return int(text)


def load_build_data(build: Build, data_dir: Path | None) -> Dataset:
    """The data set that the network of a build was trained on, its test images as the design takes them.

    Raises
    ------
    ValueError
        If the build does not know it, or its files are missing or damaged.
    """
    from lmht.gen.spike_interface import draw_frames
    from lmht.model import load_dataset

    name = build.source.dataset
    if name is None:
        raise ValueError(
            f"{build.folder}: compiled from a network without a training run: its data set is unknown"
        )
    coding = (build.source.network or {}).get("coding", "direct")
    dataset = load_dataset(name, data_dir, coding=coding)
    return replace(dataset, test_images=draw_frames(dataset.test_images, coding))


def measure_densities(
    network: Network | SpikingNetwork, images: Tensor, options: CompileOptions
) -> CompileOptions:
    """The options with the densities of these images, where none are given: the parts of the pixels, and of the map
    that each hidden layer sends on, that are events in the integer network."""
    from lmht.gen.compile import to_integers
    from lmht.gen.event_statistics import measure_events

    usual = options.model_copy(update={"fidelity": None})  # densities hardly depend on the bits
    found = measure_events(to_integers(network, usual, name="measured"), images)
    measured = {"pixel_density": found.pixel_density, "spike_density": found.spike_densities or None}
    return options.model_copy(
        update={name: value for name, value in measured.items() if getattr(options, name) is None}
    )


def make_console() -> Console:
    """Standard output for tables: as wide as the terminal, or wide enough for all of them in a file."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=130)
