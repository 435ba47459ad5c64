import numpy as np
import pytest

from lmht.gen.encoder_work import measure_encoder
from lmht.gen.estimate import estimate, update_cycles
from lmht.gen.plan import PlanOptions
from lmht.sim.golden import GoldenModel
from lmht.sim.random_networks import random_design, random_images


def test_update_hides_the_fetch_of_long_rows_only():
    assert update_cycles(groups=8, slots=16, rows=128, phases=2) == 256
    assert update_cycles(groups=10, slots=1, rows=10, phases=2) == 30
    assert update_cycles(groups=2, slots=4, rows=5, phases=1) == 4 + 3


def make(frames=50, **options):
    network, design = random_design(
        np.random.default_rng(1),
        plan_options=PlanOptions(**options),
        input_shape=(1, 12, 12),
        widths=(96, 10),
    )
    images = random_images(np.random.default_rng(2), frames, network.input_shape)
    events = GoldenModel(network).run(images).events.numpy()
    return design, estimate(design, measure_encoder(design.frame, images), events), events


def test_busiest_stage_sets_the_pace():
    design, result, events = make(lanes=4)
    work = events[1:, 0].mean() * design.tiles[0].groups + 1
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
    assert result.cycles_per_frame == pytest.approx(events[1:, 1].mean() * 10 + 1, rel=0.02)


def test_one_frame():
    _, result, _ = make(frames=1, lanes=8)
    assert result.cycles_per_frame == result.latency_cycles == result.total_cycles


def test_wrong_shapes():
    design, _, events = make(lanes=8)
    with pytest.raises(ValueError, match=r"^events must have shape \(4, 2\), not \(50, 2\)$"):
        estimate(design, measure_encoder(design.frame, np.zeros((4, 1, 12, 12), np.uint8)), events)
