"""``lmht train`` for networks with convolutions, on the digits and on a small folder of images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lmht.gen.cli import main
from lmht.gen.recipe_table import markdown_table
from lmht.model import load_checkpoint, recipe_files, recipe_names

PAGE = Path(__file__).parents[2] / "docs/training.md"

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
        "fraction_bits": None,
        "detach": None,
        "coding": "direct",
        "readout": "mean",
    }
    assert (config["training"]["augment"], config["training"]["precision"]) == ("shift", "bfloat16")


@pytest.mark.parametrize(
    ("options", "stored", "rule"),
    [
        (["--integration", "continuous"], None, False),
        (["--integration", "continuous", "--detach"], True, True),
        (["--levels", "1", "--mixing", "identity"], None, False),
        ([], None, True),
        (["--no-detach"], False, False),
    ],
)
def test_rule_of_the_gradient(tmp_path, options, stored, rule):
    assert main(["train", "--net", "64-8-10", "--epochs", "1", *options, "--out", str(tmp_path)]) == 0
    network, run = load_checkpoint(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["network"]["detach"] is stored
    assert (run.network.detach, network.layers[0].neuron.detach) == (stored, rule)


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


RECIPE = """
data = "digits"

[network]
net = "nets/mine.py:build"
levels = 1
steps = 3
leak = 1

