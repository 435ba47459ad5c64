"""Read-outs against values by hand, and their gradients."""

import pytest
import torch

from lmht.model import ConvNetworkConfig, Network, NetworkConfig, SpikingNetwork, WindowLMHT, build_network
from lmht.model.readout import read_out

# Spikes of four neurons over four steps: at once and again, at the second, at the last, never.
SPIKES = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]).unsqueeze(1)


@pytest.mark.parametrize(
    ("readout", "values"),
    [
        ("mean", [0.75, 0.5, 0.25, 0.0]),
        ("spike-count", [0.75, 0.5, 0.25, 0.0]),
        ("last-step", [1.0, 1.0, 1.0, 0.0]),
        ("first-to-spike", [1.0, 0.75, 0.25, 0.0]),
    ],
)
@pytest.mark.parametrize("theta", [1.0, 0.5])
def test_values(readout, values, theta):
    assert read_out(theta * SPIKES, readout).tolist() == [[theta * value for value in values]]


def test_gradient_of_first_to_spike():
    """Of a step's weight up to the first spike, 0 behind it."""
    output = SPIKES.clone().requires_grad_()
    read_out(output, "first-to-spike").sum().backward()
    weights = [1.0, 0.75, 0.5, 0.25]
    expected = [weights[:1] + [0] * 3, weights[:2] + [0] * 2, weights, weights]
    assert output.grad[:, 0].T.tolist() == expected


def test_gradient_of_last_step():
    output = SPIKES.clone().requires_grad_()
    read_out(output, "last-step").sum().backward()
    assert output.grad.sum(dim=(1, 2)).tolist() == [0, 0, 0, 4]


def make_networks(readout):
    torch.manual_seed(0)
    common = {"levels": 1, "steps": 4, "readout": readout, "mixing": "identity", "leak": 1.0, "theta": 0.5}
    return (
        Network(NetworkConfig(architecture="256-16-3", input_shape=(1, 16, 16), **common)),
        build_network(
            ConvNetworkConfig(net="lenet", width=0.2, input_shape=(1, 16, 16), classes=3, **common)
        ),
    )


@pytest.mark.parametrize("readout", ["spike-count", "first-to-spike"])
def test_output_neurons_decide(readout):
    """The values are those of the spikes of the last neurons, and no larger than the peak."""
    images = torch.rand(64, 1, 16, 16)
    for network in make_networks(readout):
        for _ in range(20):
            network.train()(images)
        network.eval()
        levels = network.spike_levels(images)
        spikes = levels[-1] if isinstance(levels, list) else levels["output.neuron"]
        values = network(images)
        assert torch.equal(values, read_out(0.5 * spikes.float(), readout))
        assert spikes.shape == (4, 64, 3)
        assert network.peak == 0.5
        assert 0 < values.max() <= network.peak


@pytest.mark.parametrize("readout", ["mean", "last-step"])
def test_currents_have_no_peak(readout):
    for network in make_networks(readout):
        assert network.peak is None
        assert network(torch.rand(2, 1, 16, 16)).shape == (2, 3)


def test_last_step_differs_from_the_mean():
    for mean, last in zip(make_networks("mean"), make_networks("last-step"), strict=True):
        images = torch.rand(64, 1, 16, 16)
        for _ in range(20):
            mean.train()(images)
        last.load_state_dict(mean.state_dict())
        assert not torch.allclose(mean.eval()(images), last.eval()(images))


def test_unknown_readout():
    neuron = WindowLMHT(1, 2)
    with pytest.raises(ValueError, match="readout must be one of"):
        SpikingNetwork(neuron, input_shape=(1, 2, 2), classes=4, readout="vote")
