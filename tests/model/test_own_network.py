"""Networks of the user's own: built from their file, and one line for every mistake in it."""

import hashlib
import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from lmht.model import (
    BuildConfig,
    ConvNetworkConfig,
    OwnNetworkError,
    QuantConv2d,
    QuantLinear,
    build_network,
    is_own_net,
    read_own_source,
)
from lmht.model.own_network import build_own_network

GOOD = """
    from dataclasses import dataclass

    from torch import nn

    @dataclass
    class Sizes:
        channels: int

    class Net(nn.Module):
        def __init__(self, config):
            super().__init__()
            channels, height, width = config.input_shape
            sizes = Sizes(config.scale(4))
            self.conv = nn.Conv2d(channels, sizes.channels, 3, padding=1)
            self.neuron = config.make_neuron()
            self.classifier = nn.Linear(sizes.channels * height * width, config.classes)

        def forward(self, image):
            return self.classifier(self.neuron(self.conv(image)).flatten(1))

    def build(config):
        return Net(config)
"""


def write(folder, text, name="mine.py"):
    path = folder / name
    path.write_text(dedent(text))
    return path


def configure(source, **options):
    options = {"input_shape": (1, 4, 5), "classes": 3, "steps": 3} | options
    return ConvNetworkConfig(net=source.net, source_sha256=source.sha256, **options)


def build(text):
    source = read_own_source(text)
    return build_own_network(source, BuildConfig.of(configure(source)))


def test_network_is_built_and_quantized(tmp_path):
    path = write(tmp_path, GOOD)
    source = read_own_source(f"{path}:build")
    assert source.net == "mine.py:build"
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    network = build_network(configure(source, width=2.0, weight_bits=3, levels=4, leak=0.5), source=source)
    assert network(torch.rand(2, 1, 4, 5)).shape == (2, 3)
    module = network.module
    assert isinstance(module.conv, QuantConv2d)
    assert isinstance(module.classifier, QuantLinear)
    assert (module.conv.out_channels, module.conv.weight_bits) == (8, 3)
    assert (module.neuron.levels, module.neuron.steps, module.neuron.theta) == (4, 3, 0.5)
    assert module.neuron.leak() == 0.5
    assert network.training


def test_file_is_found_in_the_folder_of_a_run(tmp_path):
    source = read_own_source(str(write(tmp_path, GOOD)))
    assert source.function == "build"
    assert build_network(configure(source), tmp_path).steps == 3
    with pytest.raises(OwnNetworkError) as caught:
        build_network(configure(source), tmp_path / "elsewhere")
    assert str(caught.value) == f"{tmp_path / 'elsewhere' / 'mine.py'}: no such file"


def test_file_that_was_changed(tmp_path):
    path = write(tmp_path, GOOD)
    source = read_own_source(str(path))
    changed = path.read_bytes() + b"\n"
    path.write_bytes(changed)
    with pytest.raises(OwnNetworkError) as caught:
        build_network(configure(source), tmp_path)
    digest = hashlib.sha256(changed).hexdigest()
    assert str(caught.value) == f"{path}: SHA-256 is {digest}, expected {source.sha256}"


def test_two_files_of_the_same_name_do_not_meet(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, channels in zip(folders, (4, 6), strict=True):
        folder.mkdir()
        write(folder, GOOD.replace("scale(4)", f"scale({channels})"))
    first, second = (build(f"{folder / 'mine.py'}:build") for folder in folders)
    assert (first.module.conv.out_channels, second.module.conv.out_channels) == (4, 6)
    assert type(first.module) is not type(second.module)
    assert "mine" not in sys.modules


def test_weights_depend_on_the_seed_alone(tmp_path):
    path = write(tmp_path, GOOD)
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        states.append(build(f"{path}:build").state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_trying_out_leaves_the_batch_norms_alone(tmp_path):
    text = GOOD.replace("nn.Conv2d(channels", "nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(channels").replace(
        "padding=1)", "padding=1))"
    )
    network = build(f"{write(tmp_path, text)}:build")
    assert network.module.conv[0].num_batches_tracked == 0
    assert network.module.conv[0].training


def test_example_of_the_documentation(tmp_path):
    page = Path(__file__).resolve().parents[2] / "docs" / "training.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (code for code in examples if "def build(config)" in code)
    source = read_own_source(str(write(tmp_path, example)))
    network = build_network(configure(source, input_shape=(3, 10, 7), steps=4), source=source)
    assert network(torch.rand(2, 3, 10, 7)).shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "own"),
    [("net.py:f", True), ("a/net.py", True), ("x:y", True), ("64-10", False), ("resnet20", False)],
)
def test_which_names_are_files(text, own):
    assert is_own_net(text) == own


