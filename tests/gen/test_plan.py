import numpy as np
import pytest

from lmht.gen.choose_widths import choose_widths
from lmht.gen.encoder_work import expected_encoder_cycles
from lmht.gen.plan import PlanOptions, expected_events, plan
from lmht.gen.work import expected_work
from lmht.sim.random_networks import random_network


@pytest.fixture(scope="module")
def mnist():
    return random_network(np.random.default_rng(0), input_shape=(1, 28, 28), widths=(128, 10))


@pytest.fixture(scope="module")
def deep():
    widths = (256, 64, 96, 10)
    return random_network(np.random.default_rng(0), input_shape=(1, 28, 28), widths=widths, steps=4)


def design(network, **options):
    return plan(
        network,
        choose_widths(network),
        name="d",
        events=expected_events(network),
        options=PlanOptions(**options),
    )


def times(network, parameters):
    """Expected integration and update cycles of each layer."""
    works = [
        expected_work(tiles[0], (count,))
        for count, tiles in zip(expected_events(network), parameters.layers, strict=True)
    ]
    return [(work.integration, work.update) for work in works]


def test_default_and_given_densities(mnist):
    assert expected_events(mnist) == pytest.approx([784 * 0.2, 128 * 0.35])
    assert expected_events(mnist, pixels=0.5, spikes=0.1) == pytest.approx([392, 12.8])
    assert expected_events(mnist, spikes=0.5) == pytest.approx([784 * 0.2, 64])


def test_mnist_gets_its_lanes_and_no_multiplier_too_many(mnist):
    parameters = design(mnist, lanes=16)
    first, last = parameters.tiles
    assert (first.lanes, first.groups, first.update_lanes, first.mix_multipliers) == (16, 8, 1, 1)
    assert (last.lanes, last.update_lanes, last.mix_multipliers) == (1, 1, 1)


@pytest.mark.parametrize("lanes", [1, 2, 5, 16, 37, 64, 128])
def test_only_the_busiest_layer_is_busy(deep, lanes):
    parameters = design(deep, lanes=lanes)
    events = expected_events(deep)
    slowest = max(expected_encoder_cycles(parameters.frame, events[0]), times(deep, parameters)[0][0])
    assert parameters.layers[0][0].lanes == lanes
    for (integration, _), tiles in zip(times(deep, parameters)[1:], parameters.layers[1:], strict=True):
        assert integration <= slowest / 2
        if tiles[0].lanes > 1:
            fewer = -(-tiles[0].channels // (tiles[0].lanes - 1))
            assert events[tiles[0].layer] * fewer + 1 > slowest / 2


@pytest.mark.parametrize("lanes", [1, 4, 16, 64, 128])
def test_update_never_is_the_bottleneck(deep, lanes):
    parameters = design(deep, lanes=lanes)
    slowest = max(integration for integration, _ in times(deep, parameters))
    for integration, update in times(deep, parameters):
        assert update <= max(integration, slowest / 2)


def test_never_more_lanes_than_channels(mnist):
    assert [tile.lanes for tile in design(mnist, lanes=128, split={0: 3}).tiles] == [43, 43, 43, 5]


def test_exact_lanes_are_taken_as_they_are(mnist):
    assert [tile.lanes for tile in design(mnist, lanes=(7, 128)).tiles] == [7, 128]


def test_split_covers_all_channels_evenly(mnist):
    tiles = design(mnist, split={0: 3, 1: 10}).tiles
    assert [(tile.channel_offset, tile.channels) for tile in tiles[:3]] == [(0, 43), (43, 43), (86, 42)]
    assert [tile.channels for tile in tiles[3:]] == [1] * 10


def test_overrides(mnist):
    tiles = design(mnist, lanes=16, update_lanes=6, mix_multipliers=2).tiles
    assert (tiles[0].update_lanes, tiles[0].mix_multipliers) == (4, 2)
    assert (tiles[1].update_lanes, tiles[1].mix_multipliers) == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lanes": 129}, "lanes must be between 1 and 128, not 129"),
        ({"lanes": (1, 2, 3)}, "lanes must be one number or one for each of 2 layers, not 3"),
        ({"lanes": (1, 0)}, "lanes of layer 1 must be between 1 and 128, not 0"),
        ({"split": {2: 1}}, "layer in split must be between 0 and 1, not 2"),
        ({"split": {1: 11}}, "tiles of layer 1 in split must be between 1 and 10, not 11"),
        ({"bytes_per_beat": 3}, "bytes_per_beat must be one of 1, 2, 4, 8, 16, not 3"),
    ],
)
def test_wrong_options(mnist, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        design(mnist, **options)
