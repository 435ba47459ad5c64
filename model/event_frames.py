"""Recordings of event cameras as frames or one picture: events counted by slice of time, polarity and pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .checks import check_integer
from .event_files import Events

__all__ = [
    "COUNT_PIXEL",
    "LARGEST_COUNT",
    "MEAN_FRAMES",
    "Slicing",
    "count_frames",
    "frame_pixels",
    "mean_picture",
]

Slicing = Literal["time", "count"]
"""Slices of equal length in time, or of equally many events."""

LARGEST_COUNT = 15
"""Count at which a pixel of a frame saturates."""

COUNT_PIXEL = 255 // LARGEST_COUNT
"""Value of an event in a pixel of 8 bits: 15 events are 255, without a remainder."""


MEAN_FRAMES = 10
"""Frames of which :func:`mean_picture` is the mean."""


def count_frames(
    events: Events, steps: int, slicing: Slicing, sensor_size: int, binning: int = 1
) -> NDArray[np.int64]:
    """Count the events of every slice, polarity and pixel.

    With N events, of which the first is at ``t0`` and the last at ``t1``, an event at time ``t``, or the event number
    ``i``, belongs to slice

    * ``time``: ``floor((t - t0) T / (t1 - t0 + 1))``,
    * ``count``: ``floor(i T / N)``.

    Parameters
    ----------
    events : Events
        At least one.
    steps : int
        Number T of slices, at least 1.
    slicing : {"time", "count"}
        Where a slice ends.
    sensor_size : int
        Rows and columns of the sensor.
    binning : int
        Rows and columns of sensor pixels whose events are counted together; divides ``sensor_size``.

    Returns
    -------
    numpy.ndarray of int64, shape (T, 2, sensor_size / binning, sensor_size / binning)
        Counts, which sum to N; channel 1 is that of polarity 1.

    Raises
    ------
    TypeError, ValueError
        If ``steps`` is no integer or below 1.
    """
    steps = check_integer("steps", steps, 1)
    size = sensor_size // binning
    if slicing == "time":
        first = events.time.min()
        frame = (events.time - first) * steps // (events.time.max() - first + 1)
    else:
        frame = np.arange(len(events)) * steps // len(events)
    place = ((frame * 2 + events.polarity) * size + events.row // binning) * size + events.column // binning
    return np.bincount(place, minlength=steps * 2 * size * size).reshape(steps, 2, size, size)


def frame_pixels(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Counts as pixels of 8 bits: 17 for every event, 255 for 15 of them and more."""
    return (COUNT_PIXEL * np.minimum(counts, LARGEST_COUNT)).astype(np.uint8)


def mean_picture(events: Events, sensor_size: int, size: int) -> NDArray[np.uint8]:
    """Mean of the :data:`MEAN_FRAMES` frames of a recording, in another resolution: one picture.

    A pixel of the picture covers ``sensor_size / size`` rows and columns of the sensor. Its count ``n`` is the sum of
    theirs, of which a sensor pixel on an edge gives the part of its area that is covered. The pixel of 8 bits is
    ``min(255, floor(17 n / 10 + 1/2))``, computed in integers: what :func:`frame_pixels` makes of the mean ``n / 10``,
    rounded half up. How the recording is cut into frames makes no difference to their mean.

    Parameters
    ----------
    events : Events
    sensor_size : int
        Rows and columns of the sensor.
    size : int
        Rows and columns of the picture, at most `sensor_size`.

    Returns
    -------
    numpy.ndarray of uint8, shape (2, size, size)
        Channel 1 is that of polarity 1.
    """
    place = (events.polarity * sensor_size + events.row) * sensor_size + events.column
    counts = np.bincount(place, minlength=2 * sensor_size**2).reshape(2, sensor_size, sensor_size)
    # In units of 1 / size of a sensor pixel, edges of both grids are integers.
    picture, sensor = np.arange(size)[:, None] * sensor_size, np.arange(sensor_size) * size
    ends = np.minimum(picture + sensor_size, sensor + size)
    covered = np.maximum(ends - np.maximum(picture, sensor), 0)
    summed = COUNT_PIXEL * (covered @ counts @ covered.T)
    unit = MEAN_FRAMES * size**2
    return np.minimum((2 * summed + unit) // (2 * unit), 255).astype(np.uint8)
