"""Data sets: the bundled digits, IDX files in every right and wrong form, and stratified splits."""

import gzip
import os
import re

import numpy as np
import pytest
import torch

from lmht.model import DataError, load_dataset
from lmht.model.data import stratified_split

RANDOM = np.random.default_rng(0)
TRAIN_IMAGES = RANDOM.integers(0, 256, (7, 28, 28), dtype=np.uint8)
TRAIN_LABELS = np.array([3, 1, 4, 1, 5, 9, 2], dtype=np.uint8)
TEST_IMAGES = RANDOM.integers(0, 256, (3, 28, 28), dtype=np.uint8)
TEST_LABELS = np.array([6, 5, 3], dtype=np.uint8)


def idx_bytes(values, *, kind=8):
    header = bytes([0, 0, kind, values.ndim])
    return header + b"".join(size.to_bytes(4, "big") for size in values.shape) + values.tobytes()


def write_dataset(folder, *, mark="-", compressed=True):
    """Write a small data set in the format of the real one; returns the paths by their stems."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for stem, values in (
        ("train-images", TRAIN_IMAGES),
        ("train-labels", TRAIN_LABELS),
        ("t10k-images", TEST_IMAGES),
        ("t10k-labels", TEST_LABELS),
    ):
        path = folder / f"{stem}{mark}idx{values.ndim}-ubyte{'.gz' if compressed else ''}"
        write(path, idx_bytes(values))
        paths[stem] = path
    return paths


def write(path, content):
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def error_of(name, folder):
    """Message of the error, without the folder, which is another one in every test."""
    with pytest.raises(DataError) as caught:
        load_dataset(name, folder)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}{os.sep}", "").replace(str(folder), "FOLDER")


def test_digits():
    data = load_dataset("digits")
    assert data.train_images.shape == (1437, 1, 8, 8)
    assert data.test_images.shape == (360, 1, 8, 8)
    assert data.input_shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert data.train_images.dtype == data.test_images.dtype == torch.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64
    # 17 grey levels spread over 0..255: round(255 v / 16), half to even.
    assert data.train_images.unique().tolist() == [round(255 * level / 16) for level in range(17)]
    assert data.test_labels.bincount().tolist() == pytest.approx([36] * 10, abs=1.5)


def test_digits_are_split_the_same_every_time_and_completely():
    from sklearn.datasets import load_digits

    first, second = load_dataset("digits"), load_dataset("digits")
    assert torch.equal(first.test_images, second.test_images)
    both = torch.cat([first.train_images, first.test_images]).flatten(1)
    everything = torch.from_numpy(np.rint(load_digits().data * 255 / 16).astype(np.uint8))
    assert sorted(map(bytes, both.numpy())) == sorted(map(bytes, everything.numpy()))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("in_subfolder", [True, False])
@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("compressed", [True, False])
def test_idx_files(tmp_path, name, in_subfolder, mark, compressed):
    write_dataset(tmp_path / name if in_subfolder else tmp_path, mark=mark, compressed=compressed)
    data = load_dataset(name, tmp_path)
    assert data.name == name
    assert len(data.classes) == 10
    assert torch.equal(data.train_images, torch.from_numpy(TRAIN_IMAGES)[:, None])
    assert torch.equal(data.test_images, torch.from_numpy(TEST_IMAGES)[:, None])
    assert data.train_labels.tolist() == TRAIN_LABELS.tolist()
    assert data.test_labels.tolist() == TEST_LABELS.tolist()
    assert data.train_labels.dtype == torch.int64


def test_subfolder_comes_first(tmp_path):
    write_dataset(tmp_path / "mnist")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"of something else")
    assert len(load_dataset("mnist", str(tmp_path)).train_images) == 7


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    ("stem", "content", "message"),
    [
        (
            "train-images",
            idx_bytes(TRAIN_LABELS) + bytes(99),
            "magic number is 0x00000801, expected 0x00000803",
        ),
        (
            "train-labels",
            idx_bytes(TRAIN_LABELS, kind=9),
            "magic number is 0x00000901, expected 0x00000801",
        ),
        ("train-labels", b"<htm", "magic number is 0x3c68746d, expected 0x00000801"),
        ("train-images", b"", "header has 0 bytes, expected 16"),
        ("train-images", b"\0\0\x08", "header has 3 bytes, expected 16"),
        ("train-images", idx_bytes(TRAIN_IMAGES)[:15], "header has 15 bytes, expected 16"),
        (
            "train-images",
            idx_bytes(TRAIN_IMAGES)[:-1],
            "5487 values, expected 5488; the file is truncated",
        ),
        (
            "train-images",
            idx_bytes(TRAIN_IMAGES) + b"\0",
            "more than the 5488 values that its header announces",
        ),
        (
            "train-images",
            idx_bytes(TRAIN_IMAGES[:0]),
            "dimensions are 0 x 28 x 28, expected between 1 and 1073741824 values",
        ),
        (
            "train-images",
            bytes([0, 0, 8, 3]) + b"\xff" * 12,
            "dimensions are 4294967295 x 4294967295 x 4294967295, expected between 1 and 1073741824 values",
        ),
        ("train-images", idx_bytes(TRAIN_IMAGES.reshape(7, 14, 56)), "rows is 14, expected 28"),
        ("t10k-images", idx_bytes(TEST_IMAGES.reshape(6, 28, 14)[:6]), "columns is 14, expected 28"),
        ("t10k-labels", idx_bytes(TEST_LABELS[:2]), "2 labels, expected 3 as in t10k-images-idx3-ubyte"),
        (
            "train-labels",
            idx_bytes(np.array([0, 9, 10, 1, 2, 255, 3], dtype=np.uint8)),
            "label 2 is 10, expected 0 to 9",
        ),
    ],
)
def test_malformed_idx_file(tmp_path, stem, content, message, compressed):
    path = write_dataset(tmp_path, compressed=compressed)[stem]
    write(path, content)
    if "as in" in message and compressed:
        message += ".gz"
    assert error_of("mnist", tmp_path) == f"{path.name}: {message}"


def test_gz_name_without_gzip(tmp_path):
    path = write_dataset(tmp_path)["train-images"]
    path.write_bytes(idx_bytes(TRAIN_IMAGES))
    assert error_of("mnist", tmp_path) == (
        "train-images-idx3-ubyte.gz: not a valid gzip file (Not a gzipped file (b'\\x00\\x00'))"
    )


def test_truncated_gzip(tmp_path):
    path = write_dataset(tmp_path)["train-images"]
    path.write_bytes(path.read_bytes()[:-9])
    assert error_of("mnist", tmp_path) == (
        "train-images-idx3-ubyte.gz: truncated gzip file, it ends before its end marker"
    )


def test_every_flipped_byte_of_a_gzip_file_is_noticed_or_harmless(tmp_path):
    """A flip in the header's time or system field changes nothing; any other must raise."""
    path = write_dataset(tmp_path)["train-labels"]
    content = path.read_bytes()
    noticed = 0
    for index in range(len(content)):
        path.write_bytes(content[:index] + bytes([content[index] ^ 0x10]) + content[index + 1 :])
        try:
            labels = load_dataset("mnist", tmp_path).train_labels
        except DataError:
            noticed += 1
        else:
            assert labels.tolist() == TRAIN_LABELS.tolist()
    assert noticed >= len(content) - 10


