import numpy as np
import pytest

from lmht.gen.encoder_work import expected_encoder_cycles, measure_encoder
from lmht.rtl.parameters import FrameParameters
from lmht.sim.random_networks import random_images


def slow_encoder(frame, image):
    """The frame encoder's documented throughput, byte by byte: cycles, lead and tail of every row."""
    rows = []
    for row in image.transpose(1, 2, 0).reshape(frame.height, -1):
        cycles, sent, events = 0, 0, []
        for index, byte in enumerate(row):
            if byte:
                events.append(cycles + sent)
                sent += 1
            position = len(rows) * len(row) + index + 1
            if index + 1 == len(row) or position % frame.bytes_per_beat == 0:
                cycles += max(1, sent + (index + 1 == len(row)))
                sent = 0
        rows.append((cycles, events[0], cycles - events[-1] - 1) if events else (cycles, cycles, 0))
    return rows


@pytest.mark.parametrize("bytes_per_beat", [1, 4, 8, 16])
@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 4, 4), (1, 1, 1), (2, 1, 9)])
def test_measured_and_expected_cycles(shape, bytes_per_beat):
    channels, height, width = shape
    frame = FrameParameters(height=height, width=width, channels=channels, bytes_per_beat=bytes_per_beat)
    images = np.concatenate(
        [random_images(np.random.default_rng(0), 20, shape, density) for density in (0.02, 0.5)]
    )
    found = measure_encoder(frame, images)
    together = np.stack([found.cycles, found.lead, found.tail], axis=2)
    np.testing.assert_array_equal(together, [slow_encoder(frame, image) for image in images])
    events = np.count_nonzero(images.reshape(40, -1), axis=1)
    expected = [expected_encoder_cycles(frame, count) for count in events]
    assert np.mean(expected) == pytest.approx(found.cycles.sum(axis=1).mean(), rel=0.15)
