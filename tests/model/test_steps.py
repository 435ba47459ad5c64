"""A network with another number of steps: what it computes, and that random samples average out."""

import pytest
import torch

from lmht.model import ConvNetworkConfig, Network, NetworkConfig, build_network, evaluate
from lmht.model.steps import with_steps


def make_networks(**changes):
    common = {"levels": 1, "steps": 2, "mixing": "identity", "leak": 0.0} | changes
    torch.manual_seed(0)
    return (
        Network(NetworkConfig(architecture="256-16-3", input_shape=(1, 16, 16), **common)),
        build_network(
            ConvNetworkConfig(net="lenet", width=0.2, input_shape=(1, 16, 16), classes=3, **common)
        ),
    )


@pytest.mark.parametrize(
    "changes", [{"coding": "bernoulli"}, {"coding": "constant", "leak": 1.0}, {"mixing": "uniform"}]
)
def test_same_as_a_network_made_so(changes):
    images = torch.rand(8, 1, 16, 16)
    for network, made in zip(make_networks(**changes), make_networks(**changes, steps=5), strict=True):
        network.train()(images)
        made.load_state_dict(network.state_dict())
        labels = torch.zeros(8, dtype=torch.int64)
        longer = with_steps(network, 5).eval()
        evaluate(longer, images, labels)
        evaluate(made.eval(), images, labels)
        # evaluate() seeds what is random; both go on from the same state.
        assert torch.equal(longer(images), made(images))
        assert network(images).shape == (8, 3), "the network stays as it is"


def test_more_samples_agree_better():
    """Two measurements with other samples differ less with 64 steps than with 1."""
    images = torch.rand(32, 1, 16, 16)
    for network in make_networks(coding="bernoulli"):
        for _ in range(20):
            network.train()(images)
        network.eval()
        spread = []
        for steps in (1, 64):
            longer = with_steps(network, steps)
            spread.append((longer(images) - longer(images)).std().item())
        assert spread[1] < spread[0] / 4


def test_learned_mixing_belongs_to_the_steps():
    for network in make_networks(mixing="learned"):
        with pytest.raises(
            ValueError, match="mixing must be identity or uniform to change the steps, not learned"
        ):
            with_steps(network, 3)


def test_no_steps():
    with pytest.raises(ValueError, match="steps must be"):
        with_steps(make_networks()[0], 0)
