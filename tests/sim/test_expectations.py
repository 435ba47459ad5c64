"""Counters and work that the golden model's levels imply, against a count of single events, taps and pixels."""

import numpy as np
import pytest

from lmht.gen.plan import PlanOptions
from lmht.gen.quiet import quiet_levels
from lmht.rtl.projection import IMAGE
from lmht.sim.expectations import expect, stage_work
from lmht.sim.golden import GoldenModel
from lmht.sim.random_conv_networks import random_conv_network
from lmht.sim.random_networks import random_design, random_images

IMAGES = 4


def maps_of(design, network, image):
    """Levels [t][y][x][c] on every link, pooled by loops."""
    result = GoldenModel(network).run(image[None], keep_levels=True)
    maps = {IMAGE: [image.transpose(1, 2, 0).astype(int).tolist()]}
    for tiles, flat in zip(design.layers[:-1], result.levels, strict=True):
        tile = tiles[0]
        levels = flat[:, 0].reshape(-1, tile.height, tile.width, tile.layer_channels).tolist()
        if tile.pooling is not None:
            combine = {"sum": sum, "max": max}[tile.pooling.kind]
            rows, columns = tile.pooling.size
            levels = [
                [
                    [
                        [
                            combine(
                                step[y * rows + j][x * columns + i][c]
                                for j in range(rows)
                                for i in range(columns)
                            )
                            for c in range(tile.layer_channels)
                        ]
                        for x in range(tile.width // columns)
                    ]
                    for y in range(tile.height // rows)
                ]
                for step in levels
            ]
        maps[tile.layer] = levels
    return maps


def events_of(levels):
    """(y, x, c) of every neuron with a level that is not 0."""
    return [
        (y, x, c)
        for y, row in enumerate(levels[0])
        for x, pixel in enumerate(row)
        for c in range(len(pixel))
        if any(step[y][x][c] for step in levels)
    ]


def outputs_of(tile, number, y, x, c):
    """Output pixels (y, x) and groups of lanes that an event of one projection meets, one for each of its taps."""
    p = tile.projections[number]
    y, x = y // p.pool[0], x // p.pool[1]
    if y >= p.pooled[0] or x >= p.pooled[1]:
        return set(), set()
    pixels = set()
    for ky in range(p.kernel[0]):
        for kx in range(p.kernel[1]):
            oy, ox = y + p.padding[0] - ky, x + p.padding[1] - kx
            if oy % p.stride[0] == 0 and ox % p.stride[1] == 0:
                oy, ox = oy // p.stride[0], ox // p.stride[1]
                if 0 <= oy < tile.height and 0 <= ox < tile.width:
                    pixels.add((oy, ox))
    per_part = p.input.channels // p.channel_groups, tile.layer_channels // p.channel_groups
    part = c // per_part[0]
    reached = range(part * per_part[1], (part + 1) * per_part[1])
    groups = {
        (n - tile.channel_offset) // tile.lanes
        for n in reached
        if tile.channel_offset <= n < tile.channel_offset + tile.channels
    }
    return pixels, groups


@pytest.mark.parametrize("seed", range(12))
def test_work_of_every_tile_is_that_of_its_single_events(seed):
    rng = np.random.default_rng(seed)
    quiet = seed % 2 == 0
    options = PlanOptions(lanes=int(rng.integers(1, 4)), skip_quiet=seed % 4 != 2)
    network, design = random_design(
        rng, make=random_conv_network, quiet=quiet, hidden_layers=(2, 3), plan_options=options
    )
    images = random_images(rng, IMAGES, network.input_shape, density=0.04)
    expected = expect(network, design, images)
    for number, image in enumerate(images):
        maps = maps_of(design, network, image)
        events = {source: events_of(levels) for source, levels in maps.items()}
        assert expected.link_events[number].tolist() == [len(events[source]) for source in sorted(events)]
        for tile in design.tiles:
            found = expected.tiles[tile.name]
            integration, touched, arrived = 0, set(), 0
            for index, projection in enumerate(tile.projections):
                arrived += len(events[projection.source])
                for event in events[projection.source]:
                    pixels, groups = outputs_of(tile, index, *event)
                    integration += len(pixels) * len(groups)
                    touched |= pixels if groups else set()
            assert found.integration[number] == integration
            assert found.events_in[number] == arrived
            skips = options.skip_quiet and not tile.neuron.is_classifier
            if skips:
                own = slice(tile.channel_offset, tile.channel_offset + tile.channels)
                skips = not quiet_levels(network.layers[tile.layer])[:, own].any()
                assert skips or not quiet
            pixels = tile.height * tile.width
            updated = len(touched) if skips or tile.constant_events else pixels
            assert found.update[number] == updated * tile.update_cycles
            assert found.constant[number] == (0 if skips else (pixels - updated) * tile.update_rows)
            if tile.neuron.is_classifier:
                assert found.events_out[number] == tile.channels
            else:
                channels = range(tile.channel_offset, tile.channel_offset + tile.channels)
                assert found.events_out[number] == sum(c in channels for _, _, c in events[tile.layer])


@pytest.mark.parametrize("skip_quiet", [True, False])
def test_a_biased_layer_sends_constant_events_or_updates_every_pixel(skip_quiet):
    rng = np.random.default_rng(1)
    network, design = random_design(
        rng,
        make=random_conv_network,
        quiet=False,
        hidden_layers=(1, 1),
        plan_options=PlanOptions(skip_quiet=skip_quiet),
    )
    images = np.zeros((1, *network.input_shape), np.uint8)
    levels = GoldenModel(network).run(images, keep_levels=True).levels[0]
    tile = design.tiles[0]
    assert levels.any(), "a neuron must spike from its bias alone"
    found = expect(network, design, images).tiles[tile.name]
    pixels = tile.height * tile.width
    assert tile.constant_events == skip_quiet
    assert found.update.tolist() == [0 if skip_quiet else pixels * tile.update_cycles]
    assert found.constant.tolist() == [pixels * tile.update_rows if skip_quiet else 0]


def test_counters_follow_from_the_work():
    rng = np.random.default_rng(7)
    network, design = random_design(rng, make=random_conv_network, hidden_layers=(3, 3))
    images = random_images(rng, 3, network.input_shape)
    expected = expect(network, design, images)
    counters = expected.counters(design)
    for source in range(IMAGE, len(design.layers)):
        consumers = len(design.consumers(source)) or 1
        name = f"router{source + 1}"
        assert counters[f"{name}_events_out"] == consumers * counters[f"{name}_events_in"]
    for tile in design.tiles:
        update, constant = (getattr(expected.tiles[tile.name], name).sum() for name in ("update", "constant"))
        assert counters[f"{tile.name}_update"] == update
        skipped = counters[f"{tile.name}_skipped"]
        pixels = 3 * tile.height * tile.width
        assert pixels == skipped + update / tile.update_cycles + constant / tile.update_rows
    resources = {(work.stage, work.resource) for work in stage_work(expected, design)}
    assert ("frame_encoder", "encoder") in resources
    assert {(tile.name, "update") for tile in design.tiles} < resources
