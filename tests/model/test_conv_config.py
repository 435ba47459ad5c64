"""Configurations of convolutional networks, and their place in the record of a run."""

import pytest
from pydantic import ValidationError

from lmht.model import ConvNetworkConfig, NetworkConfig, RunConfig, TrainingConfig, explain_validation_error

GOOD = {"net": "resnet20", "input_shape": (3, 32, 32), "classes": 10}
DIGEST = "0123456789abcdef" * 4


def make_run(network):
    return RunConfig(
        dataset="cifar10",
        network=network,
        training=TrainingConfig(),
        finished=False,
        best_epoch=1,
        best_accuracy=None,
        test_accuracy=None,
        weights_sha256=DIGEST,
        history=(),
    )


@pytest.mark.parametrize(
    ("changes", "architecture"),
    [
        ({}, "resnet20"),
        ({"net": "vgg11", "width": 0.25}, "vgg11x0.25"),
        ({"net": "my net.py:build", "source_sha256": DIGEST}, "my net.py:build"),
    ],
)
def test_architecture(changes, architecture):
    config = ConvNetworkConfig(**(GOOD | changes))
    assert config.architecture == architecture
    assert config.activation == "lmht"


@pytest.mark.parametrize(("levels", "theta", "threshold"), [(1, None, 1.0), (4, None, 0.5), (4, 0.3, 0.3)])
def test_threshold(levels, theta, threshold):
    assert ConvNetworkConfig(**GOOD, levels=levels, theta=theta).threshold == threshold


@pytest.mark.parametrize(
    "network",
    [
        ConvNetworkConfig(**GOOD, width=0.5, leak=0.75, mixing="identity"),
        ConvNetworkConfig(**(GOOD | {"net": "mine.py:build", "source_sha256": DIGEST})),
        NetworkConfig(architecture="4-3", input_shape=(1, 2, 2)),
    ],
)
def test_record_of_a_run_is_read_back(network):
    run = make_run(network)
    assert RunConfig.model_validate_json(run.model_dump_json()) == run
    assert RunConfig.model_validate(run.model_dump()) == run


def test_unknown_net():
    with pytest.raises(ValidationError) as caught:
        ConvNetworkConfig(**(GOOD | {"net": "resnet50"}))
    assert explain_validation_error(caught.value) == (
        "net: net must be one of mnist-cnn, lenet, vgg11, vgg13, vgg16, resnet18, resnet19, resnet20, "
        "resnet34, resnet19-lmht, vgg13-lmht, vgg16-lmht, or FILE.py:FUNCTION, not 'resnet50'"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"net": "folder/mine.py:build", "source_sha256": DIGEST}, "net: net must be one of"),
        ({"net": "mine.py:", "source_sha256": DIGEST}, "net: net must be one of"),
        (
            {"net": "mine.py:build"},
            "source_sha256 must be that of the file for net 'mine.py:build', not None",
        ),
        ({"source_sha256": DIGEST}, f"source_sha256 must be None for net 'resnet20', not {DIGEST}"),
        ({"source_sha256": "00"}, "source_sha256: String should match pattern"),
        ({"width": 0.0}, "width: Input should be greater than 0, not 0.0"),
        ({"width": 17.0}, "width: Input should be less than or equal to 16, not 17.0"),
        ({"input_shape": (3, 0, 32)}, "input_shape: input_shape must be three numbers of at least 1"),
        ({"classes": 0}, "classes: Input should be greater than or equal to 1, not 0"),
        ({"levels": 0}, "levels: Input should be greater than or equal to 1, not 0"),
        ({"steps": 0}, "steps: Input should be greater than or equal to 1, not 0"),
        ({"weight_bits": 1}, "weight_bits: Input should be greater than or equal to 2, not 1"),
        ({"leak": 1.6}, "leak: Input should be 'learned' or less than or equal to 1.5, not 1.6"),
        ({"theta": 0.0}, "theta: Input should be greater than 0, not 0.0"),
        ({"depth": 3}, "depth: Extra inputs are not permitted, not 3"),
    ],
)
def test_wrong_field(changes, message):
    with pytest.raises(ValidationError) as caught:
        ConvNetworkConfig(**(GOOD | changes))
    assert explain_validation_error(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (GOOD | {"steps": 0}, "network.steps: Input should be greater than or equal to 1, not 0"),
        (GOOD | {"classes": "ten"}, "network.classes: Input should be a valid integer, not 'ten'"),
        ({"net": "vgg11"}, "network.input_shape: Field required"),
        ({"architecture": "4-3", "width": 2.0}, "network.width: Extra inputs are not permitted, not 2.0"),
        ({}, "network.architecture: Field required"),
    ],
)
def test_errors_in_a_record_name_the_field(network, message):
    content = make_run(ConvNetworkConfig(**GOOD)).model_dump() | {"network": network}
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate(content)
    assert explain_validation_error(caught.value) == message
