"""Frames of events: counts worked out by hand, nothing lost, slices as long as each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmht.model.event_files import Events
from lmht.model.event_frames import count_frames, frame_pixels, mean_picture


def make_events(rows):
    """From tuples of column, row, polarity and time."""
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    return Events(column=columns[0], row=columns[1], polarity=columns[2], time=columns[3])


# From 100 to 199 µs: halves end at 150, thirds behind 133 and 166.
EVENTS = make_events(
    [(0, 0, 0, 100), (3, 1, 1, 110), (3, 1, 1, 133), (0, 2, 0, 134), (2, 3, 1, 150), (3, 3, 1, 199)]
)


def nonzero(counts):
    return {tuple(map(int, place)): int(counts[tuple(place)]) for place in np.argwhere(counts)}


def test_slices_of_equal_time():
    assert nonzero(count_frames(EVENTS, 2, "time", 4)) == {
        (0, 0, 0, 0): 1,
        (0, 1, 1, 3): 2,
        (0, 0, 2, 0): 1,
        (1, 1, 3, 2): 1,
        (1, 1, 3, 3): 1,
    }
    assert count_frames(EVENTS, 3, "time", 4).sum(axis=(1, 2, 3)).tolist() == [3, 2, 1]


def test_slices_of_equal_counts():
    counts = count_frames(EVENTS, 2, "count", 4)
    assert counts.shape == (2, 2, 4, 4)
    assert nonzero(counts) == {
        (0, 0, 0, 0): 1,
        (0, 1, 1, 3): 2,
        (1, 0, 2, 0): 1,
        (1, 1, 3, 2): 1,
        (1, 1, 3, 3): 1,
    }
    assert count_frames(EVENTS, 4, "count", 4).sum(axis=(1, 2, 3)).tolist() == [2, 1, 2, 1]


def test_binning_sums_squares_of_pixels():
    counts = count_frames(EVENTS, 1, "time", 4, binning=2)
    assert counts.tolist() == [[[[1, 0], [1, 0]], [[0, 2], [0, 2]]]]


@pytest.mark.parametrize("slicing", ["time", "count"])
def test_more_slices_than_events(slicing):
    counts = count_frames(make_events([(1, 0, 1, 7)]), 3, slicing, 2)
    assert nonzero(counts) == {(0, 1, 0, 1): 1}


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 1), st.integers(-1000, 1000)),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 8),
    st.sampled_from(["time", "count"]),
    st.sampled_from([1, 2, 4]),
)
def test_no_event_is_lost(rows, steps, slicing, binning):
    events = make_events(rows)
    counts = count_frames(events, steps, slicing, 8, binning)
    assert counts.shape == (steps, 2, 8 // binning, 8 // binning)
    assert counts.sum() == len(rows)
    places = [(polarity, row // binning, column // binning) for column, row, polarity, _ in rows]
    assert all(counts[:, *place].sum() == places.count(place) for place in places)
    if slicing == "count":
        sizes = counts.sum(axis=(1, 2, 3))
        assert sizes.max() - sizes.min() <= 1


def test_pixels_saturate():
    counts = np.array([0, 1, 2, 14, 15, 16, 10**6])
    pixels = frame_pixels(counts)
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [0, 17, 34, 238, 255, 255, 255]


def test_wrong_steps():
    with pytest.raises(ValueError, match=r"^steps must be at least 1, not 0$"):
        count_frames(EVENTS, 0, "time", 4)


def test_mean_picture_rounds_half_up_and_saturates():
    """n events of a pixel are min(255, floor(1.7 n + 1/2)): 5 are 8.5, thus 9."""
    for count, pixel in [
        (0, 0),
        (1, 2),
        (2, 3),
        (5, 9),
        (10, 17),
        (15, 26),
        (149, 253),
        (150, 255),
        (1000, 255),
    ]:
        picture = mean_picture(make_events([(1, 0, 1, 7)] * count + [(0, 0, 0, 7)] * 10), 2, 2)
        assert picture.dtype == np.uint8
        assert picture.tolist() == [[[17, 0], [0, 0]], [[0, pixel], [0, 0]]]


def test_mean_picture_divides_a_sensor_pixel_by_its_area():
    """3x3 onto 2x2: the middle one gives a quarter to each, one in the middle of an edge a half to two."""
    events = make_events([(1, 1, 0, 0)] * 40 + [(1, 0, 1, 0)] * 20)
    assert mean_picture(events, 3, 2).tolist() == [[[17, 17], [17, 17]], [[17, 17], [0, 0]]]


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 1), st.integers(0, 1000)), min_size=1
    ),
    st.sampled_from([1, 2, 3, 6, 8]),
)
def test_mean_picture_is_the_mean_of_any_frames(rows, size):
    """Ten frames of either slicing, brought to the size by the covered areas, averaged, and rounded once."""
    events = make_events(rows)
    area = np.zeros((size, 8))
    for row in range(8 * size):
        area[row // 8, row // size] += 1 / size
    for slicing in ("time", "count"):
        mean = (area @ count_frames(events, 10, slicing, 8) @ area.T).mean(axis=0)
        expected = np.minimum(np.floor(17 * mean + 0.5 + 1e-9), 255)
        assert np.array_equal(mean_picture(events, 8, size), expected)
