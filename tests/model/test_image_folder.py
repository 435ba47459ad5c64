"""Folders of images: order, formats, and one line for everything that may be wrong with them."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lmht.model import DataError, load_dataset
from lmht.model.image_folder import read_image_folder

RANDOM = np.random.default_rng(0)


def draw(height=4, width=6, channels=3):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def make_folder(folder, channels=3, end="png"):
    """Two classes, two training images and one test image of each; returns the training images in order."""
    images = [
        save(folder / "train" / name / f"{number}.{end}", draw(channels=channels))
        for name in ("cat", "dog")
        for number in range(2)
    ]
    for name in ("cat", "dog"):
        save(folder / "test" / name / f"0.{end}", draw(channels=channels))
    return images


def error_of(folder):
    """Message of the error, without the folder."""
    with pytest.raises(DataError) as caught:
        load_dataset("image-folder", folder)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}{os.sep}", "").replace(str(folder), "FOLDER")


@pytest.mark.parametrize(("channels", "end"), [(3, "png"), (1, "png"), (3, "BMP"), (1, "pgm"), (3, "tif")])
@pytest.mark.parametrize("place", [".", "image-folder"])
def test_images_and_labels(tmp_path, channels, end, place):
    images = make_folder(tmp_path / place, channels, end)
    data = load_dataset("image-folder", tmp_path)
    assert data.name == "image-folder"
    assert data.classes == ("cat", "dog")
    assert data.input_shape == (channels, 4, 6)
    assert np.array_equal(data.train_images.numpy(), np.stack(images).reshape(4, channels, 4, 6))
    assert data.train_labels.tolist() == [0, 0, 1, 1]
    assert data.test_labels.tolist() == [0, 1]


def test_jpeg_is_what_pillow_decodes(tmp_path):
    make_folder(tmp_path, end="jpg")
    data = load_dataset("image-folder", tmp_path)
    with Image.open(tmp_path / "test" / "dog" / "0.jpg") as image:
        assert np.array_equal(data.test_images[1].permute(1, 2, 0).numpy(), np.asarray(image))


@given(st.lists(st.text("abc019", min_size=1, max_size=4), min_size=1, max_size=6, unique=True))
def test_order_is_that_of_the_names(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("order")
    for number, name in enumerate(names):
        save(folder / "train" / "one" / f"{name}.png", np.full((2, 2), number, np.uint8))
    save(folder / "test" / "one" / "a.png", draw(2, 2, 1))
    found = read_image_folder(folder).images["train"][:, 0, 0, 0].tolist()
    paths = sorted(f"{name}.png" for name in names)
    assert [f"{names[number]}.png" for number in found] == paths


def test_other_files_are_left_aside_and_none_is_written(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / "cat" / "._0.png").write_text("nor this")
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "README").write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert len(load_dataset("image-folder", tmp_path).train_images) == 4
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_part(tmp_path):
    assert error_of(tmp_path) == (
        "FOLDER: no subfolders train and test here or in its subfolder image-folder"
    )
    with pytest.raises(DataError) as caught:
        read_image_folder(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'train'}: no such folder"


def test_no_classes(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    assert error_of(tmp_path) == "train: no folders in it, expected one for every class"


@pytest.mark.parametrize(("name", "state"), [("dog", "missing"), ("emu", "not a class of the data set")])
def test_parts_of_other_classes(tmp_path, name, state):
    make_folder(tmp_path)
    path = tmp_path / "test" / name
    if path.exists():
        (path / "0.png").unlink()
        path.rmdir()
    else:
        save(path / "0.png", draw())
    assert error_of(tmp_path) == f"test/{name}: this class is {state}"


def test_class_without_images(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "test" / "dog" / "0.png").unlink()
    assert error_of(tmp_path).startswith("test/dog: no images in it (.png, .jpg, ")


@pytest.mark.parametrize(
    ("pixels", "found"), [(draw(4, 5), "3x4x5"), (draw(5, 6), "3x5x6"), (draw(channels=1), "1x4x6")]
)
def test_image_of_another_size(tmp_path, pixels, found):
    make_folder(tmp_path)
    save(tmp_path / "test" / "cat" / "1.png", pixels)
    assert error_of(tmp_path) == (
        f"test/cat/1.png: channels and size are {found}, expected 3x4x6 as in the first image"
    )


@pytest.mark.parametrize(
    ("mode", "pixels"), [("RGBA", draw(channels=4)), ("I;16", draw().astype("u2")[..., 0])]
)
def test_image_of_another_mode(tmp_path, mode, pixels):
    make_folder(tmp_path)
    save(tmp_path / "train" / "cat" / "0.png", pixels)
    assert error_of(tmp_path) == (f"train/cat/0.png: mode is {mode}, expected L (grey) or RGB, 8 bits each")


@pytest.mark.parametrize("keep", [0, 3, 40, 70])
def test_damaged_image(tmp_path, keep):
    make_folder(tmp_path)
    path = tmp_path / "train" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:keep])
    assert error_of(tmp_path) == "train/dog/1.png: cannot be read (not an image, or damaged)"


def test_image_that_is_a_folder(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "train" / "dog" / "2.png").mkdir()
    assert error_of(tmp_path) == "train/dog/2.png: cannot be read (Is a directory)"


def test_too_many_pixels(tmp_path, monkeypatch):
    make_folder(tmp_path)
    monkeypatch.setattr("lmht.model.image_folder.MAX_VALUES", 400)
    assert error_of(tmp_path) == "FOLDER: 6 images of 3x4x6, expected at most 400 values together"
