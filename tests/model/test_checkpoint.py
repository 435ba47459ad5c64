"""Checkpoints: what is saved comes back, and every kind of damage is named."""

import hashlib
import json

import pytest
import safetensors.torch
import torch

from lmht.model import (
    LMHT,
    CheckpointError,
    ConvNetworkConfig,
    EpochRecord,
    Network,
    NetworkConfig,
    RunConfig,
    TrainingConfig,
    load_checkpoint,
    save_checkpoint,
)
from lmht.model.run_folder import RunError, find_earlier_run
from lmht.model.zoo import build_network


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "deep" / "run"
    save_checkpoint(folder, make_network().state_dict(), make_run())
    return folder


def make_network():
    torch.manual_seed(0)
    return Network(NetworkConfig(architecture="4-6-3", input_shape=(1, 2, 2)))


def make_run():
    record = EpochRecord(epoch=1, loss=0.1, train_accuracy=0.9, validation_accuracy=1 / 3, learning_rate=1e-3)
    return RunConfig(
        dataset="digits",
        network=make_network().config,
        training=TrainingConfig(),
        finished=True,
        best_epoch=1,
        best_accuracy=1 / 3,
        test_accuracy=0.7,
        weights_sha256="0" * 64,
        history=(record,),
    )


def error_of(run_dir):
    """Message of the error, without the folder of the test."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(run_dir)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{run_dir}/", "")


def rewrite_config(run_dir, change):
    path = run_dir / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rewrite_weights(run_dir, change):
    """Change the tensors and make the digest agree, so that only the change itself can be noticed."""
    path = run_dir / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    content = safetensors.torch.save(tensors)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    rewrite_config(run_dir, lambda config: config.update(weights_sha256=digest))


def test_what_is_saved_comes_back(run_dir):
    network, run = load_checkpoint(run_dir)
    assert not network.training
    expected = make_network().state_dict()
    assert network.state_dict().keys() == expected.keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    content = (run_dir / "model.safetensors").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert run == make_run().model_copy(update={"weights_sha256": digest})


def test_no_temporary_file_is_left(run_dir):
    assert sorted(path.name for path in run_dir.iterdir()) == ["config.json", "model.safetensors"]


def test_same_content_gives_same_bytes(run_dir, tmp_path):
    save_checkpoint(tmp_path, make_network().state_dict(), make_run())
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (run_dir / name).read_bytes()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(run_dir, name):
    (run_dir / name).unlink()
    assert error_of(run_dir) == f"{name}: no such file"


def test_config_is_no_json(run_dir):
    path = run_dir / "config.json"
    path.write_text(path.read_text()[:100])
    assert error_of(run_dir).startswith("config.json: Invalid JSON: EOF while parsing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("dataset"), "dataset: Field required"),
        (
            lambda config: config["network"].update(steps=0),
            "network.steps: Input should be greater than or equal to 1, not 0",
        ),
        (
            lambda config: config["network"].update(architecture="4-6"),
            None,
        ),
        (
            lambda config: config["network"].update(architecture="5-6-3"),
            "network: architecture '5-6-3' must begin with 4, the pixels of a 1x2x2 image, not 5",
        ),
        (lambda config: config.update(format_version=2), "format_version: Input should be 1, not 2"),
        (lambda config: config.update(extra=1), "extra: Extra inputs are not permitted, not 1"),
        (
            lambda config: config["history"][0].update(loss="high"),
            "history.0.loss: Input should be a valid number, not 'high'",
        ),
    ],
)
def test_config_wrong_field(run_dir, change, message):
    rewrite_config(run_dir, change)
    found = error_of(run_dir)
    if message is None:
        # A valid configuration of another network: the weights do not fit it.
        assert found == "model.safetensors: tensor layers.0.linear.bias is missing"
    else:
        assert found == f"config.json: {message}"


@pytest.mark.parametrize("keep", [0, 4, 50, -1])
def test_truncated_weights(run_dir, keep):
    path = run_dir / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert error_of(run_dir).startswith("model.safetensors: not a valid safetensors file (")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.pop("layers.0.norm.weight"),
            "tensor layers.0.norm.weight is missing",
        ),
        (
            lambda tensors: tensors.update(other=torch.zeros(1)),
            "tensor other is unknown to the network of config.json",
        ),
        (
            lambda tensors: tensors.update({"layers.1.linear.bias": torch.zeros(4)}),
            "tensor layers.1.linear.bias has shape (4,), expected (3,)",
        ),
        (
            lambda tensors: tensors.update({"layers.1.linear.bias": torch.zeros(3).double()}),
            "tensor layers.1.linear.bias has type torch.float64, expected torch.float32",
        ),
        (
            lambda tensors: tensors["layers.1.linear.bias"].fill_(float("nan")),
            "tensor layers.1.linear.bias has values that are not finite",
        ),
    ],
)
def test_weights_do_not_fit(run_dir, change, message):
    rewrite_weights(run_dir, change)
    assert error_of(run_dir) == f"model.safetensors: {message}"


def test_weights_of_another_run(run_dir):
    run = load_checkpoint(run_dir)[1]
    path = run_dir / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors["layers.1.linear.bias"] += 1
    path.write_bytes(safetensors.torch.save(tensors))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert error_of(run_dir) == (
        f"model.safetensors: SHA-256 is {digest}, expected {run.weights_sha256} as config.json says"
    )


def test_every_flipped_byte_of_the_weights_is_noticed(run_dir):
    path = run_dir / "model.safetensors"
    content = path.read_bytes()
    # Every byte of the header, and every seventh of the values.
    for index in [*range(300), *range(300, len(content), 7)]:
        path.write_bytes(content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :])
        with pytest.raises(CheckpointError):
            load_checkpoint(run_dir)


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize(
    ("mixing", "stored", "rule"),
    [
        ("identity", "absent", True),
        ("identity", None, False),
        ("identity", False, False),
        ("identity", True, True),
        ("learned", "absent", True),
        ("learned", None, True),
        ("learned", False, False),
    ],
)
def test_rule_of_the_gradient_is_that_of_the_training(tmp_path, convolutional, mixing, stored, rule):
    """Records of before there was ``detach`` are of neurons that were trained with a detached membrane."""
    fields = {"mixing": mixing, "detach": None if stored == "absent" else stored}
    if convolutional:
        config = ConvNetworkConfig(net="mnist-cnn", input_shape=(1, 8, 8), classes=3, width=0.1, **fields)
    else:
        config = NetworkConfig(architecture="4-6-3", input_shape=(1, 2, 2), **fields)
    run = make_run().model_copy(update={"network": config})
    save_checkpoint(tmp_path, build_network(config).state_dict(), run)
    if stored == "absent":
        rewrite_config(tmp_path, lambda content: content["network"].pop("detach"))
    network, loaded = load_checkpoint(tmp_path)
    neurons = [part for part in network.modules() if isinstance(part, LMHT)]
    assert neurons
    assert {neuron.detach for neuron in neurons} == {rule}
    if stored != "absent":
        assert loaded.network == config
    # An unfinished run of then is continued by its own rule alone.
    elif mixing == "identity":
        assert loaded.network == config.model_copy(update={"detach": True})
        with pytest.raises(RunError, match=r"network.detach is True there and None here"):
            find_earlier_run(tmp_path, run, resume=True)
    else:
        assert find_earlier_run(tmp_path, run, resume=True) == loaded
