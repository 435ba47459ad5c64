import numpy as np
import pytest

from lmht.gen.choose_widths import choose_widths
from lmht.gen.encoder_work import expected_encoder_cycles
from lmht.gen.integer import IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.gen.plan import PlanOptions, expected_events, plan
from lmht.gen.plan_layer import ROW_SLACK
from lmht.gen.resources import DEVICES, design_resources
from lmht.gen.work import CLOSING_CYCLES, expected_work
from lmht.rtl.projection import IMAGE, Pooling
from lmht.sim.random_networks import random_network, random_neurons, random_projection


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
            # A group costs a cycle for each event, and one in which the update reads it.
            assert events[tiles[0].layer] * fewer + CLOSING_CYCLES + fewer > slowest / 2


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


def test_diagonal_mixing_has_one_product_a_step():
    rng = np.random.default_rng(0)
    network = random_network(rng, input_shape=(1, 2, 2), widths=(8, 8, 4), steps=6, diagonal=True)
    for given, taken in ((1, 1), (5, 1), (6, 6), (1024, 6)):
        first, second, last = design(network, lanes=4, update_lanes=1, mix_multipliers=given).tiles
        assert (second.neuron.diagonal, second.mix_multipliers, second.mix_phases) == (
            True,
            taken,
            6 // taken,
        )
        memory = second.memories["multipliers"]
        assert memory.width * memory.depth == 8 * 6 * second.neuron.multiplier_bits
        assert not first.neuron.diagonal
        assert not last.neuron.diagonal


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


def hidden(rng, *projections):
    return random_neurons(rng, *projections, steps=2, levels=2)


def conv(rng, channels, shape, source, **others):
    if source != IMAGE:
        others = {"input_steps": 2, "input_max_level": 2} | others
    return random_projection(
        rng, channels=channels, input_shape=shape, source=source, kernel=(3, 3), padding=(1, 1), **others
    )


def identity(shape, source, **others):
    weights = np.full((shape[0], 1, 1, 1), 600)
    return IntegerProjection(
        source=source,
        input_shape=shape,
        weights=weights,
        weight_bits=11,
        groups=shape[0],
        input_steps=2,
        input_max_level=2,
        **others,
    )


def classifier(rng, shape, source):
    dense = random_projection(
        rng, channels=10, input_shape=shape, source=source, input_steps=2, input_max_level=2
    )
    return random_neurons(rng, dense, steps=1, levels=None)


@pytest.fixture(scope="module")
def residual():
    """1x12x12-8C3-8C3-8C3+0-P2-16C3s2-10."""
    rng, maps = np.random.default_rng(0), (8, 12, 12)
    layers = (
        hidden(rng, conv(rng, 8, (1, 12, 12), IMAGE)),
        hidden(rng, conv(rng, 8, maps, 0)),
        hidden(rng, conv(rng, 8, maps, 1, shift=6), identity(maps, 0)),
        hidden(rng, conv(rng, 16, maps, 2, stride=(2, 2), pooling=Pooling(kind="sum", size=(2, 2)))),
        classifier(rng, (16, 3, 3), 3),
    )
    return IntegerNetwork(name="residual", input_shape=(1, 12, 12), layers=layers)


def pooled_branch(kind):
    """Layer 0 feeds layer 1 as it is, and layer 2 pooled."""
    rng, maps = np.random.default_rng(0), (8, 12, 12)
    layers = (
        hidden(rng, conv(rng, 8, (1, 12, 12), IMAGE)),
        hidden(rng, conv(rng, 8, maps, 0, stride=(2, 2))),
        hidden(
            rng,
            conv(rng, 8, (8, 6, 6), 1, shift=6),
            identity(maps, 0, pooling=Pooling(kind=kind, size=(2, 2))),
        ),
        classifier(rng, (8, 6, 6), 2),
    )
    return IntegerNetwork(name="branch", input_shape=(1, 12, 12), layers=layers)


def test_a_pooling_that_all_want_is_done_by_its_source(residual):
    parameters = design(residual)
    assert parameters.layers[2][0].pooling == Pooling(kind="sum", size=(2, 2))
    assert parameters.layers[2][0].output.max_level == 8
    projection = parameters.layers[3][0].projections[0]
    assert (projection.pool, projection.input.height) == ((1, 1), 6)
    assert [len(parameters.consumers(source)) for source in range(-1, 4)] == [1, 2, 1, 1, 1]


def test_a_sum_that_not_all_want_is_folded():
    parameters = design(pooled_branch("sum"))
    assert parameters.layers[0][0].pooling is None
    main, branch = parameters.layers[2][0].projections
    assert (main.pool, branch.pool, branch.input.height, branch.pooled) == ((1, 1), (2, 2), 12, (6, 6))


def test_a_maximum_that_not_all_want_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^layer 2: pooling of its input must be an average, not max of layer 0, which feeds others without it$",
    ):
        design(pooled_branch("max"))


def test_tiles_of_a_layer_go_through_its_router_once(residual):
    parameters = design(residual, split={0: 2, 1: 3})
    assert parameters.router_size(0) == (2, 4)
    assert parameters.router_size(1) == (3, 1)
    assert [consumer.tile.name for consumer in parameters.consumers(0)] == [
        "layer1_tile0",
        "layer1_tile1",
        "layer1_tile2",
        "layer2_tile0",
    ]


