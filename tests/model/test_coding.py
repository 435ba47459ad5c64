"""Codings of the image: what spikes come of a pixel, and that random ones depend on their seed alone."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError

from lmht.model import ConvNetworkConfig, Network, NetworkConfig, build_network
from lmht.model.coding import (
    BernoulliCoding,
    make_coding,
    make_window_coding,
    seed_coding,
    uses_random_coding,
)

ALL_PIXELS = torch.arange(256, dtype=torch.uint8)


@pytest.mark.parametrize("seed", [0, 1])
def test_rate_of_bernoulli_spikes_is_the_pixel(seed):
    """Mean and variance over 4,000 steps of every pixel value, within six standard deviations."""
    steps = 4000
    coding = BernoulliCoding(steps)
    coding.restart(seed)
    pixels = ALL_PIXELS.float() / 255
    spikes = coding(pixels[None]).double()
    assert spikes.shape == (steps, 256)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    deviation = (pixels * (1 - pixels) / steps).sqrt()
    assert ((spikes.mean(dim=0) - pixels).abs() <= 6 * deviation).all()
    assert spikes[:, 0].sum() == 0
    assert spikes[:, 255].sum() == steps


def test_bernoulli_spikes_are_independent():
    """Neither steps nor images nor pixels follow each other: correlations of at most five standard errors."""
    steps, images, pixels = 40, 50, 30
    spikes = BernoulliCoding(steps)(torch.full((images, pixels), 0.5)).unflatten(0, (steps, images)) - 0.5
    for dim in range(3):
        follower = spikes.roll(1, dims=dim)
        correlation = 4 * (spikes * follower).mean()
        assert abs(correlation) < 5 / math.sqrt(spikes.numel())


def test_seed_decides_the_spikes():
    images = torch.rand(3, 1, 4, 4)
    coding = BernoulliCoding(5)
    first, second = coding(images), coding(images)
    assert first.shape == (15, 1, 4, 4)
    assert not torch.equal(first, second), "fresh at every call"
    torch.manual_seed(9)
    torch.rand(100)
    coding.restart(0)
    assert torch.equal(coding(images), first), "whatever else is drawn"
    coding.restart(1)
    assert not torch.equal(coding(images), first)
    assert coding.seed == 1


def test_copy_goes_on_by_itself():
    coding = BernoulliCoding(2)
    copied, images = copy.deepcopy(coding), torch.rand(4, 6)
    assert torch.equal(coding(images), copied(images))


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_constant_rate_is_the_nearest_number_of_spikes(steps):
    coding = make_coding("constant", steps)
    spikes = coding((ALL_PIXELS.float() / 255).expand(steps, 1, 256)).long()[:, 0]
    # No half: 2 T x is even and 255 is odd.
    assert spikes.sum(dim=0).tolist() == [round(steps * pixel / 255) for pixel in range(256)]
    for step in range(1, steps + 1):
        assert spikes[:step].sum(dim=0).tolist() == [round(step * pixel / 255) for pixel in range(256)]


def test_constant_rate_with_merged_steps():
    merged, plain = make_window_coding("constant", 3), make_coding("constant", 3)
    images = torch.rand(4, 2, 5, 5)
    merged.batch = 4
    assert torch.equal(merged(images).unflatten(0, (3, 4)), plain(images.expand(3, *images.shape)))


def test_direct_coding_is_none():
    assert make_coding("direct", 3) is None
    assert make_window_coding("direct", 3) is None


def make_networks(coding, **options):
    """A fully connected network and one with convolutions."""
    common = {"levels": 1, "steps": 3, "coding": coding, "mixing": "identity", "leak": 0.0} | options
    torch.manual_seed(0)
    return (
        Network(NetworkConfig(architecture="256-8-3", input_shape=(1, 16, 16), **common)),
        build_network(
            ConvNetworkConfig(net="lenet", width=0.2, input_shape=(1, 16, 16), classes=3, **common)
        ),
    )


@pytest.mark.parametrize("coding", ["direct", "constant", "bernoulli"])
def test_networks_see_the_coded_image(coding):
    """The first layer gets what the coding gives, in both kinds of network: the same for bytes and for fractions."""
    images = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)
    for network in make_networks(coding):
        seen = []
        first = (
            network.layers[0].linear
            if isinstance(network, Network)
            else network.get_submodule("module.conv1" if coding == "direct" else "module.network.conv1")
        )
        first.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].flatten(1)))
        assert uses_random_coding(network) == (coding == "bernoulli")
        network.eval()
        for given in (images, images.float() / 255):
            seed_coding(network, 7)
            assert network(given).shape == (4, 3)
        assert torch.equal(seen[0], seen[1])
        pixels = images.flatten(1).float() / 255
        expected = make_coding(coding, 3)
        if coding == "bernoulli":
            expected.restart(7)
            pixels = expected(pixels)
        elif coding == "constant":
            pixels = expected(pixels.expand(3, 4, 256)).flatten(0, 1)
        assert torch.equal(seen[0].reshape(pixels.shape), pixels)


def test_coding_has_no_weights():
    for coding in ("constant", "bernoulli"):
        for coded, direct in zip(make_networks(coding), make_networks("direct"), strict=True):
            weights = {
                name.replace("module.network.", "module."): each for name, each in coded.state_dict().items()
            }
            assert weights.keys() == direct.state_dict().keys()


@pytest.mark.parametrize("kind", [NetworkConfig, ConvNetworkConfig])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"coding": "latency"},
            "coding\n  Input should be 'direct', 'constant', 'bernoulli', 'frames' or 'mean-frames'",
        ),
        (
            {"readout": "vote"},
            "readout\n  Input should be 'mean', 'last-step', 'spike-count' or 'first-to-spike'",
        ),
        ({"readout": "spike-count", "levels": 2}, "levels must be 1 with readout spike-count, not 2"),
        (
            {"coding": "constant", "activation": "qcfs"},
            "coding must be direct or mean-frames with activation qcfs, not constant",
        ),
        (
            {"readout": "last-step", "activation": "qcfs"},
            "readout must be mean with activation qcfs, not last-step",
        ),
    ],
)
def test_wrong_fields(kind, changes, message):
    shape = {"architecture": "256-8-3"} if kind is NetworkConfig else {"net": "lenet", "classes": 3}
    with pytest.raises(ValidationError) as caught:
        kind(input_shape=(1, 16, 16), **shape, **changes)
    assert message in str(caught.value)


def test_thresholds_of_a_conversion_have_no_output_neurons():
    with pytest.raises(ValidationError, match="thetas must be None with readout first-to-spike"):
        NetworkConfig(architecture="784-8-3", levels=1, thetas=(1.0,), readout="first-to-spike")
