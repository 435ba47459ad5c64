"""The example and the page on networks of one's own say what works."""

import re
from pathlib import Path

import pytest
import torch

from lmht.gen.build import Build
from lmht.gen.capture import ACCEPTED, capture
from lmht.gen.capture_values import CaptureError
from lmht.gen.cli import main
from lmht.gen.compile import CompileOptions, to_integers
from lmht.model import (
    ConvNetworkConfig,
    SpikingNetwork,
    WindowLMHT,
    build_network,
    load_checkpoint,
    read_own_source,
)
from lmht.sim.golden import GoldenModel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/your-own-network.md").read_text(encoding="utf-8")


def test_example_is_mapped():
    source = read_own_source("examples/own_network.py:build", ROOT)
    config = ConvNetworkConfig(
        net=source.net, source_sha256=source.sha256, input_shape=(1, 8, 8), classes=10, width=0.5
    )
    torch.manual_seed(0)
    network = build_network(config, ROOT / "examples").eval()
    integers = to_integers(network, CompileOptions(), name="own")
    assert integers.architecture == "1x8x8-8C3-8C3g8-8C1+0-M2-10"
    images = torch.randint(0, 256, (200, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images).argmax(dim=1)
    found = GoldenModel(integers).run(images).predictions
    assert (found == expected).double().mean() > 0.9


@pytest.mark.slow
def test_example_goes_all_the_way_to_a_build(tmp_path):
    run, build = tmp_path / "run", tmp_path / "build"
    net = f"{ROOT}/examples/own_network.py:build"
    assert main(["train", "--net", net, "--width", "0.25", "--epochs", "1", "--out", str(run)]) == 0
    assert main(["compile", str(run), "--out", str(build)]) == 0
    network, _ = load_checkpoint(run)
    expected = to_integers(network, CompileOptions(), name="run")
    found = Build.open(build).network
    assert found.architecture == expected.architecture == "1x8x8-4C3-4C3g4-4C1+0-M2-10"
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(
        GoldenModel(found).run(images).logits, GoldenModel(expected).run(images).logits, rtol=0, atol=0
    )


UNMAPPED = """
from torch import nn

def build(config):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), config.make_neuron(), nn.Flatten(), nn.Linear(144, config.classes)
    )
"""


def test_command_refuses_with_one_line(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(UNMAPPED)
    run = tmp_path / "run"
    arguments = ["--net", f"{tmp_path}/mine.py:build", "--epochs", "1", "--out", str(run)]
    assert main(["train", *arguments]) == 2
    refusal = "error: 1 (ReLU): it is no spiking neuron; use WindowLMHT"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{refusal} (")
    assert not run.exists()
    assert main(["train", *arguments, "--weight-bits", "float"]) == 0
    capsys.readouterr()
    assert main(["compile", str(run), "--out", str(tmp_path / "build")]) == 2
    assert capsys.readouterr().err == f"{refusal}\n"
    assert not (tmp_path / "build").exists()


def test_code_of_the_page_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names = {}
    exec(compile(code, "your-own-network.md", "exec"), names)
    assert names["integers"].architecture == "1x8x8-8C3-P2-10"
    with torch.no_grad():
        expected = names["network"].eval()(names["images"]).argmax(dim=1)
    assert (names["classes"] == expected).double().mean() > 0.9


class Block(torch.nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.neuron, self.conv = WindowLMHT(2, 2), torch.nn.Conv2d(3, 3, 3, padding=1)
        self.pool, self.features = torch.nn.AvgPool2d(2), torch.nn.Sequential(*parts)


def refusal(forward, *parts):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block(*parts)
            self.features = self.block.features

        def forward(self, image):
            return forward(self, image)

    with pytest.raises(CaptureError) as caught:
        capture(SpikingNetwork(Net(), input_shape=(3, 8, 8), classes=2))
    return str(caught.value)


def test_refusals_of_the_page_are_those_of_the_capture():
    (text,) = re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)
    first, second, third = text.splitlines()
    parts = [torch.nn.Identity()] * 3 + [torch.nn.MaxPool2d(3, 2)]
    overlapping = refusal(lambda net, image: net.features[3](net.block.neuron(image)), *parts)
    assert overlapping.partition(": ")[2] == first.partition(": ")[2]
    assert refusal(lambda net, image: net.block.pool(net.block.conv(net.block.neuron(image)))) == second
    assert third.partition("mul: ")[2].removesuffix(" …") in f"it is not mapped; {ACCEPTED}"
