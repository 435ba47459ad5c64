"""CIFAR in its binary version and as a folder of images, in every right and wrong form."""

import os

import numpy as np
import pytest
from PIL import Image

from lmht.model import DataError, load_dataset
from lmht.model.cifar import CIFAR10_CLASSES

RANDOM = np.random.default_rng(0)
TRAIN = RANDOM.integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)
TEST = RANDOM.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
LABELS = np.array([0, 9, 3, 3, 1, 4, 8, 2, 7, 5])


def records(images, labels, coarse=None):
    """Content of a file; with coarse labels before the others for CIFAR-100."""
    rows = []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        before = bytes([label]) if coarse is None else bytes([coarse[index], label])
        rows.append(before + image.tobytes())
    return b"".join(rows)


def write_cifar10(folder):
    """Two images in each of the five files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(5):
        part = slice(2 * number, 2 * number + 2)
        (folder / f"data_batch_{number + 1}.bin").write_bytes(records(TRAIN[part], LABELS[part]))
    (folder / "test_batch.bin").write_bytes(records(TEST, [6, 0, 9]))


def write_cifar100(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.bin").write_bytes(records(TRAIN, LABELS * 10 + 3, LABELS))
    (folder / "test.bin").write_bytes(records(TEST, [0, 99, 50], [1, 2, 3]))
    (folder / "fine_label_names.txt").write_text("\n".join(f"class_{n}" for n in range(100)) + "\n\n")


def error_of(name, folder, steps=None):
    """Message of the error, without the folder."""
    with pytest.raises(DataError) as caught:
        load_dataset(name, folder, steps=steps)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}{os.sep}", "").replace(str(folder), "FOLDER")


@pytest.mark.parametrize("place", [".", "cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_cifar10(tmp_path, place):
    write_cifar10(tmp_path / place)
    data = load_dataset("cifar10", tmp_path)
    assert data.name == "cifar10"
    assert data.classes == CIFAR10_CLASSES
    assert data.input_shape == (3, 32, 32)
    assert np.array_equal(data.train_images.numpy(), TRAIN)
    assert np.array_equal(data.test_images.numpy(), TEST)
    assert data.train_labels.tolist() == LABELS.tolist()
    assert data.test_labels.tolist() == [6, 0, 9]


def test_cifar100_has_fine_labels(tmp_path):
    write_cifar100(tmp_path)
    data = load_dataset("cifar100", tmp_path)
    assert data.classes[42] == "class_42"
    assert data.train_labels.tolist() == (LABELS * 10 + 3).tolist()
    assert data.test_labels.tolist() == [0, 99, 50]
    assert np.array_equal(data.train_images.numpy(), TRAIN)


def write_folder(folder, classes=CIFAR10_CLASSES):
    for part, images in (("train", TRAIN), ("test", TEST)):
        for index, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            image = images[index % len(images)].transpose(1, 2, 0)
            Image.fromarray(image).save(folder / part / name / "0.png")


def test_cifar10_as_a_folder_of_images(tmp_path):
    write_folder(tmp_path)
    data = load_dataset("cifar10", tmp_path)
    assert (data.name, data.classes) == ("cifar10", CIFAR10_CLASSES)
    assert data.train_labels.tolist() == list(range(10))
    assert np.array_equal(data.train_images.numpy(), TRAIN)


def test_cifar10_as_a_folder_of_other_classes(tmp_path):
    write_folder(tmp_path, ("aeroplane", *CIFAR10_CLASSES[1:]))
    assert error_of("cifar10", tmp_path) == "train/aeroplane: this class is not a class of the data set"


@pytest.mark.parametrize("cut", [0, 1, 3072, 3074, 6145])
def test_truncated_file(tmp_path, cut):
    write_cifar10(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:cut])
    assert error_of("cifar10", tmp_path) == (
        f"data_batch_3.bin: {cut} bytes, expected a multiple of 3073; the file is truncated or of another format"
    )


def test_file_that_lacks_whole_images(tmp_path):
    write_cifar10(tmp_path)
    path = tmp_path / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:3073])
    assert error_of("cifar10", tmp_path) == ("data_batch_4.bin: 1 images, expected 2 as in data_batch_1.bin")


def test_wrong_label(tmp_path):
    write_cifar10(tmp_path)
    path = tmp_path / "test_batch.bin"
    content = bytearray(path.read_bytes())
    content[3073] = 10
    path.write_bytes(content)
    assert error_of("cifar10", tmp_path) == "test_batch.bin: label 1 is 10, expected 0 to 9"


def test_missing_file(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_2.bin").unlink()
    assert error_of("cifar10", tmp_path) == "data_batch_2.bin: no such file"


def test_file_that_cannot_be_read(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "test_batch.bin").unlink()
    (tmp_path / "test_batch.bin").mkdir()
    assert error_of("cifar10", tmp_path) == "test_batch.bin: cannot be read (Is a directory)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("one two", "2 names, expected 100"),
    ],
)
def test_names_of_cifar100(tmp_path, content, message):
    write_cifar100(tmp_path)
    path = tmp_path / "fine_label_names.txt"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert error_of("cifar100", tmp_path) == f"fine_label_names.txt: {message}"


def test_no_files_at_all(tmp_path):
    assert error_of("cifar10", tmp_path) == (
        "FOLDER: no binary files, and no subfolders train and test here or in its subfolder cifar10"
    )
    assert error_of("cifar100", tmp_path) == (
        "FOLDER: no file train.bin here or in its subfolder cifar-100-binary"
    )
    with pytest.raises(DataError) as caught:
        load_dataset("cifar10")
    assert str(caught.value) == (
        "cifar10 needs the folder that holds its binary files, or its subfolder cifar10"
    )


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "image-folder", "tiny-imagenet", "n-mnist"])
@pytest.mark.parametrize("archive", ["{name}/a.tar.xz", "b.ZIP"])
def test_packed_files(tmp_path, name, archive):
    """Whoever has downloaded but not unpacked is told so; other files are no archives."""
    subfolder = "cifar-100-binary" if name == "cifar100" else name
    path = tmp_path / archive.format(name=subfolder)
    path.parent.mkdir(exist_ok=True)
    (path.parent / "a.txt").touch()
    steps = 2 if name == "n-mnist" else None
    plain = error_of(name, tmp_path, steps)
    assert plain.endswith(f" here or in its subfolder {subfolder}")
    path.touch()
    inside = path.relative_to(tmp_path)
    assert error_of(name, tmp_path, steps) == f"{plain} ({inside} is packed: unpack it if it holds them)"
