"""Training with AutoAugment, Cutout and Mixup: batches, loss, accuracy, and the same bits after an interruption."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from lmht.model import ConvNetworkConfig, NetworkConfig, TrainingConfig, batches, train
from lmht.model.losses import training_loss

from .conftest import stripes

BOTH = stripes(120)
GREY = replace(BOTH, train_images=BOTH.train_images[:, :1], test_images=BOTH.test_images[:, :1])
NETWORK = ConvNetworkConfig(net="mnist-cnn", width=0.25, input_shape=(1, 8, 8), classes=3)
ALL = TrainingConfig(
    epochs=2,
    batch_size=16,
    learning_rate=2e-2,
    augment="crop-flip",
    auto_augment="cifar10",
    cutout=3,
    mixup=0.5,
    validation_fraction=0.2,
)


def batches_of(config, seed=0):
    part = batches.split_dataset(config, GREY, torch.device("cpu"))
    return list(batches.shuffled_batches(config, part, 3, torch.Generator().manual_seed(seed)))


def run_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same(first, second):
    pairs = zip(first, second, strict=True)
    return all(torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1]) for ours, theirs in pairs)


@pytest.mark.parametrize("field", ["augment", "auto_augment", "cutout", "mixup"])
def test_each_changes_the_batches_and_the_seed_decides(field):
    off = {
        name: TrainingConfig.model_fields[name].default
        for name in ("augment", "auto_augment", "cutout", "mixup")
    }
    plain = ALL.model_copy(update=off)
    config = plain.model_copy(update={field: getattr(ALL, field)})
    assert same(batches_of(config), batches_of(config))
    assert not same(batches_of(config), batches_of(config, seed=1))
    assert not same(batches_of(config), batches_of(plain))


def test_targets():
    for images, targets in batches_of(ALL):
        assert images.shape == (16, 1, 8, 8)
        assert images.dtype == targets.dtype == torch.float32
        assert targets.shape == (16, 3)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(16))
    assert batches_of(ALL.model_copy(update={"mixup": 0.0}))[0][1].dtype == torch.int64


def test_loss_of_mixed_classes_is_the_mixed_loss():
    """By hand: with logits (0, ln 3), the classes have the probabilities 1/4 and 3/4."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    targets = torch.tensor([[0.7, 0.3], [0.3, 0.7]])
    first, second = math.log(4), math.log(4 / 3)
    by_hand = (0.7 * first + 0.3 * second + 0.3 * first + 0.7 * second) / 2
    assert training_loss(ALL, logits, targets, None).item() == pytest.approx(by_hand, rel=1e-6)
    smoothed = ALL.model_copy(update={"label_smoothing": 0.2})
    assert training_loss(smoothed, logits, targets, None).item() == pytest.approx(
        0.8 * by_hand + 0.2 * (first + second) / 2, rel=1e-6
    )


def test_accuracy_counts_the_larger_share(tmp_path, monkeypatch):
    """Images are mixed with others of the next class, which has the larger share; what a network that learned that
    says is right."""

    def next_class(images, labels, classes, alpha, generator):
        one_hot = torch.nn.functional.one_hot
        return images, 0.4 * one_hot(labels, classes) + 0.6 * one_hot((labels + 1) % classes, classes).float()

    monkeypatch.setattr(batches, "mixup", next_class)
    config = TrainingConfig(epochs=8, batch_size=16, learning_rate=2e-2, mixup=1.0, validation_fraction=0.2)
    run = train(NETWORK, config, GREY, tmp_path)
    assert run.history[-1].train_accuracy > 0.9
    assert run.history[-1].validation_accuracy < 0.1


@pytest.mark.parametrize("call", [3, 5, 7])
def test_interrupted_and_resumed_run_gives_the_same_files(tmp_path, monkeypatch, call):
    train(NETWORK, ALL, GREY, tmp_path / "whole")
    calls, original = [], batches.mixup

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "mixup", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(NETWORK, ALL, GREY, tmp_path / "resumed")
    torch.rand(7)
    train(NETWORK, ALL, GREY, tmp_path / "resumed")
    assert run_files(tmp_path / "resumed") == run_files(tmp_path / "whole")


def test_random_numbers_from_elsewhere_are_found(tmp_path, monkeypatch):
    """The comparison above fails as soon as one augmentation draws from a generator of its own."""
    stray = torch.Generator().manual_seed(0)
    original = batches.cutout
    monkeypatch.setattr(batches, "cutout", lambda images, length, _: original(images, length, stray))
    for name in ("first", "second"):
        train(NETWORK, ALL, GREY, tmp_path / name)
    assert run_files(tmp_path / "first") != run_files(tmp_path / "second")


def test_epochs_have_other_squares(tmp_path, monkeypatch):
    """In the order of the images, where of white images the squares are black."""
    seen = []
    original = batches.cutout

    def recorded(images, length, generator):
        seen.append(original(torch.full_like(images, 255), length, generator))
        return images

    monkeypatch.setattr(batches, "cutout", recorded)
    train(NETWORK, ALL, GREY, tmp_path)
    assert len(seen) == 8
    assert not any(torch.equal(seen[update], seen[update + 4]) for update in range(4))


def test_auto_augment_is_for_grey_and_colour(tmp_path):
    network = NetworkConfig(architecture="128-8-3", input_shape=(2, 8, 8))
    with pytest.raises(ValueError, match="must") as caught:
        train(network, ALL, BOTH, tmp_path / "run")
    assert str(caught.value) == (
        "auto_augment must be none for data set stripes with its 2 channels, not cifar10: it is for grey and RGB images"
    )
    assert not (tmp_path / "run").exists()


def test_auto_augment_is_not_for_frames():
    images = torch.zeros(80, 2, 1, 8, 8, dtype=torch.uint8)
    frames = replace(GREY, train_images=images)
    with pytest.raises(ValueError, match="with its frames, not cifar10"):
        batches.split_dataset(ALL, frames, torch.device("cpu"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixup": 0.2, "loss": "squared-hinge"}, "mixup must be 0 with loss squared-hinge, not 0.2"),
        ({"mixup": -0.1}, "greater than or equal to 0"),
        ({"cutout": -1}, "greater than or equal to 0"),
        ({"cutout": 2000}, "less than or equal to 1024"),
        ({"auto_augment": "svhn"}, "'none', 'cifar10' or 'imagenet'"),
    ],
)
def test_wrong_values(changes, message):
    with pytest.raises(ValidationError, match=message):
        TrainingConfig(**changes)
