"""Training of networks with convolutions: it learns, resumes to the same bits, and keeps the user's file."""

import pytest
import torch

from lmht.model import (
    CheckpointError,
    ConvNetworkConfig,
    Network,
    NetworkConfig,
    OwnNetworkError,
    RunError,
    SpikingNetwork,
    TrainingConfig,
    batches,
    convert_run,
    default_training_config,
    evaluate,
    load_checkpoint,
    read_own_source,
    train,
    training,
)

from .conftest import stripes

QUICK = TrainingConfig(
    epochs=3, batch_size=16, learning_rate=2e-2, augment="crop-flip", validation_fraction=0.2
)
NETWORK = ConvNetworkConfig(net="mnist-cnn", width=0.25, input_shape=(2, 8, 8), classes=3)
OWN = """
from torch import nn

def build(config):
    width = config.input_shape[1] * config.input_shape[2] * 4
    return nn.Sequential(
        nn.Conv2d(config.input_shape[0], 4, 3, padding=1), config.make_neuron(),
        nn.Dropout(0.1), nn.Flatten(), nn.Linear(width, config.classes),
    )
"""
TWICE = """
from torch import nn

def build(config):
    layer, other = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
    other.weight = layer.weight
    return nn.Sequential(
        layer, layer, other, config.make_neuron(), nn.Flatten(), nn.Linear(128, config.classes)
    )
"""


DATASET = stripes(120)


def run_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def interrupt_at_call(monkeypatch, module, name, number):
    original, calls = getattr(module, name), []

    def wrapper(*arguments, **keywords):
        calls.append(name)
        if len(calls) == number:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    monkeypatch.setattr(module, name, wrapper)


def own_network(folder, text=OWN):
    path = folder / "mine.py"
    path.write_text(text)
    source = read_own_source(f"{path}:build")
    shape = {"input_shape": (2, 8, 8), "classes": 3}
    return ConvNetworkConfig(net=source.net, source_sha256=source.sha256, **shape), source


def test_run_is_loaded_as_it_was_trained(tmp_path):
    config = QUICK.model_copy(update={"epochs": 6, "augment": "none"})
    run = train(NETWORK, config, DATASET, tmp_path)
    network, loaded = load_checkpoint(tmp_path)
    assert isinstance(network, SpikingNetwork)
    assert not network.training
    assert loaded == run
    assert loaded.network == NETWORK
    assert evaluate(network, DATASET.test_images, DATASET.test_labels) == run.test_accuracy
    assert run.test_accuracy >= 0.9


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("module", "function", "number"),
    [
        (batches, "random_crop_flip", 1),
        (batches, "random_crop_flip", 7),
        (training, "save_checkpoint", 2),
        (training, "save_training_state", 3),
    ],
)
def test_interrupted_and_resumed_run_gives_the_same_files(
    tmp_path, monkeypatch, module, function, number, precision
):
    config = QUICK.model_copy(update={"precision": precision})
    network = NETWORK.model_copy(update={"net": "resnet20", "width": 0.2})
    train(network, config, DATASET, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at_call(patch, module, function, number)
        with pytest.raises(KeyboardInterrupt):
            train(network, config, DATASET, tmp_path / "resumed")
    torch.rand(7)
    train(network, config, DATASET, tmp_path / "resumed")
    assert run_files(tmp_path / "resumed") == run_files(tmp_path / "whole")


def test_bfloat16_changes_training_and_not_measuring(tmp_path):
    runs = [
        train(NETWORK, QUICK.model_copy(update={"precision": name}), DATASET, tmp_path / name)
        for name in ("float32", "bfloat16")
    ]
    assert runs[0].history[0].loss == pytest.approx(runs[1].history[0].loss, rel=0.1)
    assert runs[0].history != runs[1].history
    network, _ = load_checkpoint(tmp_path / "bfloat16")
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32, torch.int64}
    assert evaluate(network, DATASET.test_images, DATASET.test_labels) == runs[1].test_accuracy


def test_weight_decay_acts_on_convolutions_and_linear_layers():
    network = training.build_network(NETWORK)
    decayed, others = training._fresh_state(network, QUICK).optimizer.param_groups
    assert [weight.dim() for weight in decayed["params"]] == [4, 4, 2]
    assert len(decayed["params"]) + len(others["params"]) == len(list(network.parameters()))


def test_run_keeps_the_file_of_the_user(tmp_path):
    network, source = own_network(tmp_path)
    run = train(network, QUICK, DATASET, tmp_path / "run", source=source)
    source.path.unlink()
    assert sorted(run_files(tmp_path / "run")) == ["config.json", "mine.py", "model.safetensors"]
    loaded, record = load_checkpoint(tmp_path / "run")
    assert record == run
    assert run.network.architecture == "mine.py:build"
    assert evaluate(loaded, DATASET.test_images, DATASET.test_labels) == run.test_accuracy


