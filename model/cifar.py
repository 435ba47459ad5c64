"""Strict reader of the binary versions of CIFAR-10 and CIFAR-100.

A file is a row of records without a header: one label byte (CIFAR-100: a coarse and a fine one), then 32x32 pixels of
red, of green and of blue, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .idx import DataError

__all__ = ["CIFAR10_CLASSES", "CIFAR_LAYOUTS", "CifarLayout", "find_cifar", "read_cifar"]

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

SIZE = 32
PIXELS = 3 * SIZE * SIZE


@dataclass(frozen=True)
class CifarLayout:
    """Files of a data set.

    Attributes
    ----------
    folder : str
        Name of the folder in the archive that is distributed.
    train, test : tuple of str
        Files of either part, in this order.
    classes : int
        Number of classes.
    label_bytes : int
        Bytes before the pixels, the last of which is the class.
    """

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    classes: int
    label_bytes: int


CIFAR_LAYOUTS = {
    "cifar10": CifarLayout(
        "cifar-10-batches-bin",
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        ("test_batch.bin",),
        classes=10,
        label_bytes=1,
    ),
    "cifar100": CifarLayout("cifar-100-binary", ("train.bin",), ("test.bin",), classes=100, label_bytes=2),
}


def find_cifar(name: str, data_dir: Path) -> Path | None:
    """Folder of the binary files: ``data_dir``, or its subfolder of the archive's or the data set's name."""
    layout = CIFAR_LAYOUTS[name]
    folders = (data_dir / layout.folder, data_dir / name / layout.folder, data_dir / name, data_dir)
    names = (*layout.train, *layout.test)
    return next((folder for folder in folders if any((folder / file).is_file() for file in names)), None)


def read_cifar(
    folder: Path, files: tuple[str, ...], layout: CifarLayout
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read files of one part, one after the other.

    Parameters
    ----------
    folder : Path
        Where they are.
    files : tuple of str
        Names; all must hold the same number of images.
    layout : CifarLayout
        Format of their records.

    Returns
    -------
    images : numpy.ndarray of uint8, shape (N, 3, 32, 32)
        Red, green and blue from 0 to 255.
    labels : numpy.ndarray of int64, shape (N,)
        Class of every image.

    Raises
    ------
    DataError
        If a file is missing, does not hold whole records or fewer than the first one, or a label is out of range.
    """
    record = layout.label_bytes + PIXELS
    parts: list[NDArray[np.uint8]] = []
    for file in files:
        path = folder / file
        content = _read_bytes(path)
        if not content or len(content) % record:
            raise DataError(
                f"{path}: {len(content)} bytes, expected a multiple of {record}; the file is truncated or of "
                "another format"
            )
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
        if parts and len(records) != len(parts[0]):
            raise DataError(f"{path}: {len(records)} images, expected {len(parts[0])} as in {files[0]}")
        labels = records[:, layout.label_bytes - 1]
        if labels.max() >= layout.classes:
            first = int(np.argmax(labels >= layout.classes))
            raise DataError(f"{path}: label {first} is {labels[first]}, expected 0 to {layout.classes - 1}")
        parts.append(records)
    whole = np.concatenate(parts)
    images = whole[:, layout.label_bytes :].reshape(-1, 3, SIZE, SIZE)
    return np.ascontiguousarray(images), whole[:, layout.label_bytes - 1].astype(np.int64)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