[training]
epochs = 1
batch_size = 64
augment = "shift"
auto_augment = "cifar10"
cutout = 2
"""


def config_of(*arguments):
    out = Path(arguments[-1])
    assert main(["train", *(str(argument) for argument in arguments)]) == 0
    return json.loads((out / "config.json").read_text())


def test_integer_weights_begin_with_those_in_float(tmp_path, capsys, fails):
    first, second, other = tmp_path / "float", tmp_path / "three", tmp_path / "other"
    quick = ["train", *QUICK, "--net", "64-20-10"]
    assert main([*quick, "--weight-bits", "float", "--out", str(first)]) == 0
    assert "weights in float; epoch 1 of 1" in capsys.readouterr().out
    again = [*quick, "--weight-bits", "3", "--start", str(first), "--learning-rate", "1e-9"]
    assert main([*again, "--out", str(second)]) == 0
    (network, start), (rounded, run) = load_checkpoint(first), load_checkpoint(second)
    assert start.network.weight_bits is None
    assert run.network.weight_bits == 3
    assert (run.start_sha256, start.start_sha256) == (start.weights_sha256, None)
    for name, tensor in network.named_parameters():
        torch.testing.assert_close(rounded.get_parameter(name), tensor, atol=1e-5, rtol=1e-5)
    message = fails(*quick, "--weight-bits", "3", "--learning-rate", "1e-9", "--out", second)
    assert "start_sha256 is" in message
    wrong = fails("train", *QUICK, "--net", "64-24-10", "--start", first, "--out", other)
    assert wrong == "start must have for layers.0.linear.weight the shape (24, 64), not (20, 64)"
    hybrid = fails(*quick, "--method", "hybrid", "--start", first, "--out", other)
    assert hybrid == f"start must be left out with method hybrid, not {first}"


def test_recipe_may_ask_for_float(tmp_path):
    recipe = tmp_path / "own.toml"
    recipe.write_text('data = "digits"\n[network]\nnet = "64-8-10"\nweight_bits = "float"\n')
    assert main(["train", "--recipe", str(recipe), *QUICK, "--out", str(tmp_path / "run")]) == 0
    assert load_checkpoint(tmp_path / "run")[1].network.weight_bits is None


def test_recipe_file(tmp_path):
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "mine.py").write_text(OWN)
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    config = config_of("--recipe", path, "--out", tmp_path / "run")
    network, training = config["network"], config["training"]
    assert (config["dataset"], network["net"]) == ("digits", "mine.py:build")
    assert (network["levels"], network["steps"], network["leak"], network["weight_bits"]) == (1, 3, 1.0, 4)
    assert (training["epochs"], training["augment"], training["auto_augment"]) == (1, "shift", "cifar10")
    assert (training["cutout"], training["mixup"]) == (2, 0.0)
    assert config_of("--recipe", path, "--out", tmp_path / "run") == config


def test_options_override_single_fields_of_a_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    options = "--net 64-12-10 --steps 2 --mixup 0.3 --auto-augment none --cutout 0 --seed 5 --mixing identity"
    config = config_of("--recipe", path, *options.split(), "--out", tmp_path / "run")
    network, training = config["network"], config["training"]
    assert (network["architecture"], network["levels"], network["steps"]) == ("64-12-10", 1, 2)
    assert (network["mixing"], network["leak"]) == ("identity", 1.0)
    assert (training["mixup"], training["auto_augment"], training["cutout"]) == (0.3, "none", 0)
    assert (training["seed"], training["augment"], training["batch_size"]) == (5, "shift", 64)


def test_recipe_of_a_hybrid_run(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'data = "digits"\nmethod = "hybrid"\n[training]\nepochs = 2\n'
        "[fine_tuning]\nepochs = 1\nlearning_rate = 1e-4"
    )
    config = config_of("--recipe", path, "--out", tmp_path / "run")
    assert config["network"]["architecture"] == "64-64-10"
    assert (config["training"]["epochs"], config["training"]["learning_rate"]) == (1, 1e-4)
    assert json.loads((tmp_path / "run" / "qcfs" / "config.json").read_text())["training"]["epochs"] == 2
    other = config_of("--recipe", path, "--fine-tuning-rate", "1e-3", "--out", tmp_path / "other")
    assert (other["training"]["epochs"], other["training"]["learning_rate"]) == (1, 1e-3)
    direct = config_of("--recipe", path, "--method", "stbp", "--out", tmp_path / "direct")
    assert (direct["training"]["epochs"], direct["conversion"]) == (2, None)


def test_default_is_the_recipe_of_the_data_set(tmp_path):
    quick = ("--epochs", "1")
    by_default = config_of(*quick, "--out", tmp_path / "first")
    assert config_of("--recipe", "digits", *quick, "--out", tmp_path / "second") == by_default


def test_recipes_are_listed(capsys):
    assert main(["train", "--recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["recipe", *recipe_names()]
    assert "300 epochs of sgd" in lines[1]


def test_page_has_the_table_of_the_files():
    text = PAGE.read_text(encoding="utf-8")
    block = text.partition("<!-- recipes:begin -->\n")[2].partition("<!-- recipes:end -->")[0]
    assert block.splitlines() == markdown_table()


def test_table_says_what_a_file_says(tmp_path, monkeypatch):
    for path in recipe_files.RECIPE_FOLDER.glob("*.toml"):
        (tmp_path / path.name).write_text(path.read_text().replace("epochs = 300", "epochs = 299"))
    monkeypatch.setattr(recipe_files, "RECIPE_FOLDER", tmp_path)
    assert "`cifar10` | `cifar10` | `resnet18` | 2, 2 | 8 | 299 epochs of sgd" in "\n".join(markdown_table())


def test_mistake_in_a_recipe(tmp_path, fails):
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE.replace("cutout = 2", "cutout = -2"))
    line = fails("train", "--recipe", path, "--out", tmp_path / "run")
    assert line == f"{path}: training.cutout: Input should be greater than or equal to 0, not -2"
    assert fails("train", "--recipe", "list", "--out", tmp_path / "run").startswith(
        "recipe must be one of cifar10, cifar10-hybrid, "
    )
    assert not (tmp_path / "run").exists()


WRONG_OPTIONS = [
    (
        ["--net", "resnet50"],
        "net must be layer widths such as 784-128-10, one of mnist-cnn, lenet, vgg11, vgg13, vgg16, resnet18, "
        "resnet19, resnet20, resnet34, resnet19-lmht, vgg13-lmht, vgg16-lmht, or FILE.py:FUNCTION, not 'resnet50'",
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
    (["--net", "mnist-cnn", "--steps", "33"], "steps must be between 1 and 32, not 33"),
    (["--net", "mnist-cnn", "--augment", "blur"], "Invalid value for '--augment'"),
    (["--auto-augment", "svhn"], "Invalid value for '--auto-augment'"),
    (["--cutout", "-1"], "cutout: Input should be greater than or equal to 0, not -1"),
    (["--mixup", "0.2", "--loss", "squared-hinge"], "mixup must be 0 with loss squared-hinge, not 0.2"),
    (
        ["--data", "tiny-imagenet"],
        "tiny-imagenet needs the folder that holds its file wnids.txt, or its subfolder tiny-imagenet",
    ),
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


UNMAPPED = {
    "norm": (
        "nn.GroupNorm(1, 1), nn.Conv2d(1, 4, 3), config.make_neuron(), nn.Flatten(), nn.Linear(144, 10)",
        "0 (GroupNorm): it is not mapped",
    ),
    "gamma": (
        "Gamma(), nn.Conv2d(1, 4, 3), config.make_neuron(), nn.Flatten(), nn.Linear(144, 10)",
        "0 (Gamma): pow: it is not mapped; before its first weights, an image may only be normalized",
    ),
    "pooling": (
        "nn.Conv2d(1, 4, 3), nn.AvgPool2d(2), config.make_neuron(), nn.Flatten(), nn.Linear(36, 10)",
        "1 (AvgPool2d): average pooling in front of neurons is not mapped",
    ),
    "two norms": (
        "nn.Conv2d(1, 4, 3), config.make_neuron(), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(144, 10)",
        "2 (GroupNorm): it is not mapped",
    ),
    "transposed": (
        "nn.ConvTranspose2d(1, 4, 3), config.make_neuron(), nn.Flatten(), nn.Linear(400, 10)",
        "0 (ConvTranspose2d): it is not mapped",
    ),
    "dilated": (
        "nn.Conv2d(1, 4, 3, dilation=2), config.make_neuron(), nn.Flatten(), nn.Linear(64, 10)",
        "0 (QuantConv2d): dilation (2, 2) is not mapped; use 1",
    ),
    "second activation": (
        "nn.Conv2d(1, 4, 3), nn.Tanh(), config.make_neuron(), nn.Flatten(), nn.Linear(144, 10)",
        "1 (Tanh): it is not mapped",
    ),
}


def write_unmapped(folder, name):
    path = folder / "mine.py"
    path.write_text(
        "from torch import nn\n\nclass Gamma(nn.Module):\n    def forward(self, x):\n        return x ** 2.2\n\n"
        f"def build(config):\n    return nn.Sequential({UNMAPPED[name][0]})\n"
    )
    return f"{path}:build"


@pytest.mark.parametrize("name", UNMAPPED)
def test_what_hardware_does_not_have_is_refused_before_training(name, tmp_path, fails):
    out = tmp_path / "run"
    line = fails("train", "--net", write_unmapped(tmp_path, name), *QUICK, "--out", out)
    assert line.startswith(UNMAPPED[name][1])
    assert line.endswith("--weight-bits float trains it all the same)")
    assert not out.exists()


def test_the_same_for_hybrid_training(tmp_path, fails):
    net = write_unmapped(tmp_path, "pooling")
    line = fails("train", "--method", "hybrid", "--net", net, *QUICK, "--out", tmp_path / "run")
    assert line.startswith(UNMAPPED["pooling"][1])


def test_in_float_it_is_trained(tmp_path):
    command = ["train", "--net", write_unmapped(tmp_path, "norm"), *QUICK, "--weight-bits", "float"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0


def test_a_read_out_without_hardware_is_trained_with_a_note(tmp_path, capsys):
    command = ["train", "--net", "64-8-10", *QUICK, "--readout", "last-step", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert capsys.readouterr().err.startswith(
        "note: the network is trained, but hardware cannot be made of it: readout must be mean or spike-count"
    )


def test_a_fully_connected_network_is_tried_too(tmp_path, fails, monkeypatch):
    def fail(network):
        raise ValueError("layer 0: planted")

    monkeypatch.setattr("lmht.gen.trial_capture.fold_batch_norm", fail)
    assert fails("train", "--net", "64-8-10", *QUICK, "--out", tmp_path / "run").startswith(
        "layer 0: planted ("
    )
