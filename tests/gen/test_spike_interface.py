"""Binary networks in the compiler: constant-rate coding, spike counts, max pooling; what is refused names its field."""

import json
import re

import pytest
import torch

from lmht.gen.cli import main
from lmht.gen.compile import CompileOptions, compile_network, to_integers
from lmht.gen.spike_interface import draw_frames
from lmht.model import ConvNetworkConfig, Network, NetworkConfig, build_network
from lmht.model.coding import seed_coding, uses_random_coding
from lmht.model.evaluation import BATCH_SIZE, EVALUATION_SEED
from lmht.model.steps import with_steps
from lmht.sim.golden import GoldenModel

SHAPE = (1, 16, 16)


def make_networks(**changes):
    """A fully connected network and one with convolutions, with settled batch norms."""
    common = {"levels": 1, "steps": 3, "mixing": "identity", "leak": 1.0} | changes
    torch.manual_seed(0)
    networks = (
        Network(NetworkConfig(architecture="256-20-10", input_shape=SHAPE, **common)),
        build_network(ConvNetworkConfig(net="lenet", width=0.2, input_shape=SHAPE, classes=10, **common)),
    )
    images = torch.randint(0, 256, (64, *SHAPE), dtype=torch.uint8)
    for network in networks:
        for _ in range(20):
            network.train()(images)
    return [network.eval() for network in networks]


@pytest.mark.parametrize("leak", [0.0, 1.0])
@pytest.mark.parametrize("coding", ["direct", "constant"])
@pytest.mark.parametrize("readout", ["mean", "spike-count"])
def test_integers_compute_what_the_network_does(coding, readout, leak):
    images = torch.randint(0, 256, (60, *SHAPE), dtype=torch.uint8)
    for network in make_networks(coding=coding, readout=readout, leak=leak):
        options = CompileOptions(fraction_bits=14, multiplier_bits=20)
        integers = to_integers(network, options, name="n")
        with torch.no_grad():
            expected = network(images)
        found = GoldenModel(integers).run(images).logits * integers.logit_scale
        # Where no rounding moves a spike, counts are equal.
        near = (found - expected).abs() < (1e-6 if readout == "spike-count" else 0.1)
        assert near.double().mean() > 0.95
        assert len(integers.layers) - 1 == len(network.spike_levels(images)) + (
            coding == "constant" and isinstance(network, Network)
        )


def test_constant_rate_neurons_follow_the_pixels():
    network, convolutions = make_networks(coding="constant")
    images = torch.randint(0, 256, (20, *SHAPE), dtype=torch.uint8)
    for each in (network, convolutions):
        integers = to_integers(each, CompileOptions(fraction_bits=14, multiplier_bits=20), name="n")
        spikes = GoldenModel(integers).run(images, keep_levels=True).levels[0].long().sum(dim=0)
        assert torch.equal(spikes, (3 * images.flatten(1).double() / 255).round().long())


