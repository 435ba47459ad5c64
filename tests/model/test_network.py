"""Networks: configuration errors, structure, and what the forward pass computes."""

import pytest
import torch
from pydantic import ValidationError

from lmht.model import LMHT, Network, NetworkConfig, QuantLinear, TimeBatchNorm, explain_validation_error

TINY = {"architecture": "12-5-4-3", "input_shape": (1, 3, 4)}


def make_network(**changes):
    torch.manual_seed(0)
    return Network(NetworkConfig(**(TINY | changes)))


def images(count=6):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, 3, 4), dtype=torch.uint8, generator=generator)


def test_structure():
    network = make_network(weight_bits=3, levels=4, steps=2, mixing="identity", leak=0.9)
    assert len(network.layers) == 3
    for layer in network.layers[:-1]:
        assert isinstance(layer.linear, QuantLinear)
        assert isinstance(layer.norm, TimeBatchNorm)
        assert isinstance(layer.neuron, LMHT)
        assert layer.linear.bias is None
        assert layer.linear.weight_bits == 3
        assert (layer.neuron.levels, layer.neuron.steps, layer.neuron.theta) == (4, 2, 0.5)
        assert layer.neuron.mixing == "identity"
    last = network.layers[-1]
    assert last.norm is None
    assert last.neuron is None
    assert last.linear.bias.shape == (3,)
    assert [tuple(layer.linear.weight.shape) for layer in network.layers] == [(5, 12), (4, 5), (3, 4)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"levels": 1}, 1.0), ({"levels": 4}, 0.5), ({"levels": 4, "theta": 0.75}, 0.75)],
)
def test_threshold_of_the_neurons(changes, expected):
    network = make_network(**changes)
    assert network.layers[0].neuron.theta == expected


@pytest.mark.parametrize("training", [True, False])
def test_forward_is_the_mean_of_the_steps(training):
    """Layer by layer: the image once, its current repeated, the last output averaged."""
    network = make_network(steps=3, levels=2).train(training)
    first, second, last = network.layers
    image = (images().float() / 255).flatten(1)[None]
    current = first.norm(first.linear(image))
    assert current.shape == (1, 6, 5)
    spikes = first.neuron(current.repeat(3, 1, 1))
    spikes = second.neuron(second.norm(second.linear(spikes)))
    expected = last.linear(spikes).mean(dim=0)
    torch.testing.assert_close(network(images()), expected, rtol=0, atol=0)


def test_single_layer_network():
    network = make_network(architecture="12-3")
    expected = network.layers[0].linear(images().flatten(1).float() / 255)
    assert torch.equal(network(images()), expected)
    assert network.spike_levels(images()) == []


def test_pixels_may_be_integers_or_numbers_and_flat():
    network = make_network().eval()
    logits = network(images())
    assert torch.equal(network(images().float() / 255), logits)
    assert torch.equal(network(images().flatten(1)), logits)


def test_gradients_reach_every_parameter():
    network = make_network(initial_membrane=0.25)
    network(images(64)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_spike_levels():
    network = make_network(levels=3, steps=2).eval()
    levels = network.spike_levels(images())
    assert [tuple(layer.shape) for layer in levels] == [(2, 6, 5), (2, 6, 4)]
    for layer in levels:
        assert layer.dtype == torch.int64
        assert 0 <= layer.min() <= layer.max() <= 3
    neuron, last = network.layers[1].neuron, network.layers[2].linear
    torch.testing.assert_close(last(levels[1] * neuron.theta).mean(dim=0), network(images()))


@pytest.mark.parametrize("shape", [(6, 1, 4, 4), (12,), (6, 11)])
def test_forward_wrong_shape(shape):
    with pytest.raises(ValueError, match="images must have shape") as caught:
        make_network()(torch.zeros(shape))
    assert str(caught.value) == f"images must have shape (batch, 1, 3, 4), not {shape}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": "784-x-10"},
            "architecture: architecture '784-x-10' must be numbers joined by '-', not contain 'x'",
        ),
        (
            {"architecture": "784--10"},
            "architecture: architecture '784--10' must be numbers joined by '-', not contain ''",
        ),
        (
            {"architecture": "784-１-10"},
            "architecture: architecture '784-１-10' must be numbers joined by '-', not contain '１'",
        ),
        (
            {"architecture": "784"},
            "architecture: architecture '784' must have at least 2 numbers, inputs and classes, not 1",
        ),
        (
            {"architecture": "784-0-10"},
            "architecture: architecture '784-0-10' must have widths between 1 and 65536, not 0",
        ),
        (
            {"architecture": "784-99999999999-10"},
            "architecture: architecture '784-99999999999-10' must have widths between 1 and 65536, "
            "not 99999999999",
        ),
        (
            {"architecture": "785-10"},
            "architecture '785-10' must begin with 784, the pixels of a 1x28x28 image, not 785",
        ),
        (
            {"architecture": "784-10", "input_shape": (1, 0, 28)},
            "input_shape: input_shape must be three numbers of at least 1, not (1, 0, 28)",
        ),
        ({"levels": 0}, "levels: Input should be greater than or equal to 1, not 0"),
        ({"steps": 2.0}, "steps: Input should be a valid integer, not 2.0"),
        ({"weight_bits": 9}, "weight_bits: Input should be less than or equal to 8, not 9"),
        ({"theta": -1.0}, "theta: Input should be greater than 0, not -1.0"),
        ({"mixing": "none"}, "mixing: Input should be 'learned', 'identity' or 'uniform', not 'none'"),
        ({"neurons": 3}, "neurons: Extra inputs are not permitted, not 3"),
    ],
)
def test_config_wrong_field(changes, message):
    with pytest.raises(ValidationError) as caught:
        NetworkConfig(**({"architecture": "784-128-10"} | changes))
    assert explain_validation_error(caught.value) == message


def test_config_missing_architecture():
    with pytest.raises(ValidationError) as caught:
        NetworkConfig()
    assert explain_validation_error(caught.value) == "architecture: Field required"


def test_config_survives_json():
    config = NetworkConfig(**TINY, leak=0.9, theta=0.3)
    assert NetworkConfig.model_validate_json(config.model_dump_json()) == config
