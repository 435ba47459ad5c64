"""Data sets of event cameras, cut into frames: N-MNIST and DVS-CIFAR10, in the folders in which they are published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from .cifar import CIFAR10_CLASSES
from .event_files import DVS128_SIZE, NMNIST_SIZE, Events, read_aedat2, read_nmnist
from .event_frames import Slicing, count_frames, frame_pixels, mean_picture
from .idx import DataError
from .image_folder import MAX_VALUES
from .missing_data import missing_data

__all__ = ["EVENT_LAYOUTS", "EventLayout", "read_event_frames"]

TRAIN_TENTHS = 9
"""Where no split is published: tenths of every class, in the order of the names, that are for training."""


@dataclass(frozen=True)
class EventLayout:
    """Files of a data set, and how they are cut.

    Attributes
    ----------
    parts : tuple of str or None
        Folders of the training and the test part, each with a folder for every class; None if the class folders hold
        both, which are then split here.
    classes : tuple of str
        Names of the class folders.
    suffix : str
        End of the files' names; others are left aside.
    read : callable
        From a path to :class:`Events`.
    sensor_size : int
        Rows and columns of the sensor.
    binning : int
        As in :func:`count_frames`.
    slicing : {"time", "count"}
        As in :func:`count_frames`.
    picture_size : int
        Rows and columns of the mean of all frames, as in :func:`mean_picture`.
    """

    parts: tuple[str, str] | None
    classes: tuple[str, ...]
    suffix: str
    read: Callable[[Path], Events]
    sensor_size: int
    binning: int
    slicing: Slicing
    picture_size: int

    def shape(self, steps: int | None) -> tuple[int, ...]:
        """Shape of a recording as so many frames, (T, 2, H, W), or as one picture, (2, H, W), if None."""
        if steps is None:
            return (2, self.picture_size, self.picture_size)
        return (steps, 2, self.sensor_size // self.binning, self.sensor_size // self.binning)

    def pixels(self, path: Path, steps: int | None) -> NDArray[np.uint8]:
        """The recording of a file, of that shape."""
        events = self.read(path)
        if steps is None:
            return mean_picture(events, self.sensor_size, self.picture_size)
        return frame_pixels(count_frames(events, steps, self.slicing, self.sensor_size, self.binning))


EVENT_LAYOUTS = {
    "n-mnist": EventLayout(
        parts=("Train", "Test"),
        classes=tuple("0123456789"),
        suffix=".bin",
        read=read_nmnist,
        sensor_size=NMNIST_SIZE,
        binning=1,
        slicing="time",
        picture_size=NMNIST_SIZE,
    ),
    "dvs-cifar10": EventLayout(
        parts=None,
        classes=CIFAR10_CLASSES,
        suffix=".aedat",
        read=read_aedat2,
        sensor_size=DVS128_SIZE,
        binning=2,
        slicing="count",
        picture_size=48,
    ),
}


def read_event_frames(
    name: str, data_dir: Path, steps: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Read all recordings into memory as frames or pictures, with a progress bar if the error output is a terminal.

    Parameters
    ----------
    name : {"n-mnist", "dvs-cifar10"}
        Data set.
    data_dir : Path
        Folder of its files, or with a subfolder of its name.
    steps : int or None
        Number T of frames of a recording, at least 1; None makes the mean of its frames, one picture.

    Returns
    -------
    train_frames, train_labels, test_frames, test_labels : numpy.ndarray
        Frames of uint8 and shape (N, T, 2, H, W), as :func:`frame_pixels` gives them, or pictures of (N, 2, H, W)
        (:func:`mean_picture`), and labels of int64 and shape (N,): class by class, files sorted by name.

    Raises
    ------
    DataError
        If a part, a class or its recordings are missing, a file is damaged, or the frames are too many for memory.
    """
    layout = EVENT_LAYOUTS[name]
    folder = _find_folder(name, layout, data_dir)
    parts = _list_parts(folder, layout)
    shape = layout.shape(steps)
    recordings = sum(len(group) for part in parts for group in part)
    if recordings * int(np.prod(shape, dtype=object)) > MAX_VALUES:
        raise DataError(
            f"{folder}: {recordings} recordings of {'' if steps is None else f'{steps} frames of '}"
            f"{'x'.join(map(str, shape[-3:]))}, expected at most {MAX_VALUES} values together"
        )
    arrays: list[NDArray] = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for part, title in zip(parts, ("training", "test"), strict=True):
            files = [path for group in part for path in group]
            frames = np.empty((len(files), *shape), dtype=np.uint8)
            for index, path in enumerate(progress.track(files, description=f"reading {title} recordings")):
                frames[index] = layout.pixels(path, steps)
            labels = np.repeat(np.arange(len(part)), [len(group) for group in part])
            arrays += [frames, labels]
    train_frames, train_labels, test_frames, test_labels = arrays
    return train_frames, train_labels, test_frames, test_labels


def _find_folder(name: str, layout: EventLayout, data_dir: Path) -> Path:
    wanted = layout.parts or layout.classes
    folders = (data_dir / name, data_dir)
    found = next((path for path in folders if any((path / each).is_dir() for each in wanted)), None)
    if found is None:
        shown = " and ".join(wanted) if layout.parts else f"{wanted[0]}, {wanted[1]}, ..."
        raise missing_data(data_dir, f"subfolders {shown}", name)
    return found


def _list_parts(folder: Path, layout: EventLayout) -> list[list[list[Path]]]:
    """Files of the training and of the test part, by class."""
    if layout.parts is not None:
        return [
            [_list_files(folder / part / each, layout) for each in layout.classes] for part in layout.parts
        ]
    train, test = [], []
    for each in layout.classes:
        files = _list_files(folder / each, layout)
        if len(files) < 2:
            raise DataError(f"{folder / each}: 1 recording, expected at least 2, for training and test")
        kept = max(1, len(files) * TRAIN_TENTHS // 10)
        train.append(files[:kept])
        test.append(files[kept:])
    return [train, test]


def _list_files(folder: Path, layout: EventLayout) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = sorted(path for path in folder.iterdir() if path.suffix == layout.suffix)
    files = [path for path in files if not path.name.startswith(".")]
    if not files:
        raise DataError(f"{folder}: no recordings in it (*{layout.suffix})")
    return files
