"""Recordings of event cameras as frames: events counted by slice of time, polarity and pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .checks import check_integer
from .event_files import Events

__all__ = ["COUNT_PIXEL", "LARGEST_COUNT", "Slicing", "count_frames", "frame_pixels"]

Slicing = Literal["time", "count"]
"""Slices of equal length in time, or of equally many events."""

LARGEST_COUNT = 15
"""Count at which a pixel of a frame saturates."""

COUNT_PIXEL = 255 // LARGEST_COUNT
"""Value of an event in a pixel of 8 bits: 15 events are 255, without a remainder."""


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
