"""``lmht train`` for networks with convolutions, on the digits and on a small folder of images."""

import json

import numpy as np
import pytest
from PIL import Image

from lmht.gen.cli import main
from lmht.model import load_checkpoint

OWN = """
from torch import nn

def build(config):
    channels = config.scale(4)
    return nn.Sequential(
        nn.Conv2d(config.input_shape[0], channels, 3, padding=1), nn.BatchNorm2d(channels),
        config.make_neuron(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * channels, config.classes),
    )
"""
QUICK = ["--epochs", "1", "--batch-size", "64"]


@pytest.fixture
def fails(capsys):
    """Function that runs a command that must fail, and returns its one line."""

    def run(*arguments):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        return errors.removeprefix("error: ").rstrip("\n")

    return run


def test_convolutional_network(tmp_path, capsys):
    out = tmp_path / "run"
    options = "--width 0.5 --steps 3 --weight-bits 5 --leak 1 --augment shift --precision bfloat16"
    assert main(["train", "--net", "mnist-cnn", *QUICK, *options.split(), "--out", str(out)]) == 0
    assert f"{out}: mnist-cnnx0.5, L = 2, T = 3, 5-bit weights; epoch 1 of 1" in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())
    assert config["network"] == {
        "net": "mnist-cnn",
        "source_sha256": None,
        "width": 0.5,
        "input_shape": [1, 8, 8],
        "classes": 10,
        "levels": 2,
        "steps": 3,
        "weight_bits": 5,
        "mixing": "learned",
        "leak": 1.0,
        "theta": None,
        "initial_membrane": 0.0,
        "activation": "lmht",
        "quanta": None,
        "thetas": None,
        "initial_membranes": None,
        "coding": "direct",
        "readout": "mean",
    }
    assert (config["training"]["augment"], config["training"]["precision"]) == ("shift", "bfloat16")


def test_network_of_the_user(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    command = ["train", "--net", f"{path}:build", "--width", "2", *QUICK, "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert "mine.py:buildx2, L = 2, T = 2" in capsys.readouterr().out
    assert (tmp_path / "run" / "mine.py").read_text() == OWN
    assert main(command) == 0
    assert "is already trained" in capsys.readouterr().out
    path.unlink()
    assert load_checkpoint(tmp_path / "run")[0].module[0].out_channels == 8


def test_folder_of_images(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(6):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    data = ["--data", "image-folder", "--data-dir", str(tmp_path)]
    recipe = ["--epochs", "1", "--batch-size", "4", "--width", "0.1"]
    assert main(["train", *data, *recipe, "--out", str(tmp_path / "run")]) == 0
    assert "resnet20x0.1, L = 2" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["network"]["classes"] == 2


WRONG_OPTIONS = [
    (
        ["--net", "resnet50"],
        "net must be layer widths such as 784-128-10, one of mnist-cnn, lenet, vgg11, vgg13, vgg16, resnet18, "
        "resnet19, resnet20, resnet34, or FILE.py:FUNCTION, not 'resnet50'",
    ),
    (["--net", "none.py:build"], "none.py: no such file"),
    (["--net", "none:build"], "net must be FILE.py:FUNCTION for a network of your own, not 'none:build'"),
    (["--net", "vgg11"], "input_shape must be at least 32x32 pixels for vgg11, not 8x8"),
    (["--net", "mnist-cnn", "--width", "0"], "width: Input should be greater than 0, not 0.0"),
    (["--net", "64-10", "--width", "2"], "width must be left out with layer widths as net, not 2.0"),
    (
        ["--net", "mnist-cnn", "--method", "hybrid", "--leak", "0.5"],
        "leak must be learned or 1.0 with activation qcfs, not 0.5",
    ),
    (["--net", "mnist-cnn", "--quanta", "4"], "quanta must be None with activation lmht, not 4"),
    (["--net", "mnist-cnn", "--steps", "9"], "steps must be between 1 and 8, not 9"),
    (["--net", "mnist-cnn", "--augment", "blur"], "Invalid value for '--augment'"),
    (["--data", "cifar10"], "cifar10 needs the folder that holds its binary files, or its subfolder cifar10"),
    (
        ["--data", "image-folder"],
        "image-folder needs the folder that holds its subfolders train and test, or its subfolder image-folder",
    ),
]


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS, ids=lambda value: str(value)[:40])
def test_wrong_option(options, message, tmp_path, fails, monkeypatch):
    monkeypatch.delenv("LMHT_DATA", raising=False)
    line = fails("train", *options, "--out", tmp_path / "run")
    assert line.startswith(message)
    assert not (tmp_path / "run").exists()


def test_mistake_in_the_file_of_the_user(tmp_path, fails):
    path = tmp_path / "mine.py"
    path.write_text("def build(config):\n    return config.inputs\n")
    line = fails("train", "--net", f"{path}:build", "--out", tmp_path / "run")
    assert line == (
        f"{path}:2: build() failed: AttributeError: 'BuildConfig' object has no attribute 'inputs'"
    )


def test_network_without_qcfs_is_not_converted(tmp_path, fails):
    assert (
        main(["train", "--net", "mnist-cnn", "--width", "0.2", *QUICK, "--out", str(tmp_path / "run")]) == 0
    )
    line = fails("convert", tmp_path / "run", "--out", tmp_path / "converted")
    assert line.endswith("run: activation must be qcfs for conversion, not lmht")
