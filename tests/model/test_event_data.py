"""Event data sets: from the published folders to frames, and to what the commands make of them."""

import json
import os
import struct

import pytest
import torch

from lmht.gen.cli import main
from lmht.model import DataError, load_dataset
from lmht.model.cifar import CIFAR10_CLASSES


def write_nmnist(folder, count=2):
    """Recording ``n`` of digit ``d``: n + 1 events at column d, row 3 and time 0, and one at column 33 and 7,999 µs."""
    for part in ("Train", "Test"):
        for digit in range(10):
            (folder / part / str(digit)).mkdir(parents=True)
            for number in range(count if part == "Train" else 1):
                first, last = bytes([digit, 3, 0, 0, 0]), bytes([33, 0, 0x80, 0x1F, 0x3F])
                content = first * (number + 1) + last
                (folder / part / str(digit) / f"{number:05}.bin").write_bytes(content)


def write_dvs_cifar10(folder, count=3):
    """Recording ``n`` of class ``c``: events of both halves in different 2x2 pixels, rows 8 c on."""
    for label, name in enumerate(CIFAR10_CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            places = [
                (8 * label + row, column, half) for half in (0, 1) for row in range(4) for column in (0, 1)
            ]
            events = b"".join(
                struct.pack(
                    ">Ii", (127 - column - 64 * half) << 8 | (127 - row) << 1 | half, 10 * half + number
                )
                for row, column, half in places
            )
            (folder / name / f"cifar10_{name}_{number}.aedat").write_bytes(
                b"#!AER-DAT2.0\r\n# c\r\n" + events
            )


def error_of(folder, name, **options):
    """Message of the error, without the folder."""
    with pytest.raises(DataError) as caught:
        load_dataset(name, folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}{os.sep}", "").replace(str(folder), "FOLDER")


@pytest.mark.parametrize("place", [".", "n-mnist"])
def test_nmnist(tmp_path, place):
    pytest.importorskip("tonic", reason="tonic is not installed (pip install tonic)")
    write_nmnist(tmp_path / place)
    (tmp_path / place / "Train" / "3" / "notes.txt").write_text("no recording")
    data = load_dataset("n-mnist", tmp_path, steps=2)
    assert (data.name, data.classes) == ("n-mnist", tuple("0123456789"))
    assert (data.input_shape, data.frames) == ((2, 34, 34), 2)
    assert data.train_images.shape == (20, 2, 2, 34, 34)
    assert data.train_labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert data.test_labels.tolist() == list(range(10))
    expected = torch.zeros(2, 2, 34, 34, dtype=torch.uint8)
    expected[0, 0, 3, 4] = 2 * 17
    expected[1, 1, 0, 33] = 17
    assert torch.equal(data.train_images[9], expected)
    expected[0, 0, 3, 4] = 17
    assert torch.equal(data.test_images[4], expected)


@pytest.mark.parametrize("place", [".", "dvs-cifar10"])
def test_dvs_cifar10(tmp_path, place):
    """The first nine tenths of every class, by name, are for training; squares of 2x2 pixels are summed."""
    write_dvs_cifar10(tmp_path / place, count=20)
    data = load_dataset("dvs-cifar10", tmp_path, steps=4)
    assert data.classes == CIFAR10_CLASSES
    assert (data.input_shape, data.frames) == ((2, 64, 64), 4)
    assert data.train_labels.tolist() == [label for label in range(10) for _ in range(18)]
    assert data.test_labels.tolist() == [label for label in range(10) for _ in range(2)]
    expected = torch.zeros(4, 2, 64, 64, dtype=torch.uint8)
    for step in range(4):
        expected[step, step // 2, 4 * 3 + step % 2, 32 * (step // 2)] = 4 * 17
    assert torch.equal(data.train_images[18 * 3], expected)


def test_mean_of_frames(tmp_path):
    """One picture of 48x48 a recording: 8 sensor rows are 3 of the picture, whatever the number of steps."""
    write_dvs_cifar10(tmp_path)
    data = load_dataset("dvs-cifar10", tmp_path, coding="mean-frames")
    assert (data.input_shape, data.frames, data.has_events) == ((2, 48, 48), None, True)
    assert data.train_images.shape == (20, 2, 48, 48)
    expected = torch.zeros(2, 48, 48, dtype=torch.uint8)
    # Rows 24 to 27 and columns 0 and 1 (64 and 65): 2.67 x 2 events in the first row of three, 1.33 x 2 in the second.
    expected[0, 9, 0], expected[0, 10, 0] = 9, 5
    expected[1, 9, 24], expected[1, 10, 24] = 9, 5
    assert torch.equal(data.train_images[2 * 3], expected)


def test_wrong_folders(tmp_path):
    expected = "FOLDER: no subfolders airplane, automobile, ... here or in its subfolder dvs-cifar10"
    assert error_of(tmp_path, "dvs-cifar10", steps=2) == expected
    expected = "FOLDER: no subfolders Train and Test here or in its subfolder n-mnist"
    assert error_of(tmp_path, "n-mnist", steps=2) == expected
    write_nmnist(tmp_path)
    (tmp_path / "Test" / "7" / "00000.bin").unlink()
    assert error_of(tmp_path, "n-mnist", steps=2) == "Test/7: no recordings in it (*.bin)"
    (tmp_path / "Test" / "7").rmdir()
    assert error_of(tmp_path, "n-mnist", steps=2) == "Test/7: no such folder"
    write_dvs_cifar10(tmp_path, count=2)
    (tmp_path / "cat" / "cifar10_cat_1.aedat").unlink()
    message = "cat: 1 recording, expected at least 2, for training and test"
    assert error_of(tmp_path, "dvs-cifar10", steps=2) == message


def test_damaged_file_is_named(tmp_path):
    write_dvs_cifar10(tmp_path, count=2)
    path = tmp_path / "frog" / "cifar10_frog_1.aedat"
    path.write_bytes(path.read_bytes()[:-1])
    message = (
        "frog/cifar10_frog_1.aedat: 127 bytes behind the header of 19, expected a multiple of 8; the file is "
    )
    assert error_of(tmp_path, "dvs-cifar10", steps=2) == message + "truncated"


def test_wrong_steps(tmp_path):
    write_dvs_cifar10(tmp_path, count=2)
    message = "dvs-cifar10 needs steps, the number of frames into which its recordings are cut"
    assert error_of(tmp_path, "dvs-cifar10") == message
    with pytest.raises(ValueError, match=r"^steps must be at least 1, not 0$"):
        load_dataset("dvs-cifar10", tmp_path, steps=0)
    message = (
        "FOLDER: 20 recordings of 1000000 frames of 2x64x64, expected at most 17179869184 values together"
    )
    assert error_of(tmp_path, "dvs-cifar10", steps=1_000_000) == message
    message = "n-mnist needs the folder that holds its recordings, or its subfolder n-mnist"
    with pytest.raises(DataError, match=f"^{message}$"):
        load_dataset("n-mnist", steps=2)


def run(*arguments):
    return main([str(each) for each in arguments])


def test_commands(tmp_path, capsys):
    """Training takes coding and frames from data set and steps; hardware has no way in for further frames."""
    write_dvs_cifar10(tmp_path / "dvs-cifar10")
    data = ["--data", "dvs-cifar10", "--data-dir", tmp_path]
    tiny = ["--net", "8192-8-10", "--steps", "3", "--epochs", "1", "--batch-size", "5"]
    out = tmp_path / "run"
    assert run("train", *data, *tiny, "--out", out) == 0
    record = json.loads((out / "config.json").read_text())
    assert record["dataset"] == "dvs-cifar10"
    assert record["network"].items() >= {"coding": "frames", "steps": 3, "input_shape": [2, 64, 64]}.items()
    assert run("train", *data, *tiny, "--out", out) == 0
    assert "is already trained" in capsys.readouterr().out
    message = (
        "error: coding must be direct, constant, bernoulli or mean-frames for hardware so far, not frames\n"
    )
    for command in (["compile", out, "--out", tmp_path / "build"], ["stats", out]):
        for given in ([], ["--data-dir", tmp_path]):
            assert run(*command, *given) == 2
            assert capsys.readouterr().err == message
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coding", "direct"], "coding must be frames or mean-frames for data set dvs-cifar10, not direct"),
        (["--method", "hybrid"], "coding must be direct or mean-frames with activation qcfs, not frames"),
        (
            ["--data", "digits", "--net", "64-10", "--coding", "mean-frames"],
            "coding must be direct, constant or bernoulli for the images of data set digits, not mean-frames",
        ),
        (
            ["--data", "digits", "--net", "64-10", "--coding", "frames"],
            "coding must be direct, constant or bernoulli",
        ),
        (["--steps", "33"], "steps must be between 1 and 32, not 33"),
    ],
)
def test_wrong_option(tmp_path, capsys, options, message):
    write_dvs_cifar10(tmp_path, count=2)
    data = ["--data", "dvs-cifar10", "--data-dir", tmp_path, "--net", "8192-8-10"]
    assert run("train", *data, *options, "--out", tmp_path / "run") == 2
    *notes, error = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {message}")
    assert all(note.startswith("note: ") for note in notes)


@pytest.mark.slow
def test_mean_of_frames_in_hardware(tmp_path, capsys):
    """Trained, compiled and verified by the commands: 100 recordings, logits and levels equal in the RTL."""
    write_dvs_cifar10(tmp_path / "dvs-cifar10", count=100)
    data, out, build = ["--data-dir", tmp_path], tmp_path / "run", tmp_path / "build"
    options = [
        "--coding",
        "mean-frames",
        "--net",
        "mnist-cnn",
        "--width",
        "0.25",
        "--steps",
        "2",
        "--epochs",
        "1",
    ]
    assert run("train", "--data", "dvs-cifar10", *data, *options, "--out", out) == 0
    record = json.loads((out / "config.json").read_text())["network"]
    assert record.items() >= {"coding": "mean-frames", "steps": 2, "input_shape": [2, 48, 48]}.items()
    assert run("compile", out, *data, "--out", build) == 0
    capsys.readouterr()
    assert run("verify", build, *data, "--images", "100") == 0
    assert "equal" in capsys.readouterr().out
    assert run("stats", out, *data, "--images", "10") == 0