@pytest.mark.parametrize("text", ["net.py:", "net.py:two words", "net.py:1st", "net:build", "net.pyx:build"])
def test_wrong_name(text):
    with pytest.raises(OwnNetworkError) as caught:
        read_own_source(text)
    assert str(caught.value) == f"net must be FILE.py:FUNCTION for a network of your own, not {text!r}"


def test_file_that_cannot_be_read(tmp_path):
    with pytest.raises(OwnNetworkError) as caught:
        read_own_source(f"{tmp_path / 'none.py'}:build")
    assert str(caught.value) == f"{tmp_path / 'none.py'}: no such file"
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(OwnNetworkError) as caught:
        read_own_source(f"{tmp_path / 'folder.py'}:build")
    assert str(caught.value) == f"{tmp_path / 'folder.py'}: cannot be read (Is a directory)"


FAULTS = {
    "syntax": ("def build(config:\n    pass", ":1: the file failed: SyntaxError: '(' was never closed"),
    "import": (
        "import torch\nimport no_such_module",
        ":2: the file failed: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "null byte": (
        "a = 1\x00",
        ": the file failed: SyntaxError: source code string cannot contain null bytes",
    ),
    "no function": ("a = 1", ": no function build in it"),
    "no function but a number": ("build = 1", ": no function build in it"),
    "exception": (
        "def build(config):\n    sizes = {}\n    return sizes['hidden']",
        ":3: build() failed: KeyError: 'hidden'",
    ),
    "exception of two lines": (
        "def build(config):\n    raise RuntimeError('one\\ntwo')",
        ":2: build() failed: RuntimeError: one two",
    ),
    "no argument": (
        "def build():\n    pass",
        ": build() failed: TypeError: build() takes 0 positional arguments but 1 was given",
    ),
    "no module": ("def build(config):\n    return 'net'", ": build must return a torch.nn.Module, not str"),
    "no neurons": (
        "from torch import nn\ndef build(config):\n    return nn.Flatten()",
        ": the network cannot be used: ValueError: module must have neurons (WindowLMHT), and has none",
    ),
    "layer that cannot be quantized": (
        "from torch import nn\ndef build(config):\n"
        "    return nn.Sequential(nn.LazyConv2d(4, 3), config.make_neuron())",
        ": the network cannot be used: TypeError: layer '0' must be an nn.Conv2d or nn.Linear itself, "
        "not a LazyConv2d",
    ),
    "wrong classes": (
        "from torch import nn\ndef build(config):\n"
        "    return nn.Sequential(config.make_neuron(), nn.Flatten(), nn.Linear(20, 4))",
        ": the network failed on two black images: ValueError: the module's output must have shape (6, 3), "
        "3 steps of 2 images and 3 classes, not (6, 4)",
    ),
    "wrong sizes": (
        "from torch import nn\ndef build(config):\n"
        "    return nn.Sequential(config.make_neuron(), nn.Flatten(), nn.Linear(21, 3))",
        ": the network failed on two black images: RuntimeError: "
        "mat1 and mat2 shapes cannot be multiplied (6x20 and 21x3)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_mistake_in_the_file(tmp_path, fault):
    text, message = FAULTS[fault]
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(OwnNetworkError) as caught:
        build(f"{path}:build")
    assert str(caught.value) == f"{path}{message}"
