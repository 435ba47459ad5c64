"""Data sets as tensors in memory: the bundled handwritten digits, MNIST and Fashion-MNIST."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .idx import DataError, read_idx

__all__ = ["DATASET_NAMES", "DataError", "Dataset", "load_dataset", "stratified_split"]

DIGIT_CLASSES = tuple("0123456789")
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IDX_CLASSES = {"mnist": DIGIT_CLASSES, "fashion-mnist": FASHION_CLASSES}
DATASET_NAMES = ("digits", *IDX_CLASSES)

DIGITS_TEST_COUNT = 360
DIGITS_SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, split into training and test part.

    Attributes
    ----------
    name : str
        Name as given to :func:`load_dataset`.
    classes : tuple of str
        Name of every class; label ``i`` is ``classes[i]``.
    train_images, test_images : torch.Tensor of uint8, shape (N, C, H, W)
        Pixels from 0 to 255.
    train_labels, test_labels : torch.Tensor of int64, shape (N,)
        Class of every image.
    """

    name: str
    classes: tuple[str, ...]
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width


def load_dataset(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Load a data set into memory.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion-mnist"}
        ``digits`` are the 8 x 8 images bundled with scikit-learn, 1,437 for training and 360 for test, split
        with a fixed seed; their 17 grey levels ``v`` become ``round(255 v / 16)``, half to even.
        The others are read from IDX files, plain or with ``.gz``.
    data_dir : path, optional
        Folder that holds the IDX files or a subfolder of the data set's name with them.

    Raises
    ------
    DataError
        If the name is unknown, or a file is missing or damaged.
    """
    if name == "digits":
        return _load_digits()
    if name not in IDX_CLASSES:
        raise DataError(f"data set must be one of {', '.join(DATASET_NAMES)}, not {name}")
    if data_dir is None:
        raise DataError(f"{name} needs the folder that holds its IDX files, or its subfolder {name}")
    return _load_idx_dataset(name, Path(data_dir))


def stratified_split(labels: torch.Tensor, held_out: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Split examples at random so that both parts have the classes in nearly the same proportions.

    Parameters
    ----------
    labels : torch.Tensor, shape (N,)
        Class of every example.
    held_out : int
        Size of the second part, from 0 to N.
    seed : int
        Seed of the choice.

    Returns
    -------
    kept, held : torch.Tensor of int64
        Indices in ascending order, ``N - held_out`` and ``held_out`` of them.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    # Each example is placed by how far through its own class it comes; taking the lowest places takes from
    # every class the same part, up to one example.
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    order = shuffled[torch.argsort(place[shuffled], stable=True)]
    return order[held_out:].sort().values, order[:held_out].sort().values


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits  # here, since importing scikit-learn takes about a second

    digits = load_digits()
    images = torch.from_numpy(np.rint(digits.images * 255 / 16).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = stratified_split(labels, DIGITS_TEST_COUNT, DIGITS_SPLIT_SEED)
    return Dataset("digits", DIGIT_CLASSES, images[train], labels[train], images[test], labels[test])


def _load_idx_dataset(name: str, data_dir: Path) -> Dataset:
    classes = IDX_CLASSES[name]
    train_images, train_labels = _load_part(name, data_dir, "train", len(classes))
    test_images, test_labels = _load_part(name, data_dir, "t10k", len(classes))
    return Dataset(name, classes, train_images, train_labels, test_images, test_labels)


def _load_part(name: str, data_dir: Path, part: str, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    image_path = _find(name, data_dir, f"{part}-images", 3)
    label_path = _find(name, data_dir, f"{part}-labels", 1)
    images = read_idx(image_path, 3)
    labels = read_idx(label_path, 1)
    for field, size in (("rows", images.shape[1]), ("columns", images.shape[2])):
        if size != 28:
            raise DataError(f"{image_path}: {field} is {size}, expected 28")
    if len(labels) != len(images):
        raise DataError(f"{label_path}: {len(labels)} labels, expected {len(images)} as in {image_path.name}")
    if labels.max() >= classes:
        first = int(np.argmax(labels >= classes))
        raise DataError(f"{label_path}: label {first} is {labels[first]}, expected 0 to {classes - 1}")
    return torch.from_numpy(images.copy()).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def _find(name: str, data_dir: Path, stem: str, dimensions: int) -> Path:
    names = [f"{stem}{mark}idx{dimensions}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    is_file: Callable[[Path], bool] = Path.is_file
    found = next(
        filter(is_file, (folder / file for folder in (data_dir / name, data_dir) for file in names)), None
    )
    if found is None:
        raise DataError(f"{data_dir}: no file {names[0]} (or .gz) here or in its subfolder {name}")
    return found