REFUSED = [
    ({"coding": "bernoulli"}, "steps must be 1 with coding bernoulli for hardware so far, not 3"),
    (
        {"readout": "first-to-spike"},
        "readout must be mean or spike-count for hardware so far, not first-to-spike",
    ),
    ({"readout": "last-step"}, "readout must be mean or spike-count for hardware so far, not last-step"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=lambda value: str(value)[-20:])
def test_refused(changes, message, tmp_path):
    for network in make_networks(**changes):
        with pytest.raises(ValueError, match="for hardware so far") as caught:
            compile_network(network, tmp_path / "build")
        assert str(caught.value) == message
        assert not (tmp_path / "build").exists()


def test_random_spikes_of_one_step(tmp_path):
    """The golden model on drawn frames is the network that draws the same spikes."""
    images = torch.randint(0, 256, (300, *SHAPE), dtype=torch.uint8)
    frames = draw_frames(images, "bernoulli")
    assert torch.equal(torch.unique(frames), torch.tensor([0, 255], dtype=torch.uint8))
    assert (frames.double().mean() - images.double().mean()).abs() < 2
    assert draw_frames(images, "direct") is images
    for network in make_networks(coding="bernoulli", steps=1, leak=0.0):
        drawn = with_steps(network, 1)
        integers = to_integers(network, CompileOptions(fraction_bits=14, multiplier_bits=20), name="n")
        assert uses_random_coding(network)
        found = GoldenModel(integers).run(frames.numpy()).logits * integers.logit_scale
        seed_coding(drawn, EVALUATION_SEED)
        with torch.no_grad():
            expected = torch.cat([drawn(part) for part in images.split(BATCH_SIZE)])
        near = (found - expected).abs() < 0.1
        assert near.double().mean() > 0.95
        other = (
            GoldenModel(integers).run(draw_frames(images, "bernoulli", 1).numpy()).logits
            * integers.logit_scale
        )
        assert ((other - expected).abs() < 0.1).double().mean() < 0.9


def test_random_spikes_of_one_step_in_hardware(tmp_path, capsys):
    """Compiled, verified and counted through the command line, with the accuracy that PyTorch has for these spikes."""
    run, build = tmp_path / "run", tmp_path / "build"
    options = [
        "--net",
        "64-12-10",
        "--levels",
        "1",
        "--steps",
        "1",
        "--integration",
        "discontinuous",
        "--coding",
        "bernoulli",
        "--epochs",
        "2",
    ]
    assert main(["train", *options, "--out", str(run)]) == 0
    assert main(["compile", str(run), "--lanes", "4", "--out", str(build)]) == 0
    assert main(["stats", str(run), "--images", "20"]) == 0
    capsys.readouterr()
    assert main(["verify", str(build), "--images", "all"]) == 0
    text = capsys.readouterr().out
    accuracy = json.loads((run / "config.json").read_text())["test_accuracy"]
    found = float(re.search(r"accuracy of the RTL: ([\d.]+)%", text)[1]) / 100
    assert abs(found - accuracy) <= 2 / 360


def test_command_line(tmp_path, capsys):
    """The options reach the configuration; what hardware has compiles, and the rest is refused in one line."""
    tiny = ["--net", "64-12-10", "--levels", "1", "--epochs", "1", "--loss", "squared-hinge"]
    out = tmp_path / "run"
    options = ["--integration", "discontinuous", "--coding", "constant", "--readout", "spike-count"]
    assert main(["train", *tiny, *options, "--out", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    wanted = {"mixing": "identity", "leak": 0.0, "coding": "constant", "readout": "spike-count"}
    assert config["network"].items() >= wanted.items()
    assert config["training"].items() >= {"loss": "squared-hinge", "label_smoothing": 0.0}.items()
    assert main(["compile", str(out), "--lanes", "2", "--out", str(tmp_path / "build")]) == 0
    other = tmp_path / "other"
    options = [
        "--integration",
        "continuous",
        "--coding",
        "bernoulli",
        "--readout",
        "first-to-spike",
        "--steps",
        "3",
    ]
    assert main(["train", *tiny, *options, "--out", str(other)]) == 0
    assert json.loads((other / "config.json").read_text())["network"]["leak"] == 1.0
    capsys.readouterr()
    assert main(["compile", str(other), "--out", str(tmp_path / "refused")]) == 2
    assert capsys.readouterr().err == f"error: {REFUSED[0][1]}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--integration", "continuous", "--leak", "1"],
            "leak must be left out with integration continuous, not 1",
        ),
        (
            ["--integration", "discontinuous", "--mixing", "uniform"],
            "mixing must be left out with integration discontinuous, not uniform",
        ),
        (["--readout", "spike-count"], "levels must be 1 with readout spike-count, not 2"),
        (
            ["--method", "hybrid", "--coding", "bernoulli"],
            "coding must be direct or mean-frames with activation qcfs, not bernoulli",
        ),
        (["--coding", "latency"], "Invalid value for '--coding'"),
        (["--net", "lenet"], "input_shape must be at least 16x16 pixels for lenet, not 8x8"),
    ],
)
def test_wrong_option(options, message, tmp_path, capsys):
    assert main(["train", *options, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
