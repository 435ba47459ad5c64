import numpy as np
import pytest

from lmht.gen.estimate import encoder_cycles, estimate, expected_encoder_cycles, update_cycles
from lmht.gen.plan import PlanOptions
from lmht.rtl.parameters import FrameParameters
from lmht.sim.golden import GoldenModel
from lmht.sim.random_networks import random_design, random_images


def slow_encoder(frame, image):
    """The frame encoder's documented throughput, byte by byte."""
    cycles, sent, in_row, in_beat = 0, 0, 0, 0
    row = frame.width * frame.channels
    for index, byte in enumerate(image.transpose(1, 2, 0).reshape(-1)):
        sent += byte != 0
        in_row, in_beat = (index + 1) % row, (index + 1) % frame.bytes_per_beat
        if in_row == 0 or in_beat == 0:
            cycles += max(1, sent + (in_row == 0))
            sent = 0
    return cycles


@pytest.mark.parametrize("bytes_per_beat", [1, 4, 8, 16])
@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 4, 4), (1, 1, 1), (2, 1, 9)])
def test_encoder_cycles(shape, bytes_per_beat):
    channels, height, width = shape
    frame = FrameParameters(height=height, width=width, channels=channels, bytes_per_beat=bytes_per_beat)
    images = np.concatenate(
        [random_images(np.random.default_rng(0), 20, shape, density) for density in (0.05, 0.5)]
    )
    found = encoder_cycles(frame, images)
    assert found.tolist() == [slow_encoder(frame, image) for image in images]
    events = np.count_nonzero(images.reshape(40, -1), axis=1)
    expected = [expected_encoder_cycles(frame, count) for count in events]
    assert np.mean(expected) == pytest.approx(found.mean(), rel=0.15)


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
    return design, estimate(design, encoder_cycles(design.frame, images), events), events


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
        estimate(design, np.zeros(4), events)
