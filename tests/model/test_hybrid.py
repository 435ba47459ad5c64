"""Hybrid training: its record, its folders, resumption in every stage; QCFS networks and their configuration."""

import pytest
import torch
from pydantic import ValidationError

from lmht.model import (
    Dataset,
    Network,
    NetworkConfig,
    QCFSLayer,
    TrainingConfig,
    batches,
    convert_qcfs,
    default_fine_tuning_config,
    default_training_config,
    evaluate,
    explain_validation_error,
    load_checkpoint,
    load_dataset,
    train_hybrid,
    training,
)

NETWORK = NetworkConfig(architecture="16-8-6-3", input_shape=(1, 4, 4), activation="qcfs", levels=2, steps=2)
QUICK = TrainingConfig(epochs=3, batch_size=16, augment="shift", validation_fraction=0.2, learning_rate=1e-2)
FINE = default_fine_tuning_config(QUICK, epochs=2)


def make_dataset(count=150):
    """Images of three classes, told apart by which row is bright."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 120, (count, 1, 4, 4), generator=generator)
    images[torch.arange(count), 0, labels] += 100
    images, half = images.to(torch.uint8), count * 2 // 3
    return Dataset("blobs", ("a", "b", "c"), images[:half], labels[:half], images[half:], labels[half:])


DATASET = make_dataset()


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_record_of_a_hybrid_run(tmp_path):
    run = train_hybrid(NETWORK, QUICK, DATASET, tmp_path, fine_tuning=FINE)
    assert sorted(files(tmp_path)) == sorted(
        f"{folder}{file}" for folder in ("", "qcfs/") for file in ("config.json", "model.safetensors")
    )
    source_network, source = load_checkpoint(tmp_path / "qcfs")
    network, loaded = load_checkpoint(tmp_path)
    assert loaded == run
    assert source.network == NETWORK
    assert source.conversion is None
    assert len(source.history) == 3
    converted = convert_qcfs(source_network, 2, 2)
    assert run.network == converted.config
    assert run.training == FINE
    assert len(run.history) == 2
    record = run.conversion
    assert record.quanta == 4
    assert record.source_sha256 == source.weights_sha256
    assert record.source_test_accuracy == source.test_accuracy
    assert record.source_validation_accuracy == source.best_accuracy
    assert record.test_accuracy == evaluate(converted, DATASET.test_images, DATASET.test_labels)
    assert record.validation_accuracy is not None
    assert run.test_accuracy == evaluate(network, DATASET.test_images, DATASET.test_labels)
    assert not torch.equal(network.layers[0].linear.weight, converted.layers[0].linear.weight)


@pytest.mark.parametrize(
    ("function", "number"),
    [
        ("random_shift", 8),  # in the second epoch of the QCFS network
        ("save_checkpoint", 4),  # before the QCFS network is marked as finished
        ("random_shift", 16),  # before the first update of fine-tuning
        ("random_shift", 23),  # in the second epoch of fine-tuning
        ("save_checkpoint", 7),
    ],
)
def test_interrupted_hybrid_run_gives_the_same_files(tmp_path, monkeypatch, function, number):
    train_hybrid(NETWORK, QUICK, DATASET, tmp_path / "whole", fine_tuning=FINE)
    module = batches if hasattr(batches, function) else training
    original, calls = getattr(module, function), []

    def wrapper(*arguments, **keywords):
        calls.append(function)
        if len(calls) == number:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(module, function, wrapper)
        with pytest.raises(KeyboardInterrupt):
            train_hybrid(NETWORK, QUICK, DATASET, tmp_path / "resumed", fine_tuning=FINE)
    train_hybrid(NETWORK, QUICK, DATASET, tmp_path / "resumed", fine_tuning=FINE)
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")


def test_overwrite_trains_both_networks_again(tmp_path):
    train_hybrid(NETWORK, QUICK, DATASET, tmp_path, fine_tuning=FINE)
    other = QUICK.model_copy(update={"seed": 1})
    run = train_hybrid(NETWORK, other, DATASET, tmp_path, overwrite=True)
    assert run.training.seed == 1
    assert load_checkpoint(tmp_path / "qcfs")[1].training.seed == 1


def test_fine_tuning_mends_a_coarse_conversion(tmp_path):
    """Q = 8 on one binary step: fine-tuning with STBP wins back what too few steps lost."""
    network = NetworkConfig(
        architecture="64-64-32-10", input_shape=(1, 8, 8), activation="qcfs", levels=1, steps=1, quanta=8
    )
    recipe = default_training_config("digits").model_copy(update={"epochs": 12})
    run = train_hybrid(
        network,
        recipe,
        load_dataset("digits"),
        tmp_path,
        fine_tuning=default_fine_tuning_config(recipe, epochs=4),
    )
    before = run.conversion
    assert before.source_test_accuracy >= 0.95
    assert before.test_accuracy <= before.source_test_accuracy
    assert run.test_accuracy >= before.test_accuracy - 0.005
    assert run.test_accuracy >= 0.94


def test_default_fine_tuning():
    recipe = TrainingConfig(epochs=300, learning_rate=0.1, warmup_epochs=5, seed=7, augment="shift")
    expected = recipe.model_copy(update={"epochs": 30, "learning_rate": 0.01, "warmup_epochs": 0.0})
    assert default_fine_tuning_config(recipe) == expected
    assert default_fine_tuning_config(TrainingConfig(epochs=1)).epochs == 1
    given = default_fine_tuning_config(recipe, epochs=2, learning_rate=0.5)
    assert (given.epochs, given.learning_rate) == (2, 0.5)


def test_hybrid_needs_a_qcfs_network(tmp_path):
    config = NetworkConfig(architecture="16-8-3", input_shape=(1, 4, 4))
    with pytest.raises(ValueError, match="activation") as caught:
        train_hybrid(config, QUICK, DATASET, tmp_path)
    assert str(caught.value) == "activation must be qcfs for hybrid training, not lmht"


# QCFS networks


@pytest.mark.parametrize(
    ("changes", "levels", "upper_end"),
    [({}, 4, 2.0), ({"levels": 3, "steps": 4}, 12, 2.0), ({"quanta": 5, "theta": 0.75}, 5, 0.75)],
)
def test_qcfs_network(changes, levels, upper_end):
    network = Network(NetworkConfig.model_validate(NETWORK.model_dump() | changes))
    for layer in network.layers[:-1]:
        assert isinstance(layer, QCFSLayer)
        assert layer.activation.levels == levels
        assert layer.activation.theta.item() == upper_end
    logits = network(torch.rand(20, 1, 4, 4))
    assert logits.shape == (20, 3)
    logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_qcfs_network_has_no_spikes():
    with pytest.raises(ValueError, match="activation") as caught:
        Network(NETWORK).spike_levels(torch.rand(2, 1, 4, 4))
    assert str(caught.value) == "activation must be lmht for spikes, not qcfs: convert the network first"


def test_thresholds_per_layer():
    config = NetworkConfig(
        architecture="784-9-8-10", thetas=(0.5, 0.75), initial_membranes=(0.25, -0.125), levels=3
    )
    first, second, _ = Network(config).layers
    assert (first.neuron.theta, first.neuron.initial_membrane) == (0.5, 0.25)
    assert (second.neuron.theta, second.neuron.initial_membrane) == (0.75, -0.125)
    assert NetworkConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quanta": 4}, "quanta must be None with activation lmht, not 4"),
        ({"thetas": (1.0, 1.0)}, "thetas must be 1, one per hidden layer, not 2"),
        ({"thetas": (-1.0,)}, "thetas.0: Input should be greater than 0, not -1.0"),
        ({"initial_membranes": ()}, "initial_membranes must be 1, one per hidden layer, not 0"),
        ({"theta": 0.5, "thetas": (1.0,)}, "theta must not be given beside thetas, not 0.5"),
        (
            {"initial_membrane": 0.5, "initial_membranes": (1.0,)},
            "initial_membrane must not be given beside initial_membranes, not 0.5",
        ),
        (
            {"activation": "relu"},
            "activation: Input should be 'lmht' or 'qcfs', not 'relu'",
        ),
        (
            {"activation": "qcfs", "mixing": "identity"},
            "mixing must be learned or uniform with activation qcfs, not identity",
        ),
        (
            {"activation": "qcfs", "leak": 0.5},
            "leak must be learned or 1.0 with activation qcfs, not 0.5",
        ),
        (
            {"activation": "qcfs", "initial_membrane": 0.5},
            "initial_membrane must be 0.0 with activation qcfs, not 0.5",
        ),
        (
            {"activation": "qcfs", "thetas": (1.0,)},
            "thetas must be None with activation qcfs, not (1.0,)",
        ),
        (
            {"activation": "qcfs", "architecture": "784-10"},
            "architecture '784-10' must have a hidden layer for QCFS",
        ),
        ({"activation": "qcfs", "quanta": 0}, "quanta: Input should be greater than or equal to 1, not 0"),
    ],
)
def test_config_wrong_field(changes, message):
    with pytest.raises(ValidationError) as caught:
        NetworkConfig(**({"architecture": "784-128-10"} | changes))
    assert explain_validation_error(caught.value) == message