def test_plain_name_with_gzip_content(tmp_path):
    path = write_dataset(tmp_path, compressed=False)["train-images"]
    path.write_bytes(gzip.compress(idx_bytes(TRAIN_IMAGES)))
    assert re.fullmatch(
        r"train-images-idx3-ubyte: magic number is 0x1f8b[0-9a-f]{4}, expected 0x00000803",
        error_of("mnist", tmp_path),
    )


def test_missing_file(tmp_path):
    write_dataset(tmp_path)["t10k-labels"].unlink()
    assert error_of("mnist", tmp_path) == (
        "FOLDER: no file t10k-labels-idx1-ubyte (or .gz) here or in its subfolder mnist"
    )


def test_missing_folder(tmp_path):
    assert error_of("fashion-mnist", tmp_path / "nowhere") == (
        "FOLDER: no file train-images-idx3-ubyte (or .gz) here or in its subfolder fashion-mnist"
    )


def test_no_folder_given():
    with pytest.raises(DataError) as caught:
        load_dataset("mnist")
    assert str(caught.value) == "mnist needs the folder that holds its IDX files, or its subfolder mnist"


def test_unknown_name(tmp_path):
    assert error_of("imagenet", tmp_path) == (
        "data set must be one of digits, mnist, fashion-mnist, cifar10, cifar100, tiny-imagenet, "
        "image-folder, n-mnist, dvs-cifar10, not imagenet"
    )


@pytest.mark.parametrize("held_out", [0, 1, 10, 33, 100])
def test_stratified_split(held_out):
    labels = torch.arange(100) % 7 % 4
    kept, held = stratified_split(labels, held_out, seed=3)
    assert len(held) == held_out
    assert sorted(kept.tolist() + held.tolist()) == list(range(100))
    expected = labels.bincount() * held_out / 100
    assert (labels[held].bincount(minlength=4) - expected).abs().max() <= 1
    again = stratified_split(labels, held_out, seed=3)
    assert torch.equal(again[1], held)
    if 0 < held_out < 100:
        assert not torch.equal(stratified_split(labels, held_out, seed=4)[1], held)


@pytest.mark.mnist
@pytest.mark.skipif(
    "LMHT_DATA" not in os.environ, reason="LMHT_DATA does not name the folder that holds mnist/"
)
def test_real_mnist():
    data = load_dataset("mnist", os.environ["LMHT_DATA"])
    assert data.train_images.shape == (60000, 1, 28, 28)
    assert data.test_images.shape == (10000, 1, 28, 28)
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.train_labels.bincount().tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
