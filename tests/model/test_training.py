"""Training: it learns, resumes to the same bits, and never overwrites another run."""

import os

import pytest
import torch

from lmht.model import (
    CheckpointError,
    Dataset,
    Network,
    NetworkConfig,
    RunConfig,
    RunError,
    TrainingConfig,
    TrainingInterrupted,
    batches,
    default_training_config,
    evaluate,
    load_checkpoint,
    load_dataset,
    losses,
    train,
    training,
)

NETWORK = NetworkConfig(architecture="16-8-3", input_shape=(1, 4, 4))
QUICK = TrainingConfig(epochs=4, batch_size=16, augment="shift", validation_fraction=0.2, learning_rate=1e-2)


def make_dataset(count=150, name="blobs"):
    """Images of three classes, told apart by which row is bright."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 120, (count, 1, 4, 4), generator=generator)
    images[torch.arange(count), 0, labels] += 100
    images, half = images.to(torch.uint8), count * 2 // 3
    return Dataset(name, ("a", "b", "c"), images[:half], labels[:half], images[half:], labels[half:])


DATASET = make_dataset()


def run_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def interrupt_at_call(monkeypatch, name, number):
    """Let the ``number``-th call of a function that training uses raise what Ctrl-C raises."""
    module = batches if hasattr(batches, name) else training
    original, calls = getattr(module, name), []

    def wrapper(*arguments, **keywords):
        calls.append(name)
        if len(calls) == number:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    monkeypatch.setattr(module, name, wrapper)


def test_run_folder_after_training(tmp_path):
    run = train(NETWORK, QUICK, DATASET, tmp_path / "deep" / "run")
    folder = tmp_path / "deep" / "run"
    assert sorted(run_files(folder)) == ["config.json", "model.safetensors"]
    network, loaded = load_checkpoint(folder)
    assert loaded == run
    assert run.finished
    assert [record.epoch for record in run.history] == [1, 2, 3, 4]
    assert run.network == NETWORK
    assert run.training == QUICK
    assert run.dataset == "blobs"
    assert evaluate(network, DATASET.test_images, DATASET.test_labels) == run.test_accuracy
    best = max(record.validation_accuracy for record in run.history)
    assert run.best_accuracy == best
    assert run.best_epoch == max(r.epoch for r in run.history if r.validation_accuracy == best)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("function", "number"),
    [
        ("random_shift", 1),  # before the first update: nothing is saved yet
        ("random_shift", 13),  # in the middle of the third epoch of 5 updates
        ("save_checkpoint", 1),  # the state of the first epoch is written, its checkpoint is not
        ("save_checkpoint", 3),
        ("save_training_state", 2),
        ("save_checkpoint", 5),  # at the very end, before the run is marked as finished
    ],
)
def test_interrupted_and_resumed_run_gives_the_same_files(tmp_path, monkeypatch, optimizer, function, number):
    config = QUICK.model_copy(update={"optimizer": optimizer})
    train(NETWORK, config, DATASET, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at_call(patch, function, number)
        with pytest.raises(KeyboardInterrupt):
            train(NETWORK, config, DATASET, tmp_path / "resumed")
    # What other code draws meanwhile must not matter.
    torch.rand(7)
    train(NETWORK, config, DATASET, tmp_path / "resumed")
    assert run_files(tmp_path / "resumed") == run_files(tmp_path / "whole")


def test_interruption_says_what_is_saved(tmp_path, monkeypatch):
    interrupt_at_call(monkeypatch, "random_shift", 13)
    with pytest.raises(TrainingInterrupted) as caught:
        train(NETWORK, QUICK, DATASET, tmp_path)
    assert str(caught.value) == f"training was interrupted; 2 of 4 epochs are saved in {tmp_path}"
    assert not load_checkpoint(tmp_path)[1].finished


def test_training_leaves_the_global_random_state_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(NETWORK, QUICK, DATASET, tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_seed_decides_the_weights(tmp_path):
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        train(NETWORK, QUICK.model_copy(update={"seed": seed}), DATASET, tmp_path / name)
    first, again, other = (run_files(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert first["model.safetensors"] != other["model.safetensors"]


def test_finished_run_is_returned_without_training(tmp_path, monkeypatch):
    run = train(NETWORK, QUICK, DATASET, tmp_path)
    monkeypatch.delattr(batches, "random_shift")
    assert train(NETWORK, QUICK, DATASET, tmp_path) == run


def test_early_stopping(tmp_path, monkeypatch):
    """With accuracies 0.5, 0.7, 0.6, 0.6, ... and a patience of 2, training stops after epoch 4."""
    accuracies = iter([0.5, 0.7, 0.6, 0.6, 0.9, 0.9])
    monkeypatch.setattr(training, "evaluate", lambda *_: next(accuracies))
    run = train(NETWORK, QUICK.model_copy(update={"epochs": 50, "early_stopping": 2}), DATASET, tmp_path)
    assert len(run.history) == 4
    assert run.best_epoch == 2
    assert run.best_accuracy == 0.7
    assert run.finished


def test_without_validation_the_last_epoch_is_kept(tmp_path):
    run = train(NETWORK, QUICK.model_copy(update={"validation_fraction": 0.0}), DATASET, tmp_path)
    assert run.best_epoch == 4
    assert run.best_accuracy is None
    assert run.test_accuracy is not None


@pytest.mark.parametrize(
    ("network", "config", "dataset", "difference"),
    [
        (NETWORK.model_copy(update={"steps": 3}), QUICK, DATASET, "network.steps is 2 there and 3 here"),
        (
            NETWORK,
            QUICK.model_copy(update={"epochs": 5}),
            DATASET,
            "training.epochs is 4 there and 5 here",
        ),
        (NETWORK, QUICK, make_dataset(name="other"), "dataset is 'blobs' there and 'other' here"),
    ],
)
def test_run_of_another_configuration_is_kept(tmp_path, network, config, dataset, difference):
    train(NETWORK, QUICK, DATASET, tmp_path)
    before = run_files(tmp_path)
    with pytest.raises(RunError) as caught:
        train(network, config, dataset, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds a run of another configuration: {difference}; choose another folder or overwrite"
    )
    assert run_files(tmp_path) == before
    assert train(network, config, dataset, tmp_path, overwrite=True).network == network


def test_run_is_not_continued_without_resume(tmp_path):
    train(NETWORK, QUICK, DATASET, tmp_path)
    with pytest.raises(RunError) as caught:
        train(NETWORK, QUICK, DATASET, tmp_path, resume=False)
    assert str(caught.value) == (
        f"{tmp_path} already holds a run; resume it, choose another folder or overwrite"
    )


def test_unfinished_run_without_its_state(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at_call(patch, "random_shift", 8)
        with pytest.raises(TrainingInterrupted):
            train(NETWORK, QUICK, DATASET, tmp_path)
    (tmp_path / "resume.safetensors").unlink()
    with pytest.raises(RunError) as caught:
        train(NETWORK, QUICK, DATASET, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds an unfinished run without resume.safetensors; choose another folder or overwrite"
    )
    (tmp_path / "config.json").unlink()
    with pytest.raises(RunError) as caught:
        train(NETWORK, QUICK, DATASET, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds model.safetensors without config.json; choose another folder or overwrite"
    )


@pytest.mark.parametrize("keep", [0, 100, -10])
@pytest.mark.parametrize("config_too", [True, False])
def test_damaged_state(tmp_path, monkeypatch, keep, config_too):
    with monkeypatch.context() as patch:
        interrupt_at_call(patch, "random_shift", 8)
        with pytest.raises(TrainingInterrupted):
            train(NETWORK, QUICK, DATASET, tmp_path)
    path = tmp_path / "resume.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    if not config_too:
        (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        train(NETWORK, QUICK, DATASET, tmp_path)
    assert str(caught.value).startswith(f"{path}: not a valid safetensors file (")
    assert "\n" not in str(caught.value)


def test_loss_that_is_not_finite(tmp_path, monkeypatch):
    nothing = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(losses.F, "cross_entropy", lambda *_, **__: nothing * 1)
    with pytest.raises(RunError) as caught:
        train(NETWORK, QUICK, DATASET, tmp_path)
    assert str(caught.value) == "the loss is nan in epoch 1; lower learning_rate, now 0.01"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"input_shape": (1, 2, 8)},
            "input_shape must be (1, 4, 4) for data set blobs, not (1, 2, 8)",
        ),
        (
            {"architecture": "16-8-4"},
            "architecture must end with 3, the classes of data set blobs, not 4",
        ),
    ],
)
def test_network_does_not_suit_the_data_set(tmp_path, changes, message):
    with pytest.raises(ValueError, match="must") as caught:
        train(NETWORK.model_copy(update=changes), QUICK, DATASET, tmp_path / "run")
    assert str(caught.value) == message
    assert not (tmp_path / "run").exists()


def test_learning_rate_rises_and_falls():
    """5 epochs of 2 updates: two of warm-up, by thirds of the rate, then half a cosine over 8 updates."""
    config = TrainingConfig(epochs=5, learning_rate=3.0, warmup_epochs=1)
    rates = [training._learning_rate(config, update, 2) for update in range(10)]
    assert rates[:3] == pytest.approx([1.0, 2.0, 3.0])
    assert rates[6] == pytest.approx(1.5)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.15


def test_weight_decay_acts_on_weights_alone(tmp_path):
    state = training._fresh_state(Network(NETWORK), QUICK.model_copy(update={"weight_decay": 0.5}))
    decayed, others = state.optimizer.param_groups
    assert decayed["weight_decay"] == 0.5
    assert others["weight_decay"] == 0
    assert [tuple(weight.shape) for weight in decayed["params"]] == [(8, 16), (3, 8)]
    assert len(decayed["params"]) + len(others["params"]) == len(list(state.network.parameters()))


def test_digits_reach_96_percent(tmp_path):
    network = NetworkConfig(architecture="64-64-10", input_shape=(1, 8, 8))
    run = train(network, default_training_config("digits"), load_dataset("digits"), tmp_path)
    assert isinstance(run, RunConfig)
    assert run.test_accuracy >= 0.96


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.skipif("LMHT_DATA" not in os.environ, reason="LMHT_DATA names no folder that holds mnist/")
def test_mnist_learns_in_two_epochs(tmp_path):
    config = default_training_config("mnist").model_copy(update={"epochs": 2})
    dataset = load_dataset("mnist", os.environ["LMHT_DATA"])
    run = train(NetworkConfig(architecture="784-128-10"), config, dataset, tmp_path)
    assert run.test_accuracy >= 0.96
