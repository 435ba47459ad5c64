import numpy as np
import pytest

from lmht.gen.choose_widths import choose_widths
from lmht.gen.frame_work import expected_frames, measure_frames
from lmht.gen.plan import PlanOptions, expected_events, plan
from lmht.gen.quiet import quiet_levels
from lmht.gen.work import expected_work, reached_outputs
from lmht.rtl.events import EventLayout
from lmht.rtl.projection import ProjectionParameters
from lmht.sim.golden import GoldenModel
from lmht.sim.random_conv_networks import random_conv_network
from lmht.sim.random_networks import random_images


@pytest.mark.parametrize(
    ("size", "pool", "kernel", "stride", "padding"),
    [(7, 1, 3, 1, 1), (8, 2, 3, 2, 1), (9, 2, 2, 1, 0), (11, 1, 5, 4, 2), (6, 1, 1, 2, 0), (5, 5, 1, 1, 0)],
)
def test_reached_outputs_count_the_taps_of_a_convolution(size, pool, kernel, stride, padding):
    projection = ProjectionParameters(
        source=0,
        input=EventLayout.for_levels(height=size, width=3, channels=1, steps=1, max_level=1),
        kernel=(kernel, 1),
        stride=(stride, 1),
        padding=(padding, 0),
        pool=(pool, 1),
        weight_bits=4,
    )
    expected = []
    for row in range(size):
        y = row // pool
        outputs = range(projection.output[0]) if y < size // pool else []
        expected.append(sum(0 <= y + padding - output * stride < kernel for output in outputs))
    assert reached_outputs(projection, 0).tolist() == expected


def slow_work(tile, network, images, levels):
    """Integration cycles by row of each link, and touched pixels by row of the map, event by event."""
    maps = {-1: images[0].transpose(1, 2, 0) != 0}
    for index, layer in enumerate(network.layers[:-1]):
        channels, height, width = layer.shape
        maps[index] = levels[index][:, 0].any(axis=0).reshape(height, width, channels)
    integration, touched = [], np.zeros((tile.height, tile.width), bool)
    for number, p in enumerate(tile.projections):
        events = maps[p.source]
        window = network.layers[tile.layer].projections[number].pooling
        pooled_by_source = window is not None and p.pool == (1, 1)
        rows = np.zeros(p.input.height)
        places = set()
        for y, x, channel in np.argwhere(events):
            if pooled_by_source:
                y, x = y // window.size[0], x // window.size[1]
            if y < p.input.height and x < p.input.width:
                places.add((int(y), int(x), int(channel)))
        for y, x, channel in places:
            py, px = y // p.pool[0], x // p.pool[1]
            if py >= p.pooled[0] or px >= p.pooled[1]:
                continue
            for oy in range(tile.height):
                for ox in range(tile.width):
                    ky = py + p.padding[0] - oy * p.stride[0]
                    kx = px + p.padding[1] - ox * p.stride[1]
                    if 0 <= ky < p.kernel[0] and 0 <= kx < p.kernel[1] and tile.spans(number, channel):
                        rows[y] += tile.spans(number, channel)
                        touched[oy, ox] = True
        integration.append(rows)
    return integration, touched.sum(axis=1)


@pytest.mark.parametrize("seed", range(12))
def test_work_of_rows_against_a_walk_over_all_events(seed):
    rng = np.random.default_rng(seed)
    network = random_conv_network(rng)
    options = PlanOptions(
        lanes=int(rng.integers(1, 5)), split={0: min(2, network.layers[0].channels)}, skip_quiet=seed % 3 > 0
    )
    design = plan(network, choose_widths(network), name="d", events=expected_events(network), options=options)
    images = random_images(rng, 1, network.input_shape)
    golden = GoldenModel(network).run(images, keep_levels=True)
    levels = [values.numpy() for values in golden.levels]
    work = measure_frames(design, network, images, levels)
    for tile in design.tiles:
        integration, touched = slow_work(tile, network, images, levels)
        found = work.tiles[tile.name]
        for rows, expected in zip(found.integration, integration, strict=True):
            np.testing.assert_array_equal(rows[0], expected)
        silent = False
        if not tile.neuron.is_classifier:
            own = slice(tile.channel_offset, tile.channel_offset + tile.channels)
            silent = not quiet_levels(network.layers[tile.layer])[:, own].any()
        # A tile without a row of events for quiet pixels either skips them or updates them as all others.
        skips = tile.constant_events or (silent and tile.skip_quiet)
        pixels = touched if skips else np.full(tile.height, tile.width)
        np.testing.assert_array_equal(found.update[0], pixels * tile.update_cycles)
        from_table = (tile.width - touched) * tile.update_rows * (tile.constant_events and not silent)
        np.testing.assert_array_equal(found.constant[0], from_table)


def test_work_lies_in_the_rows_of_its_events():
    network = random_conv_network(
        np.random.default_rng(3), hidden_layers=(1, 1), residuals=False, pooling=False
    )
    design = plan(
        network, choose_widths(network), name="d", events=expected_events(network), options=PlanOptions()
    )
    _, height, _ = network.input_shape
    for row in range(height):
        images = np.zeros((1, *network.input_shape), np.uint8)
        images[:, :, row] = 7
        golden = GoldenModel(network).run(images, keep_levels=True)
        work = measure_frames(design, network, images, [levels.numpy() for levels in golden.levels])
        cycles = work.tiles["layer0_tile0"].integration[0][0]
        assert np.flatnonzero(cycles).tolist() in ([row], [])
        assert np.flatnonzero(work.events[0][0]).tolist() == [row]


@pytest.mark.parametrize("seed", range(4))
def test_expected_work_is_the_mean_of_even_events(seed):
    """Random events of the expected density in every position cost what is expected of them."""
    rng = np.random.default_rng(seed)
    network = random_conv_network(rng, hidden_layers=(1, 2), residuals=False)
    design = plan(
        network,
        choose_widths(network),
        name="d",
        events=expected_events(network),
        options=PlanOptions(lanes=2),
    )
    tile = design.tiles[0]
    images = random_images(rng, 400, network.input_shape, density=0.4)[3:]
    golden = GoldenModel(network).run(images, keep_levels=True)
    work = measure_frames(design, network, images, [levels.numpy() for levels in golden.levels])
    expected = expected_work(tile, [network.inputs * 0.4])
    measured = work.tiles[tile.name].integration[0].sum(axis=1).mean()
    assert measured == pytest.approx(expected.projections[0], rel=0.05)
    events = expected_events(network, pixels=0.4, spikes=0.2)
    frames = expected_frames(design, events, 3)
    for found, total in zip(frames.events, events, strict=True):
        assert found.sum(axis=1) == pytest.approx([total] * 3)
