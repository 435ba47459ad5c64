import pytest
import torch

from lmht.gen.cli_options import measure_densities, parse_unroll
from lmht.gen.compile import CompileOptions, design_network, to_integers
from lmht.gen.plan import expected_events
from lmht.model import ConvNetworkConfig, build_network
from lmht.sim.expectations import expect


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], None),
        (["auto"], None),
        (["on"], True),
        (["off"], False),
        (["0:on,3:off"], {0: True, 3: False}),
        (["0:on", "2:on"], {0: True, 2: True}),
    ],
)
def test_unrolled_layers(texts, expected):
    assert parse_unroll(texts) == expected


@pytest.mark.parametrize("text", ["yes", "0", "0:auto", "on,off", "0:on,"])
def test_wrong_unrolled_layers(text):
    with pytest.raises(
        ValueError, match=r"^tap_unroll must be auto, on, off, or LAYER:on or LAYER:off, not "
    ):
        parse_unroll([text])


def test_measured_densities_give_the_events_on_every_link():
    """Those of the same images through the hardware, behind the pooling of a layer that pools itself."""
    torch.manual_seed(3)
    config = ConvNetworkConfig(net="mnist-cnn", width=0.25, input_shape=(1, 12, 12), classes=4)
    network = build_network(config).eval()
    images = torch.randint(0, 256, (7, 1, 12, 12), dtype=torch.uint8)
    images[:, :, :5] = 0
    options = measure_densities(network, images, CompileOptions(name="measured"))
    integers = to_integers(network, options, name="measured")
    design = design_network(integers, options, name="measured")
    assert [tiles[0].pooling is not None for tiles in design.layers] == [True, True, False]
    found = expect(integers, design, images.numpy()).link_events.mean(axis=0)
    given = expected_events(integers, pixels=options.pixel_density, spikes=options.spike_density)
    assert given == pytest.approx(found.tolist())
    assert given[1] > 0


def test_given_densities_are_kept():
    network = build_network(
        ConvNetworkConfig(net="mnist-cnn", width=0.25, input_shape=(1, 12, 12), classes=4)
    )
    images = torch.zeros(2, 1, 12, 12, dtype=torch.uint8)
    options = measure_densities(network.eval(), images, CompileOptions(spike_density=0.5))
    assert (options.pixel_density, options.spike_density) == (0, 0.5)
