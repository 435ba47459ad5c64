import numpy as np
import pytest

from lmht.gen.estimate import estimate
from lmht.gen.frame_work import expected_frames, measure_frames
from lmht.gen.plan import PlanOptions
from lmht.gen.work import CLOSING_CYCLES
from lmht.sim.golden import GoldenModel
from lmht.sim.random_networks import random_design, random_images


def make(frames=50, **options):
    network, design = random_design(
        np.random.default_rng(1),
        plan_options=PlanOptions(**options),
        input_shape=(1, 12, 12),
        widths=(96, 10),
    )
    images = random_images(np.random.default_rng(2), frames, network.input_shape)
    golden = GoldenModel(network).run(images, keep_levels=True)
    work = measure_frames(design, network, images, [levels.numpy() for levels in golden.levels])
    return design, estimate(design, work), golden.events.numpy()


def test_busiest_stage_sets_the_pace():
    design, result, events = make(lanes=4)
    tile = design.tiles[0]
    # The update reads every accumulator row in a cycle of the integration.
    work = events[1:, 0].mean() * tile.groups + CLOSING_CYCLES + tile.groups
    assert result.busiest[0] == "layer0_tile0"
    assert result.cycles_per_frame == pytest.approx(work, rel=0.01)


def test_nothing_is_faster_than_any_of_its_stages():
    for lanes in (1, 16, 96, (96, 1), (96, 10)):
        _, result, _ = make(lanes=lanes)
        assert result.cycles_per_frame >= result.busiest[1] * 0.97
        assert (np.diff(result.finish) > 0).all()


def test_a_slow_second_layer_holds_up_the_first():
    _, result, events = make(lanes=(96, 1))
    assert result.busiest[0] == "layer1_tile0"
    assert result.cycles_per_frame == pytest.approx(events[1:, 1].mean() * 10 + CLOSING_CYCLES + 10, rel=0.02)


def test_one_frame():
    _, result, _ = make(frames=1, lanes=8)
    assert result.cycles_per_frame == result.latency_cycles == result.total_cycles


def test_expected_frames_have_the_expected_events():
    design, _, _ = make()
    work = expected_frames(design, [30.0, 40.0], 5)
    assert len(work) == 5
    assert work.events[0].sum(axis=1) == pytest.approx([30] * 5)
    tile = design.tiles[0]
    assert work.tiles[tile.name].integration[0].sum(axis=1) == pytest.approx([30 * tile.groups] * 5)
    assert estimate(design, work).stages[tile.name] == pytest.approx(
        30 * tile.groups + CLOSING_CYCLES + tile.groups
    )


def test_wrong_measurements():
    network, design = random_design(np.random.default_rng(1), input_shape=(1, 4, 4), widths=(6, 4))
    images = np.zeros((2, 1, 4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"^levels must be those of 1 layers, not of 0$"):
        measure_frames(design, network, images, [])
    with pytest.raises(ValueError, match=r"^images must be at least 1, not 0$"):
        measure_frames(design, network, images[:0], [])