def test_residual_branch_gets_a_fifo_and_a_router_for_both(residual):
    parameters = design(residual)
    main, branch = parameters.layers[2][0].projections
    assert branch.fifo == 2 * (12 * 8 + 1)
    assert {consumer.tile.layer: consumer.projection for consumer in parameters.consumers(0)} == {1: 0, 2: 1}
    assert main.shift == 6
    assert parameters.router_size(0) == (1, 2)


def layer_works(network, parameters):
    """Expected work of each layer's first tile."""
    links = expected_events(network)
    return [
        expected_work(tile, [links[projection.source + 1] for projection in tile.projections])
        for tile, *_ in parameters.layers
    ]


def test_links_between_busy_layers_get_half_a_row(residual):
    parameters = design(residual, lane_budget=30)
    times = [max(work.integration, work.update) for work in layer_works(residual, parameters)]
    fifos = [tiles[0].projections[0].fifo for tiles in parameters.layers]
    words = [
        p.input.width * p.input.channels + 1 for p in (tiles[0].projections[0] for tiles in parameters.layers)
    ]
    busy = [time >= max(times) / 2 for time in times]
    assert busy.count(True) >= 3
    assert fifos[0] == 0
    for layer in range(1, len(fifos)):
        assert fifos[layer] == (-(-words[layer] // 2) if busy[layer] and busy[layer - 1] else 0)


@pytest.mark.parametrize("budget", [5, 12, 30, 100])
def test_lane_budget_is_kept_and_spent_on_the_slowest(residual, budget):
    parameters = design(residual, lane_budget=budget)
    assert sum(tile.lanes for tile in parameters.tiles) <= budget
    works = layer_works(residual, parameters)
    times = [max(work.integration, work.update) for work in works]
    slowest = max(range(len(times)), key=times.__getitem__)
    assert all(work.update <= max(work.integration, max(times)) for work in works)
    tile = parameters.layers[slowest][0]
    # One step more for the slowest does not fit, unless it has a lane for every channel.
    if tile.groups > 1:
        more = -(-tile.channels // (tile.groups - 1))
        assert sum(other.lanes for other in parameters.tiles) - tile.lanes + more > budget


def test_more_budget_is_never_slower(residual):
    def slowest(parameters):
        return max(work.integration for work in layer_works(residual, parameters))

    times = [slowest(design(residual, lane_budget=budget)) for budget in (5, 8, 12, 20, 40)]
    assert times == sorted(times, reverse=True)
    assert times[-1] < times[0] / 4


def test_device_is_filled_but_not_overfull(residual):
    small = design(residual, device="ecp5-25k")
    large = design(residual, device="ecp5-85k")
    for parameters, device in ((small, "ecp5-25k"), (large, "ecp5-85k")):
        used = design_resources(parameters.tiles, DEVICES[device])
        assert used.lut4 <= DEVICES[device].usable.lut4
        assert used.block_rams <= DEVICES[device].usable.block_rams
    assert sum(tile.lanes for tile in large.tiles) > sum(tile.lanes for tile in small.tiles)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lanes": 4, "device": "ecp5-25k"}, "device must not be given with lanes"),
        ({"lane_budget": 4, "device": "ecp5-25k"}, "device must not be given with lane_budget"),
        ({"device": "ecp6"}, "device must be one of ecp5-25k, ecp5-45k, ecp5-85k, ice40up5k, not 'ecp6'"),
        ({"lane_budget": 0}, "lane_budget must be between 1 and 1048576, not 0"),
        ({"lane_budget": 4}, "lane_budget must be at least 5 for the smallest design, not 4"),
        (
            {"device": "ice40up5k"},
            r"device must have at least [\d,]+ lut4 to spare .*, not 4,488 as ice40up5k",
        ),
    ],
)
def test_wrong_budgets(residual, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        design(residual, **options)


def test_all_taps_at_once_where_there_are_several(residual):
    parameters = design(residual, tap_unroll=True)
    assert [tiles[0].tap_unroll for tiles in parameters.layers] == [True, True, True, True, False]
    assert not any(tile.tap_unroll for tile in design(residual).tiles)
    some = design(residual, tap_unroll={1: True, 4: True})
    assert [tiles[0].tap_unroll for tiles in some.layers] == [False, True, False, False, False]


def test_a_large_budget_unrolls_the_slowest(residual):
    parameters = design(residual, lane_budget=400)
    assert any(tile.tap_unroll for tile in parameters.tiles)
    forbidden = design(residual, lane_budget=400, tap_unroll=False)
    assert not any(tile.tap_unroll for tile in forbidden.tiles)


def test_the_rows_of_a_map_are_updated_faster_than_they_are_integrated(residual):
    """Four times as fast as the slower of its own integration and half of the slowest layer, unless it cannot be."""
    parameters = design(residual)
    works = layer_works(residual, parameters)
    limits = [max(work.integration, max(one.integration for one in works) / 2) for work in works]
    checked = 0
    for work, limit, (tile, *_) in zip(works, limits, parameters.layers, strict=True):
        products = tile.neuron.steps * tile.neuron.mix_terms
        if tile.height > 1 and (tile.update_lanes, tile.mix_multipliers) != (tile.lanes, products):
            assert work.update <= limit / ROW_SLACK
            checked += 1
    assert checked >= 2
