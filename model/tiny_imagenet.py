"""Reader of Tiny-ImageNet as it is distributed: 200 classes, JPEG files of 64x64 pixels, and their lists.

=================================  ============================================================================
``wnids.txt``                      WordNet id of a class in every line
``words.txt``                      WordNet id, tabulator, its words; of more than these classes
``train/<id>/<id>_boxes.txt``      name of an image of the class, and four numbers of a box, between tabulators
``train/<id>/images/``             the images of that list
``val/val_annotations.txt``        name of an image, WordNet id of its class, four numbers
``val/images/``                    the images of that list
=================================  ============================================================================

The images of ``test/`` have no published classes and are not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from .idx import DataError
from .image_folder import read_pixels

__all__ = ["TINY_IMAGENET", "TinyImageNet", "find_tiny_imagenet", "read_tiny_imagenet"]

TINY_IMAGENET = "tiny-imagenet"
ARCHIVE_FOLDER = "tiny-imagenet-200"
SIZE = 64

_WORDNET_ID = re.compile(r"n\d{8}", re.ASCII)


@dataclass(frozen=True, eq=False)
class TinyImageNet:
    """Training and validation part.

    Attributes
    ----------
    classes : tuple of str
        First word of every class, in the order of ``wnids.txt``.
    train_images, val_images : numpy.ndarray of uint8, shape (N, 3, 64, 64)
        In the order of the lists; grey images with three equal channels.
    train_labels, val_labels : numpy.ndarray of int64, shape (N,)
        Class of every image.
    """

    classes: tuple[str, ...]
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    val_images: NDArray[np.uint8]
    val_labels: NDArray[np.int64]


@dataclass(frozen=True)
class _Image:
    """An image of a list: its file, its class, and where the list names it."""

    path: Path
    label: int
    place: str


def find_tiny_imagenet(data_dir: Path) -> Path | None:
    """Folder of ``wnids.txt``: ``data_dir``, or its subfolder of the archive's or the data set's name."""
    own = data_dir / TINY_IMAGENET
    folders = (data_dir / ARCHIVE_FOLDER, own / ARCHIVE_FOLDER, own, data_dir)
    return next((folder for folder in folders if (folder / "wnids.txt").is_file()), None)


def read_tiny_imagenet(folder: Path) -> TinyImageNet:
    """Read all images into memory, with a progress bar if the error output is a terminal.

    Raises
    ------
    DataError
        If a list or an image is missing or damaged, or an image is neither grey nor RGB with 8 bits, or not of 64x64
        pixels. The message names the file, and the line of a list.
    """
    ids = _read_ids(folder / "wnids.txt")
    classes = _read_words(folder / "words.txt", ids)
    train = [image for name in ids for image in _read_boxes(folder / "train" / name, name, ids[name])]
    val = _read_annotations(folder / "val", ids)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        (train_images, train_labels), (val_images, val_labels) = (
            _read_images(images, progress, part)
            for part, images in (("training", train), ("validation", val))
        )
    return TinyImageNet(classes, train_images, train_labels, val_images, val_labels)


def _read_ids(path: Path) -> dict[str, int]:
    """Labels by WordNet id."""
    ids: dict[str, int] = {}
    for place, (name,) in _read_lines(path, 1):
        if not _WORDNET_ID.fullmatch(name):
            raise DataError(f"{place}: {name!r} is no WordNet id such as n01443537")
        if name in ids:
            raise DataError(f"{place}: {name} is there a second time")
        ids[name] = len(ids)
    return ids


def _read_words(path: Path, ids: dict[str, int]) -> tuple[str, ...]:
    words = {name: text.partition(",")[0].strip() for _, (name, text) in _read_lines(path, 2)}
    for name in ids:
        if not words.get(name):
            raise DataError(f"{path}: no words for {name} of wnids.txt")
    return tuple(words[name] for name in ids)


def _read_boxes(folder: Path, name: str, label: int) -> list[_Image]:
    images = []
    for place, (image, *box) in _read_lines(folder / f"{name}_boxes.txt", 5):
        _check_box(place, box)
        images.append(_Image(folder / "images" / _plain(place, image), label, place))
    return images


def _read_annotations(folder: Path, ids: dict[str, int]) -> list[_Image]:
    images = []
    for place, (image, name, *box) in _read_lines(folder / "val_annotations.txt", 6):
        _check_box(place, box)
        if name not in ids:
            raise DataError(f"{place}: class is {name!r}, expected one of wnids.txt")
        images.append(_Image(folder / "images" / _plain(place, image), ids[name], place))
    return images


def _read_lines(path: Path, fields: int) -> list[tuple[str, list[str]]]:
    """Fields of every line, and the place to name in an error."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not lines:
        raise DataError(f"{path}: no lines in it")
    found = []
    for number, line in enumerate(lines, 1):
        parts, place = line.split("\t"), f"{path}: line {number}"
        if len(parts) != fields:
            raise DataError(f"{place}: {len(parts)} fields between tabulators, expected {fields}")
        found.append((place, parts))
    return found


def _check_box(place: str, box: list[str]) -> None:
    for number in box:
        if not (number.isascii() and number.isdigit()):
            raise DataError(f"{place}: {number!r} of the box must be a whole number")


def _plain(place: str, name: str) -> str:
    """A name that leads nowhere else."""
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise DataError(f"{place}: {name!r} is no name of a file")
    return name


def _read_images(
    images: list[_Image], progress: Progress, part: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    pixels = np.empty((len(images), 3, SIZE, SIZE), dtype=np.uint8)
    for index, image in enumerate(progress.track(images, description=f"reading {part} images")):
        if not image.path.exists():
            raise DataError(f"{image.place}: no image {image.path.name} in {image.path.parent}")
        found = read_pixels(image.path)
        if found.shape[1:] != (SIZE, SIZE):
            raise DataError(
                f"{image.path}: size is {found.shape[2]}x{found.shape[1]}, expected {SIZE}x{SIZE}"
            )
        # A grey image is repeated over the channels.
        pixels[index] = found
    return pixels, np.array([image.label for image in images], dtype=np.int64)