def test_run_of_the_user_goes_on_without_their_file(tmp_path, monkeypatch):
    """Its dropout, too, is the same in every epoch, whatever was drawn before."""
    network, source = own_network(tmp_path)
    train(network, QUICK, DATASET, tmp_path / "whole", source=source)
    with monkeypatch.context() as patch:
        interrupt_at_call(patch, batches, "random_crop_flip", 7)
        with pytest.raises(KeyboardInterrupt):
            train(network, QUICK, DATASET, tmp_path / "resumed", source=source)
    torch.rand(3)
    train(network, QUICK, DATASET, tmp_path / "resumed")
    assert run_files(tmp_path / "resumed") == run_files(tmp_path / "whole")


def test_layers_and_weights_used_twice(tmp_path, monkeypatch):
    network, source = own_network(tmp_path, TWICE)
    train(network, QUICK, DATASET, tmp_path / "whole", source=source)
    with monkeypatch.context() as patch:
        interrupt_at_call(patch, batches, "random_crop_flip", 7)
        with pytest.raises(KeyboardInterrupt):
            train(network, QUICK, DATASET, tmp_path / "resumed", source=source)
    train(network, QUICK, DATASET, tmp_path / "resumed")
    assert run_files(tmp_path / "resumed") == run_files(tmp_path / "whole")
    module = load_checkpoint(tmp_path / "whole")[0].module
    assert module[0] is module[1]
    assert module[2].weight is module[1].weight


def test_changed_file_of_the_user_is_another_run(tmp_path):
    network, source = own_network(tmp_path)
    train(network, QUICK, DATASET, tmp_path / "run", source=source)
    before = run_files(tmp_path / "run")
    other, changed = own_network(tmp_path, OWN + "\n")
    with pytest.raises(RunError, match=r"another configuration: network\.source_sha256 is '"):
        train(other, QUICK, DATASET, tmp_path / "run", source=changed)
    assert run_files(tmp_path / "run") == before


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_damaged_copy_of_the_file(tmp_path, damage):
    network, source = own_network(tmp_path)
    train(network, QUICK, DATASET, tmp_path / "run", source=source)
    copy = tmp_path / "run" / "mine.py"
    if damage == "missing":
        copy.unlink()
    else:
        copy.write_text("raise RuntimeError('this must not run')")
    message = "no such file" if damage == "missing" else "SHA-256 is"
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "run")
    assert str(caught.value).startswith(f"{copy}: {message}")


def test_network_that_cannot_be_built_leaves_no_folder(tmp_path):
    network, source = own_network(tmp_path, "def build(config):\n    return None\n")
    with pytest.raises(OwnNetworkError, match="must return"):
        train(network, QUICK, DATASET, tmp_path / "run", source=source)
    assert not (tmp_path / "run").exists()


def test_network_that_cannot_be_built_replaces_no_run(tmp_path):
    train(NETWORK, QUICK, DATASET, tmp_path / "run")
    before = run_files(tmp_path / "run")
    network, source = own_network(tmp_path, "def build(config):\n    return None\n")
    with pytest.raises(OwnNetworkError, match="must return"):
        train(network, QUICK, DATASET, tmp_path / "run", source=source, overwrite=True)
    assert run_files(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 4}, "classes must be 3, those of data set stripes, not 4"),
        ({"input_shape": (1, 8, 8)}, "input_shape must be (2, 8, 8) for data set stripes, not (1, 8, 8)"),
    ],
)
def test_network_does_not_suit_the_data_set(tmp_path, changes, message):
    with pytest.raises(ValueError, match="must") as caught:
        train(NETWORK.model_copy(update=changes), QUICK, DATASET, tmp_path / "run")
    assert str(caught.value) == message
    assert not (tmp_path / "run").exists()


def test_run_of_a_fully_connected_network_is_kept(tmp_path):
    plain = NetworkConfig(architecture="128-8-3", input_shape=(2, 8, 8))
    train(plain, QUICK, DATASET, tmp_path)
    with pytest.raises(RunError) as caught:
        train(NETWORK, QUICK, DATASET, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds a run of another configuration: network.architecture is '128-8-3' there and "
        "'mnist-cnnx0.25' here; choose another folder or overwrite"
    )
    assert isinstance(load_checkpoint(tmp_path)[0], Network)
    assert train(NETWORK, QUICK, DATASET, tmp_path, overwrite=True).network == NETWORK


def test_run_without_qcfs_is_not_converted(tmp_path):
    train(NETWORK, QUICK, DATASET, tmp_path / "run")
    with pytest.raises(RunError) as caught:
        convert_run(tmp_path / "run", tmp_path / "converted", 2, 2)
    assert str(caught.value) == f"{tmp_path / 'run'}: activation must be qcfs for conversion, not lmht"


@pytest.mark.parametrize(
    ("dataset", "net", "expected"),
    [
        ("mnist", "mnist-cnn", ("adamw", "shift", 12)),
        ("mnist", None, ("adamw", "shift", 40)),
        ("cifar10", "resnet20", ("sgd", "crop-flip", 100)),
        ("image-folder", "vgg11", ("sgd", "none", 100)),
        ("digits", "mnist-cnn", ("adamw", "none", 60)),
    ],
)
def test_recipes(dataset, net, expected):
    config = default_training_config(dataset, net)
    assert (config.optimizer, config.augment, config.epochs) == expected
