"""Reader of image folders: ``train/<class>/`` and ``test/<class>/`` with one file per image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from .idx import DataError

__all__ = ["IMAGE_SUFFIXES", "FolderImages", "is_image_folder", "read_image_folder", "read_pixels"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
PARTS = ("train", "test")
# Far more than fits in memory here; refuses what a folder of photographs would ask for.
MAX_VALUES = 1 << 34


@dataclass(frozen=True, eq=False)
class FolderImages:
    """Images of a folder.

    Attributes
    ----------
    classes : tuple of str
        Names of the class folders, sorted.
    images : dict of numpy.ndarray of uint8, shape (N, C, H, W)
        By part, ``"train"`` and ``"test"``: class by class, files sorted by name; 1 channel for grey images, 3
        for colour.
    labels : dict of numpy.ndarray of int64, shape (N,)
        By part, the place of every image's class in ``classes``.
    """

    classes: tuple[str, ...]
    images: dict[str, NDArray[np.uint8]]
    labels: dict[str, NDArray[np.int64]]


def is_image_folder(folder: Path) -> bool:
    """Whether a folder has both parts."""
    return all((folder / part).is_dir() for part in PARTS)


def read_image_folder(folder: Path, classes: tuple[str, ...] | None = None) -> FolderImages:
    """Read all images into memory, with a progress bar if the error output is a terminal.

    Hidden files, and files whose names do not end as :data:`IMAGE_SUFFIXES`, are left aside.

    Parameters
    ----------
    folder : Path
        Folder with ``train`` and ``test``.
    classes : tuple of str, optional
        Names that the class folders must have.

    Raises
    ------
    DataError
        If a part, a class or its images are missing, the parts have other classes, or an image is damaged, of
        another size or colours than the first one, or neither grey nor RGB with 8 bits.
    """
    wanted = classes
    files: dict[str, list[list[Path]]] = {}
    for part in PARTS:
        found = _class_folders(folder / part)
        if wanted is None:
            wanted = tuple(found)
        if tuple(found) != wanted:
            odd = sorted(set(found) ^ set(wanted))[0]
            state = "missing" if odd in wanted else "not a class of the data set"
            raise DataError(f"{folder / part / odd}: this class is {state}")
        files[part] = [_image_files(path) for path in found.values()]
    assert wanted is not None
    counts = {part: sum(len(group) for group in groups) for part, groups in files.items()}
    channels, height, width = read_pixels(files["train"][0][0]).shape
    if sum(counts.values()) * channels * height * width > MAX_VALUES:
        raise DataError(
            f"{folder}: {sum(counts.values())} images of {channels}x{height}x{width}, expected at most "
            f"{MAX_VALUES} values together"
        )
    images = {
        part: np.empty((count, channels, height, width), dtype=np.uint8) for part, count in counts.items()
    }
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for part in PARTS:
            flat = [path for group in files[part] for path in group]
            for index, path in enumerate(progress.track(flat, description=f"reading {part} images")):
                images[part][index] = _read_image(path, (channels, height, width))
    labels = {
        part: np.repeat(np.arange(len(wanted)), [len(group) for group in groups])
        for part, groups in files.items()
    }
    return FolderImages(wanted, images, labels)


def _class_folders(part: Path) -> dict[str, Path]:
    if not part.is_dir():
        raise DataError(f"{part}: no such folder")
    folders = sorted(path for path in part.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DataError(f"{part}: no folders in it, expected one for every class")
    return {path.name: path for path in folders}


def _image_files(folder: Path) -> list[Path]:
    names = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    files = sorted(path for path in names if not path.name.startswith("."))
    if not files:
        raise DataError(f"{folder}: no images in it ({', '.join(IMAGE_SUFFIXES)})")
    return files


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """One image, shape (C, H, W): 1 channel if it is grey, 3 if it is RGB.

    Raises
    ------
    DataError
        If it cannot be read, or is neither, with 8 bits each.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "RGB"):
                raise DataError(f"{path}: mode is {image.mode}, expected L (grey) or RGB, 8 bits each")
            pixels = np.asarray(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow reports some damaged headers as a SyntaxError.
        reason = getattr(error, "strerror", None) or "not an image, or damaged"
        raise DataError(f"{path}: cannot be read ({reason})") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _read_image(path: Path, expected: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One image of the shape expected."""
    pixels = read_pixels(path)
    if pixels.shape != expected:
        found, allowed = ("x".join(map(str, shape)) for shape in (pixels.shape, expected))
        raise DataError(f"{path}: channels and size are {found}, expected {allowed} as in the first image")
    return pixels
