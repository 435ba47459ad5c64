"""Training of binary networks as the second paper has it: every coding and read-out learns, and resumes to the bit."""

import pytest
import torch

from lmht.model import (
    ConvNetworkConfig,
    Dataset,
    NetworkConfig,
    TrainingConfig,
    evaluate,
    load_checkpoint,
    train,
    training,
)
from lmht.model.steps import with_steps

RECIPE = TrainingConfig(
    epochs=3,
    batch_size=16,
    loss="squared-hinge",
    learning_rate=1e-2,
    validation_fraction=0.2,
    augment="shift",
)


def make_dataset(size, count=240):
    """Images of three classes, told apart by which third is bright."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 60, (count, 1, size, size), generator=generator)
    third = size // 3
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, label * third : (label + 1) * third] += 150
    images, half = images.to(torch.uint8), count * 2 // 3
    return Dataset("thirds", ("a", "b", "c"), images[:half], labels[:half], images[half:], labels[half:])


SMALL, LARGE = make_dataset(6), make_dataset(16)


def binary_network(**changes):
    common = {"levels": 1, "steps": 3, "mixing": "identity", "leak": 0.0}
    return NetworkConfig(architecture="36-32-3", input_shape=(1, 6, 6), **common | changes)


def run_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("coding", "leak", "readout"),
    [
        ("direct", 0.0, "spike-count"),
        ("direct", 1.0, "first-to-spike"),
        ("constant", 1.0, "mean"),
        ("constant", 1.0, "first-to-spike"),
        ("bernoulli", 0.0, "mean"),
        ("bernoulli", 0.0, "spike-count"),
        ("bernoulli", 1.0, "last-step"),
    ],
)
def test_every_coding_and_readout_learns(tmp_path, coding, leak, readout):
    network = binary_network(coding=coding, readout=readout, leak=leak)
    run = train(network, RECIPE.model_copy(update={"epochs": 12}), SMALL, tmp_path, progress=False)
    assert run.test_accuracy > 0.8
    loaded, again = load_checkpoint(tmp_path)
    assert again == run
    assert run.network == network
    for _ in range(2):
        assert evaluate(loaded, SMALL.test_images, SMALL.test_labels) == run.test_accuracy


@pytest.mark.parametrize("readout", ["mean", "spike-count"])
def test_convolutions_with_max_pooling_learn(tmp_path, readout):
    network = ConvNetworkConfig(
        net="lenet",
        width=0.2,
        input_shape=(1, 16, 16),
        classes=3,
        levels=1,
        steps=2,
        mixing="identity",
        leak=1.0,
        coding="bernoulli",
        readout=readout,
    )
    run = train(network, RECIPE, LARGE, tmp_path, progress=False)
    assert run.test_accuracy > 0.8
    assert evaluate(load_checkpoint(tmp_path)[0], LARGE.test_images, LARGE.test_labels) == run.test_accuracy


def test_seeds_of_random_spikes_are_recorded(tmp_path):
    random = train(binary_network(coding="bernoulli"), RECIPE, SMALL, tmp_path / "random", progress=False)
    seeds = [record.coding_seed for record in random.history]
    assert len(set(seeds)) == 3
    assert min(seeds) >= training.CODING_SEEDS
    plain = train(binary_network(coding="constant"), RECIPE, SMALL, tmp_path / "constant", progress=False)
    assert [record.coding_seed for record in plain.history] == [None] * 3


@pytest.mark.parametrize("batch", [0, 1, 8 * 2 + 3])
def test_resumes_to_the_same_bits(tmp_path, monkeypatch, batch):
    """Random spikes too: stopped in any epoch, the files are those of a run that was not."""
    network = binary_network(coding="bernoulli", readout="first-to-spike", leak=1.0)
    train(network, RECIPE, SMALL, tmp_path / "whole", progress=False)
    whole, calls = training.training_loss, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == batch + 1:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(training, "training_loss", interrupted)
    with pytest.raises(training.TrainingInterrupted):
        train(network, RECIPE, SMALL, tmp_path / "resumed", progress=False)
    monkeypatch.undo()
    torch.rand(5)
    train(network, RECIPE, SMALL, tmp_path / "resumed", progress=False)
    assert run_files(tmp_path / "resumed") == run_files(tmp_path / "whole")


def test_one_sample_in_training_many_in_use(tmp_path):
    """Discontinuous integration: trained one step at a time, and no worse with more of them."""
    network = binary_network(coding="bernoulli", steps=1)
    run = train(network, RECIPE.model_copy(update={"epochs": 12}), SMALL, tmp_path, progress=False)
    longer = with_steps(load_checkpoint(tmp_path)[0], 32)
    accuracy = evaluate(longer, SMALL.test_images, SMALL.test_labels)
    assert accuracy >= max(run.test_accuracy, 0.9)
