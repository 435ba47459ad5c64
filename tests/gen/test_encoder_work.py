import numpy as np
import pytest

from lmht.gen.encoder_work import expected_encoder_cycles, measure_encoder
from lmht.rtl.parameters import FrameParameters
from lmht.sim.random_networks import random_images


def slow_encoder(frame, image):
    """The frame encoder's documented throughput, byte by byte: cycles, lead and tail."""
    cycles, sent, events = 0, 0, []
    row = frame.width * frame.channels
    for index, byte in enumerate(image.transpose(1, 2, 0).reshape(-1)):
        if byte:
            events.append(cycles + sent)
            sent += 1
        in_row, in_beat = (index + 1) % row, (index + 1) % frame.bytes_per_beat
        if in_row == 0 or in_beat == 0:
            cycles += max(1, sent + (in_row == 0))
            sent = 0
    return (cycles, events[0], cycles - events[-1] - 1) if events else (cycles, cycles, 0)


@pytest.mark.parametrize("bytes_per_beat", [1, 4, 8, 16])
@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 4, 4), (1, 1, 1), (2, 1, 9)])
def test_measured_and_expected_cycles(shape, bytes_per_beat):
    channels, height, width = shape
    frame = FrameParameters(height=height, width=width, channels=channels, bytes_per_beat=bytes_per_beat)
    images = np.concatenate(
        [random_images(np.random.default_rng(0), 20, shape, density) for density in (0.02, 0.5)]
    )
    found = measure_encoder(frame, images)
    together = list(zip(found.cycles.tolist(), found.lead.tolist(), found.tail.tolist(), strict=True))
    assert together == [slow_encoder(frame, image) for image in images]
    events = np.count_nonzero(images.reshape(40, -1), axis=1)
    expected = [expected_encoder_cycles(frame, count) for count in events]
    assert np.mean(expected) == pytest.approx(found.cycles.mean(), rel=0.15)
