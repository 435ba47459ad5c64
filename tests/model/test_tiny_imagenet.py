"""Tiny-ImageNet in the layout of its archive: classes, order, grey images, and one line for each thing wrong."""

import os

import numpy as np
import pytest
from PIL import Image

from lmht.model import DataError, load_dataset

IDS = ("n02124075", "n01443537", "n04067472")
WORDS = ("Egyptian cat", "goldfish, Carassius auratus", "reel")
OTHERS = "n00001740\tentity\nn02121808\tdomestic cat, house cat, Felis domesticus\n"


def save(path, grey=False):
    shape = (64, 64) if grey else (64, 64, 3)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "JPEG")


@pytest.fixture
def folder(tmp_path):
    """Three classes of two training images, the second of the goldfish grey, and four validation images."""
    top = tmp_path / "tiny-imagenet-200"
    for name in IDS:
        part = top / "train" / name
        for number in range(2):
            save(part / "images" / f"{name}_{number}.JPEG", grey=(name, number) == (IDS[1], 1))
        lines = [f"{name}_{number}.JPEG\t0\t{number}\t63\t58\n" for number in range(2)]
        (part / f"{name}_boxes.txt").write_text("".join(lines))
    annotations = []
    for number, label in enumerate((2, 0, 1, 1)):
        save(top / "val" / "images" / f"val_{number}.JPEG", grey=number == 3)
        annotations.append(f"val_{number}.JPEG\t{IDS[label]}\t0\t32\t44\t62\n")
    (top / "val" / "val_annotations.txt").write_text("".join(annotations))
    (top / "wnids.txt").write_text("".join(f"{name}\n" for name in IDS))
    words = [f"{name}\t{text}\n" for name, text in zip(IDS, WORDS, strict=True)]
    (top / "words.txt").write_text(OTHERS + "".join(words))
    save(top / "test" / "images" / "test_0.JPEG")
    return top


def error_of(folder):
    """Message of the error, with paths below the folder."""
    with pytest.raises(DataError) as caught:
        load_dataset("tiny-imagenet", folder)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}{os.sep}", "").replace(str(folder), "FOLDER")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "place", [".", "tiny-imagenet-200", "tiny-imagenet", "tiny-imagenet/tiny-imagenet-200"]
)
def test_classes_and_order(folder, tmp_path, place):
    data_dir = tmp_path / "data"
    (data_dir / place).parent.mkdir(parents=True, exist_ok=True)
    folder.rename(data_dir / place)
    data = load_dataset("tiny-imagenet", data_dir)
    assert data.name == "tiny-imagenet"
    assert data.classes == ("Egyptian cat", "goldfish", "reel")
    assert data.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.test_labels.tolist() == [2, 0, 1, 1]
    assert data.input_shape == (3, 64, 64)


def test_pixels_are_what_pillow_decodes(folder):
    data = load_dataset("tiny-imagenet", folder)
    for path, pixels in (
        (folder / "train" / IDS[2] / "images" / f"{IDS[2]}_0.JPEG", data.train_images[4]),
        (folder / "val" / "images" / "val_1.JPEG", data.test_images[1]),
    ):
        with Image.open(path) as image:
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(image))


def test_grey_images_have_three_equal_channels(folder):
    data = load_dataset("tiny-imagenet", folder)
    for pixels in (data.train_images[3], data.test_images[3]):
        assert (pixels == pixels[0]).all()
        assert pixels.float().std() > 1
    assert not (data.train_images[2] == data.train_images[2, 0]).all()


def test_order_is_that_of_the_lists(folder):
    before = load_dataset("tiny-imagenet", folder)
    path = folder / "train" / IDS[0] / f"{IDS[0]}_boxes.txt"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    after = load_dataset("tiny-imagenet", folder)
    assert np.array_equal(after.train_images[[1, 0]], before.train_images[[0, 1]])


def test_missing_image(folder):
    (folder / "val" / "images" / "val_2.JPEG").unlink()
    assert error_of(folder) == "val/val_annotations.txt: line 3: no image val_2.JPEG in val/images"


DAMAGES = [
    ("wnids.txt", IDS[1], "goldfish", "wnids.txt: line 2: 'goldfish' is no WordNet id such as n01443537"),
    ("wnids.txt", IDS[1], IDS[0], "wnids.txt: line 2: n02124075 is there a second time"),
    ("words.txt", "\treel", "", "words.txt: line 5: 1 fields between tabulators, expected 2"),
    ("words.txt", IDS[2], "n04067473", "words.txt: no words for n04067472 of wnids.txt"),
    (
        "val/val_annotations.txt",
        "val_1.JPEG\t",
        "val_1.JPEG ",
        "val/val_annotations.txt: line 2: 5 fields between tabulators, expected 6",
    ),
    (
        "val/val_annotations.txt",
        IDS[2],
        "n00001740",
        "val/val_annotations.txt: line 1: class is 'n00001740', expected one of wnids.txt",
    ),
    (
        "val/val_annotations.txt",
        "\t44",
        "\tx44",
        "val/val_annotations.txt: line 1: 'x44' of the box must be a whole number",
    ),
    (
        f"train/{IDS[0]}/{IDS[0]}_boxes.txt",
        f"{IDS[0]}_1",
        f"../{IDS[0]}_1",
        f"train/{IDS[0]}/{IDS[0]}_boxes.txt: line 2: '../{IDS[0]}_1.JPEG' is no name of a file",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "message"), DAMAGES)
def test_damaged_list(folder, name, old, new, message):
    edit(folder / name, old, new)
    assert error_of(folder) == message


@pytest.mark.parametrize(
    "name", ["words.txt", f"train/{IDS[1]}/{IDS[1]}_boxes.txt", "val/val_annotations.txt"]
)
def test_missing_and_empty_list(folder, name):
    (folder / name).unlink()
    assert error_of(folder) == f"{name}: no such file"
    (folder / name).write_text("")
    assert error_of(folder) == f"{name}: no lines in it"
    (folder / name).write_bytes(b"\xff\xfe\x00")
    assert error_of(folder).startswith(f"{name}: cannot be read (")


def test_image_of_another_size_mode_or_cut_off(folder):
    path = folder / "val" / "images" / "val_0.JPEG"
    content = path.read_bytes()
    Image.new("RGB", (64, 60)).save(path, "JPEG")
    assert error_of(folder) == "val/images/val_0.JPEG: size is 64x60, expected 64x64"
    Image.new("CMYK", (64, 64)).save(path, "JPEG")
    assert error_of(folder) == ("val/images/val_0.JPEG: mode is CMYK, expected L (grey) or RGB, 8 bits each")
    path.write_bytes(content[:200])
    assert error_of(folder) == "val/images/val_0.JPEG: cannot be read (not an image, or damaged)"


def test_no_such_data_set(tmp_path):
    assert error_of(tmp_path) == "FOLDER: no file wnids.txt here or in its subfolder tiny-imagenet"
    with pytest.raises(DataError, match=r"needs the folder that holds its file wnids\.txt"):
        load_dataset("tiny-imagenet")
