"""Binary expansion of whole networks: equal where Lemma 4.1 applies, and how often it does not."""

import pytest
import torch

from lmht.model import (
    Network,
    NetworkConfig,
    TrainingConfig,
    check_expansion,
    convert_qcfs,
    expand_binary,
    load_checkpoint,
    load_dataset,
    train,
)

GRID = 16


def exact_network(levels, steps, mixing="learned", **changes):
    """Weights, biases and pixels are multiples of 1/16: float64 holds every sum exactly."""
    config = {"architecture": "12-9-7-3", "input_shape": (1, 3, 4), "weight_bits": None, "mixing": mixing}
    network = Network(NetworkConfig(**(config | {"levels": levels, "steps": steps} | changes)))
    network.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in network.layers:
            shape = layer.linear.weight.shape
            layer.linear.weight.copy_(torch.randint(-GRID, GRID + 1, shape, generator=generator) / GRID)
        for layer in network.layers[:-1]:
            layer.norm.eps = 0.0
            layer.norm.bias.copy_(torch.randint(-4, GRID, layer.norm.bias.shape, generator=generator) / GRID)
    return network


def pixels(count):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, GRID + 1, (count, 1, 3, 4), generator=generator).double() / GRID


@pytest.mark.parametrize(("levels", "steps"), [(1, 4), (2, 1), (2, 2), (4, 2), (2, 4), (8, 1)])
def test_network_with_uniform_mixing(levels, steps):
    """With Ω = 1/T, λ = 1 and v[-1] = θ/2 the lemma always applies: levels and logits are equal to the bit."""
    network = exact_network(levels, steps, theta=0.5, initial_membrane=0.25)
    binary = expand_binary(network)
    images = pixels(200)
    for spikes, expected in zip(binary.spike_levels(images), network.spike_levels(images), strict=True):
        assert torch.equal(spikes, expected)
        assert len(torch.unique(spikes)) > levels / 2
    assert torch.equal(binary(images), network(images))
    for check in check_expansion(network, images):
        assert (check.outside, check.differing) == (0, 0)


@pytest.mark.parametrize("leak", [1.0, 0.5])
def test_exceptions_lie_outside_the_lemma(leak):
    """All current in one step, then none: windows overflow and the next falls. Some differ, all outside."""
    network = exact_network(2, 2, leak=leak, thetas=(2.0, 0.25))
    first, second, _ = network.layers
    with torch.no_grad():
        first.neuron.omega_logits.copy_(torch.tensor([[40.0, 40.0], [-40.0, -40.0]]))
        second.neuron.omega_logits.copy_(torch.tensor([[40.0, -40.0], [-40.0, 40.0]]))
        second.norm.bias.sub_(1)
    checks = check_expansion(network, pixels(500))
    assert [check.differing_inside for check in checks] == [0, 0]
    assert checks[0].differing == 0, "the first layer's currents do not change"
    assert 0 < checks[1].differing <= checks[1].outside < checks[1].runs


def test_weights_are_copied():
    network = exact_network(2, 2)
    binary = expand_binary(network)
    images = pixels(20)
    before = binary(images)
    with torch.no_grad():
        network.layers[0].linear.weight.zero_()
    assert torch.equal(binary(images), before)


def test_single_layer_network():
    network = exact_network(2, 2, architecture="12-3")
    assert torch.equal(expand_binary(network)(pixels(5)), network(pixels(5)))


@pytest.mark.parametrize("mixing", ["learned", "identity"])
def test_digits_with_learned_leak(tmp_path, mixing):
    """A trained network: next to no run differs, and the classes agree."""
    digits = load_dataset("digits")
    config = NetworkConfig(architecture="64-48-32-10", input_shape=(1, 8, 8), steps=4, mixing=mixing)
    train(config, TrainingConfig(epochs=8, batch_size=64, learning_rate=5e-3), digits, tmp_path)
    network = load_checkpoint(tmp_path)[0].double()
    images = digits.test_images.double() / 255
    for check in check_expansion(network, images):
        assert check.differing_inside == 0
        assert check.differing <= check.outside
        assert check.differing / check.runs <= 0.02
    agreement = (expand_binary(network)(images).argmax(dim=1) == network(images).argmax(dim=1)).double()
    assert agreement.mean() >= 0.98


def test_expand_qcfs_network():
    source = Network(NetworkConfig(architecture="784-5-10", activation="qcfs"))
    for function in (expand_binary, lambda network: check_expansion(network, torch.rand(2, 1, 28, 28))):
        with pytest.raises(ValueError, match="activation") as caught:
            function(source)
        assert str(caught.value) == "activation must be lmht for binary expansion, not qcfs"
    assert expand_binary(convert_qcfs(source, 2, 2))(torch.rand(2, 1, 28, 28)).shape == (2, 10)
