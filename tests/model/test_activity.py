"""Activity penalty: its gradient by hand, fewer events on the digits, and runs that resume to the same bits."""

import pytest
import torch
from torch.nn import functional as F

from lmht.gen.cli import main
from lmht.gen.compile import CompileOptions, to_integers
from lmht.gen.event_statistics import measure_events
from lmht.model import (
    LMHT,
    ConvNetworkConfig,
    Network,
    NetworkConfig,
    TrainingConfig,
    batches,
    build_network,
    load_checkpoint,
    load_dataset,
    train,
)
from lmht.model.activity import ActivityMeter

DIGITS = NetworkConfig(architecture="64-24-10", input_shape=(1, 8, 8))
QUICK = TrainingConfig(epochs=6, batch_size=64, learning_rate=5e-3)


def two_neurons():
    """One neuron of θ = 1, L = 2, T = 2 behind one of θ = 0.5, L = 4, T = 2, both without mixing."""
    first = LMHT(2, 2, 1.0, mixing="identity", leak=1.0)
    return torch.nn.Sequential(first, LMHT(4, 2, 0.5, mixing="identity", leak=1.0))


def test_mean_level_and_gradient_by_hand():
    """Two neurons, two steps and one image: four outputs."""
    network = two_neurons()
    current = torch.tensor([[1.25], [0.5]], requires_grad=True)
    with ActivityMeter(network) as meter:
        output = network(current)
    # First neuron: m = 1.25, 0.25 + 0.5, so k = 1, 0. Second: m = 1, 0, so k = 2, 0.
    assert output.tolist() == [[1.0], [0.0]]
    level = meter.mean_level()
    assert level.item() == (1 + 0 + 2 + 0) / 4
    level.backward()
    # The surrogate is 1 for m = 1.25 and 0.75 of the first neuron (from 0.5 to 2.5), for m = 1 of the second (from 0.25
    # to 2.25) and 0 for its m = 0. One level of the first is 1 / θ = 1 of its output, one of the second 2.
    assert current.grad.tolist() == [[(1 + 2) / 4], [1 / 4]]


def test_hooks_are_gone_after_the_block():
    network = two_neurons()
    with pytest.raises(KeyError), ActivityMeter(network):
        raise KeyError
    assert not any(neuron._forward_hooks for neuron in network)


def test_meter_that_saw_nothing():
    with (
        pytest.raises(RuntimeError, match="must run inside the block"),
        ActivityMeter(two_neurons()) as meter,
    ):
        meter.mean_level()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_mean_level_of_a_network_with_convolutions(precision):
    config = ConvNetworkConfig(net="mnist-cnn", width=0.25, input_shape=(1, 8, 8), classes=3)
    torch.manual_seed(0)
    network = build_network(config)
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    with (
        ActivityMeter(network) as meter,
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        network(images)
    assert meter.mean_level().dtype == torch.float32
    if precision == "float32":
        levels = torch.cat([found.flatten() for found in network.spike_levels(images).values()])
        assert meter.mean_level().item() == pytest.approx(levels.double().mean().item())


def test_penalty_is_what_is_added_to_the_loss(tmp_path):
    """With one update an epoch, the recorded loss of the first epoch is that of the fresh network."""
    digits = load_dataset("digits")
    config = QUICK.model_copy(update={"epochs": 1, "batch_size": 1437, "validation_fraction": 0.0})
    torch.manual_seed(config.seed)
    network = Network(DIGITS)
    with ActivityMeter(network) as meter:
        logits = network(digits.train_images)
    loss = F.cross_entropy(logits, digits.train_labels).item()
    assert len(digits.train_images) == 1437
    for penalty in (0.0, 0.5):
        recipe = config.model_copy(update={"activity_penalty": penalty})
        run = train(DIGITS, recipe, digits, tmp_path / str(penalty))
        assert run.history[0].loss == pytest.approx(loss + penalty * meter.mean_level().item(), rel=1e-5)


def test_density_falls_with_the_penalty(tmp_path, capsys):
    digits = load_dataset("digits")
    densities = {}
    for penalty in ("0", "0.1", "1"):
        folder = tmp_path / penalty
        arguments = ["--net", "64-24-10", "--epochs", "6", "--activity-penalty", penalty]
        assert main(["train", *arguments, "--out", str(folder)]) == 0
        network, run = load_checkpoint(folder)
        assert run.training.activity_penalty == float(penalty)
        integers = to_integers(network, CompileOptions(), name="digits")
        densities[penalty] = measure_events(integers, digits.test_images).spike_densities[0]
    assert densities["1"] < 0.8 * densities["0"]
    assert densities["1"] < densities["0.1"] < densities["0"]


def test_interrupted_and_resumed_run_gives_the_same_files(tmp_path, monkeypatch):
    digits = load_dataset("digits")
    config = QUICK.model_copy(update={"epochs": 2, "activity_penalty": 0.3, "augment": "shift"})
    train(DIGITS, config, digits, tmp_path / "whole")
    original, calls = batches.random_shift, []

    def interrupt(*arguments, **keywords):
        calls.append(None)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "random_shift", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(DIGITS, config, digits, tmp_path / "resumed")
    train(DIGITS, config, digits, tmp_path / "resumed")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    "arguments", [["--net", "64-10"], ["--method", "qcfs"]], ids=["no hidden layer", "no spikes"]
)
def test_penalty_without_neurons(tmp_path, capsys, arguments):
    capsys.readouterr()
    command = ["train", *arguments, "--activity-penalty", "0.1", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert capsys.readouterr().err == (
        "error: activity_penalty must be 0 for a network without LM-HT neurons\n"
    )
    assert not (tmp_path / "run").exists()


def test_negative_penalty(tmp_path, capsys):
    assert main(["train", "--activity-penalty", "-1", "--out", str(tmp_path / "run")]) == 2
    message = "activity_penalty: Input should be greater than or equal to 0, not -1.0"
    assert capsys.readouterr().err == f"error: {message}\n"


def test_hybrid_training_keeps_the_penalty_for_fine_tuning(tmp_path):
    arguments = ["--method", "hybrid", "--net", "64-16-10", "--epochs", "1", "--activity-penalty", "0.5"]
    assert main(["train", *arguments, "--out", str(tmp_path)]) == 0
    assert load_checkpoint(tmp_path)[1].training.activity_penalty == 0.5
    assert load_checkpoint(tmp_path / "qcfs")[1].training.activity_penalty == 0
