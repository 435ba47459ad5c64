"""Cycles the frame encoder needs for the rows of an image, and where in them their events lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmht.rtl.parameters import FrameParameters

__all__ = ["EncoderWork", "expected_encoder_cycles", "measure_encoder"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EncoderWork:
    """Work of the frame encoder for a sequence of images, if nothing stops it.

    Attributes
    ----------
    cycles : numpy.ndarray of float64, shape (images, rows)
        Of each row, its token included.
    lead, tail : numpy.ndarray of float64, shape (images, rows)
        Of them, those before the row's first event and after its last one. The first tile has nothing to do in them
        beyond what its input holds. A row without an event is all lead.
    """

    cycles: Array
    lead: Array
    tail: Array

    def __len__(self) -> int:
        return len(self.cycles)


def measure_encoder(frame: FrameParameters, images: NDArray[np.uint8]) -> EncoderWork:
    """Work for each image of uint8 and shape (images, C, H, W).

    What a beat holds of one row takes a cycle for each byte that is not 0, one for the token if the row ends
    there, and one if there is neither.
    """
    flat = images.transpose(0, 2, 3, 1).reshape(len(images), -1)
    segments = _segments(frame)
    starts = np.cumsum([0] + [length for length, _ in segments[:-1]])
    tokens = np.array([ends_row for _, ends_row in segments], dtype=np.int64)
    sent = np.add.reduceat((flat != 0).astype(np.int64), starts, axis=1)
    taken = np.maximum(sent + tokens, 1)

    row_starts = np.flatnonzero(starts % (frame.width * frame.channels) == 0)
    cycles = np.add.reduceat(taken, row_starts, axis=1)
    segment_rows = np.cumsum(np.isin(np.arange(len(segments)), row_starts)) - 1
    # Cycle of the row in which each segment begins; its events come first.
    before = np.cumsum(cycles, axis=1) - cycles
    begin = np.cumsum(taken, axis=1) - taken - before[:, segment_rows]
    whole = cycles[:, segment_rows]
    lead = np.minimum.reduceat(np.where(sent > 0, begin, whole), row_starts, axis=1)
    last = np.maximum.reduceat(np.where(sent > 0, begin + sent, 0), row_starts, axis=1)
    tail = np.where(lead < cycles, cycles - last, 0)
    return EncoderWork(*(values.astype(np.float64) for values in (cycles, lead, tail)))


def expected_encoder_cycles(frame: FrameParameters, events: float) -> float:
    """Expected cycles of a frame if the events are spread evenly over it."""
    zero = 1 - min(1.0, events / frame.frame_bytes)
    silent = sum(zero**length for length, ends_row in _segments(frame) if not ends_row)
    return events + frame.height + silent


def _segments(frame: FrameParameters) -> list[tuple[int, bool]]:
    """What each beat holds of one row: number of bytes, and whether the row ends there."""
    row = frame.width * frame.channels
    beats = np.arange(0, frame.frame_bytes, frame.bytes_per_beat)
    starts = np.union1d(beats, np.arange(0, frame.frame_bytes, row))
    ends = np.append(starts[1:], frame.frame_bytes)
    return [(int(end - start), bool(end % row == 0)) for start, end in zip(starts, ends, strict=True)]
