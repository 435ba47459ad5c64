"""Data sets as tensors in memory: bundled digits, both MNIST, CIFAR, Tiny-ImageNet, folders of images, event data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .checks import check_integer
from .cifar import CIFAR10_CLASSES, CIFAR_LAYOUTS, find_cifar, read_cifar
from .event_data import EVENT_LAYOUTS, read_event_frames
from .idx import DataError, read_idx
from .image_folder import is_image_folder, read_image_folder
from .missing_data import missing_data
from .tiny_imagenet import TINY_IMAGENET, find_tiny_imagenet, read_tiny_imagenet

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
IMAGE_FOLDER = "image-folder"
DATASET_NAMES = ("digits", *IDX_CLASSES, *CIFAR_LAYOUTS, TINY_IMAGENET, IMAGE_FOLDER, *EVENT_LAYOUTS)

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
    train_images, test_images : torch.Tensor of uint8, shape (N, C, H, W), or (N, T, C, H, W) of T frames each
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
        """Channels, height and width of an image, or of a frame."""
        channels, height, width = self.train_images.shape[-3:]
        return channels, height, width

    @property
    def has_events(self) -> bool:
        """Whether its examples are recordings of an event camera, as frames or as their mean."""
        return self.frames is not None or self.name in EVENT_LAYOUTS

    @property
    def frames(self) -> int | None:
        """Number T of frames of an example, one for each step of a network; None for images."""
        return self.train_images.shape[1] if self.train_images.dim() == 5 else None


def load_dataset(
    name: str, data_dir: str | Path | None = None, *, steps: int | None = None, coding: str | None = None
) -> Dataset:
    """Load a data set into memory.

    Parameters
    ----------
    name : str
        One of :data:`DATASET_NAMES`.
        ``digits`` are the 8 x 8 images bundled with scikit-learn, 1,437 for training and 360 for test, split
        with a fixed seed; their 17 grey levels ``v`` become ``round(255 v / 16)``, half to even.
        The two MNIST are read from IDX files, plain or with ``.gz``, and the two CIFAR from their binary
        version. An ``image-folder`` has ``train/<class>/`` and ``test/<class>/`` with one file per image, all
        grey or all RGB and of the same size; ``cifar10`` may be such a folder too. ``tiny-imagenet`` has the layout
        of its archive (:mod:`lmht.model.tiny_imagenet`); its validation part is the test part. ``n-mnist``
        and ``dvs-cifar10`` are recordings of event cameras, cut into frames (:mod:`lmht.model.event_data`).
    data_dir : path, optional
        Folder that holds the files or a subfolder of the data set's name with them; nothing is written to it.
    steps : int, optional
        Steps T of the network that the data set is for, at least 1: event data is cut into as many frames, and needs
        it; images are the same for all networks.
    coding : str, optional
        Coding of the network that the data set is for: with ``mean-frames``, event data is one picture a recording and
        needs no ``steps``.

    Raises
    ------
    DataError
        If the name is unknown, a file is missing or damaged, or event data comes without ``steps``.
    TypeError, ValueError
        If ``steps`` is no integer or below 1.
    """
    if steps is not None:
        steps = check_integer("steps", steps, 1)
    if name == "digits":
        return _load_digits()
    if name not in DATASET_NAMES:
        raise DataError(f"data set must be one of {', '.join(DATASET_NAMES)}, not {name}")
    if data_dir is None:
        raise DataError(f"{name} needs the folder that holds its {_files_of(name)}, or its subfolder {name}")
    if name in IDX_CLASSES:
        return _load_idx_dataset(name, Path(data_dir))
    if name in CIFAR_LAYOUTS:
        return _load_cifar(name, Path(data_dir))
    if name in EVENT_LAYOUTS:
        return _load_events(name, Path(data_dir), steps, coding == "mean-frames")
    if name == TINY_IMAGENET:
        return _load_tiny_imagenet(Path(data_dir))
    return _load_image_folder(name, Path(data_dir))


def _files_of(name: str) -> str:
    if name in IDX_CLASSES:
        return "IDX files"
    if name in EVENT_LAYOUTS:
        return "recordings"
    if name == TINY_IMAGENET:
        return "file wnids.txt"
    return "binary files" if name in CIFAR_LAYOUTS else "subfolders train and test"


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


def _load_cifar(name: str, data_dir: Path) -> Dataset:
    layout, folder = CIFAR_LAYOUTS[name], find_cifar(name, data_dir)
    if folder is None:
        if name == "cifar10":
            return _load_image_folder(name, data_dir, CIFAR10_CLASSES)
        raise missing_data(data_dir, f"file {layout.train[0]}", layout.folder)
    classes = CIFAR10_CLASSES if name == "cifar10" else _read_names(folder / "fine_label_names.txt", 100)
    parts = (read_cifar(folder, files, layout) for files in (layout.train, layout.test))
    tensors = [torch.from_numpy(array) for part in parts for array in part]
    return Dataset(name, classes, *tensors)


def _read_names(path: Path, count: int) -> tuple[str, ...]:
    try:
        names = tuple(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(names) != count:
        raise DataError(f"{path}: {len(names)} names, expected {count}")
    return names


def _load_image_folder(name: str, data_dir: Path, classes: tuple[str, ...] | None = None) -> Dataset:
    folder = next(filter(is_image_folder, (data_dir / name, data_dir)), None)
    if folder is None:
        files = "binary files, and no subfolders" if name in CIFAR_LAYOUTS else "subfolders"
        raise missing_data(data_dir, f"{files} train and test", name)
    found = read_image_folder(folder, classes)
    tensors = (
        torch.from_numpy(group[part]) for part in ("train", "test") for group in (found.images, found.labels)
    )
    return Dataset(name, found.classes, *tensors)


def _load_tiny_imagenet(data_dir: Path) -> Dataset:
    folder = find_tiny_imagenet(data_dir)
    if folder is None:
        raise missing_data(data_dir, "file wnids.txt", TINY_IMAGENET)
    found = read_tiny_imagenet(folder)
    arrays = (found.train_images, found.train_labels, found.val_images, found.val_labels)
    return Dataset(TINY_IMAGENET, found.classes, *map(torch.from_numpy, arrays))


def _load_events(name: str, data_dir: Path, steps: int | None, mean: bool) -> Dataset:
    if steps is None and not mean:
        raise DataError(f"{name} needs steps, the number of frames into which its recordings are cut")
    arrays = read_event_frames(name, data_dir, None if mean else steps)
    return Dataset(name, EVENT_LAYOUTS[name].classes, *map(torch.from_numpy, arrays))


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
        raise missing_data(data_dir, f"file {names[0]} (or .gz)", name)
    return found
