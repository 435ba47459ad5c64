"""Cycles a design needs for given frames: every stage's work, and how stages wait for each other.

A stage works on one frame at a time, frames follow each other, and all stages work at once. The recurrence is
linear in the (max, +) algebra: a stage begins when it is free and its input is there, and ends when its work
is done, its last input has come and its last output has been taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmht.rtl.parameters import DesignParameters, FrameParameters, TileParameters

__all__ = [
    "Estimate",
    "encoder_cycles",
    "estimate",
    "expected_encoder_cycles",
    "integration_cycles",
    "update_cycles",
]

TOKEN_CYCLES = 1
# Reading an accumulator row out of its bank; its update hides it, unless it is shorter.
FETCH_CYCLES = 3
# Latencies between stages and words that fit in between. They move the result by a few cycles; the work
# itself is counted exactly.
LINK_LATENCY_CYCLES = 4
CLOSE_LATENCY_CYCLES = 8
UPDATE_LATENCY_CYCLES = 16
LINK_WORDS = 3
UPDATE_VECTORS = 14


def integration_cycles(events: float, groups: float) -> float:
    """Cycles the synapse lanes need for a frame: every event once for each group, and the token."""
    return events * groups + TOKEN_CYCLES


def update_cycles(groups: int, slots: int, rows: int, phases: int) -> int:
    """Cycles the update of a frame takes.

    Parameters
    ----------
    groups, slots : int
        Accumulator rows, and update rows in each.
    rows : int
        Update rows of the frame; the last accumulator row holds what is left.
    phases : int
        Cycles of an update row in the mixing multipliers.
    """
    full = max(slots * phases, FETCH_CYCLES)
    return (groups - 1) * full + max((rows - (groups - 1) * slots) * phases, FETCH_CYCLES)


def expected_encoder_cycles(frame: FrameParameters, events: float) -> float:
    """Expected cycles of the frame encoder if the events are spread evenly over the frame."""
    zero = 1 - min(1.0, events / frame.frame_bytes)
    silent = sum(zero**length for length, ends_row in _segments(frame) if not ends_row)
    return events + frame.height + silent


def _segments(frame: FrameParameters) -> list[tuple[int, bool]]:
    """What each beat holds of one row: number of bytes, and whether the row ends there."""
    row = frame.width * frame.channels
    starts = np.union1d(
        np.arange(0, frame.frame_bytes, frame.bytes_per_beat), np.arange(0, frame.frame_bytes, row)
    )
    ends = np.append(starts[1:], frame.frame_bytes)
    return [(int(end - start), bool(end % row == 0)) for start, end in zip(starts, ends, strict=True)]


def encoder_cycles(frame: FrameParameters, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Cycles the frame encoder needs for each image if nothing stops it.

    What a beat holds of one row takes a cycle for each byte that is not 0, one for the token if the row ends
    there, and one if there is neither.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (images, C, H, W)

    Returns
    -------
    numpy.ndarray of int64, shape (images,)
    """
    flat = images.transpose(0, 2, 3, 1).reshape(len(images), -1)
    segments = _segments(frame)
    starts = np.cumsum([0] + [length for length, _ in segments[:-1]])
    tokens = np.array([ends_row for _, ends_row in segments], dtype=np.int64)
    bytes_sent = np.add.reduceat((flat != 0).astype(np.int64), starts, axis=1)
    return np.maximum(bytes_sent + tokens, 1).sum(axis=1)


@dataclass(frozen=True, eq=False)
class Estimate:
    """Expected course of a sequence of frames.

    Attributes
    ----------
    finish : numpy.ndarray of float64, shape (frames,)
        Cycle, counted from the first input beat, in which each frame's result leaves.
    stages : dict of float
        Cycles of work per frame, on average, by stage: ``frame_encoder``, ``<tile>`` (integration),
        ``<tile>_update``, ``<tile>_encoder`` and ``readout``.
    """

    finish: NDArray[np.float64]
    stages: dict[str, float]

    @property
    def total_cycles(self) -> float:
        return float(self.finish[-1])

    @property
    def latency_cycles(self) -> float:
        """Of the first frame, in an empty pipeline."""
        return float(self.finish[0])

    @property
    def cycles_per_frame(self) -> float:
        """In the steady state: from result to result; the latency where there is only one frame."""
        if len(self.finish) == 1:
            return self.latency_cycles
        return float(self.finish[-1] - self.finish[0]) / (len(self.finish) - 1)

    @property
    def busiest(self) -> tuple[str, float]:
        """Stage with the most work and its cycles per frame."""
        return max(self.stages.items(), key=lambda item: item[1])


@dataclass
class _TileState:
    """When a tile's parts became free: integration, the updates of the last two frames, and the encoder."""

    integrated: float = 0.0
    updated: tuple[float, float] = (0.0, 0.0)
    encoded: float = 0.0

    def hold(self, encoded: float) -> None:
        """The encoder could not end before `encoded`, nor the update much earlier."""
        self.encoded = max(self.encoded, encoded)
        held = max(self.updated[1], self.encoded - UPDATE_LATENCY_CYCLES - UPDATE_VECTORS)
        self.updated = (self.updated[0], held)


def estimate(design: DesignParameters, encoder: NDArray[np.integer], events: NDArray[np.integer]) -> Estimate:
    """Follow a sequence of frames through the design, one directly behind the other.

    Two banks of accumulators let a tile integrate frame f once the update of frame f-2 is done.

    Parameters
    ----------
    design : DesignParameters
    encoder : numpy.ndarray, shape (frames,)
        Cycles of the frame encoder, from :func:`encoder_cycles`.
    events : numpy.ndarray, shape (frames, layers)
        Events into each layer.

    Raises
    ------
    ValueError
        If the shapes do not fit the design.
    """
    if events.shape != (len(encoder), len(design.layers)) or len(encoder) == 0:
        wanted = (max(1, len(encoder)), len(design.layers))
        raise ValueError(f"events must have shape {wanted}, not {events.shape}")
    tiles = {tile.name: _TileState() for tile in design.tiles}
    encoder_free = readout_free = 0.0
    finish = np.empty(len(encoder))
    # The classifier sends every logit.
    logits = design.classes
    for frame in range(len(encoder)):
        first, last = encoder_free, encoder_free + float(encoder[frame])
        senders: list[TileParameters] = []
        for index, layer in enumerate(design.layers):
            count = float(events[frame, index])
            sent = float(events[frame, index + 1]) if index + 1 < len(design.layers) else float(logits)
            taken = 0.0
            outputs = []
            for tile in layer:
                state = tiles[tile.name]
                begin = max(first + LINK_LATENCY_CYCLES, state.integrated, state.updated[0])
                end = max(
                    begin + integration_cycles(count, tile.groups),
                    last + LINK_LATENCY_CYCLES + tile.groups,
                )
                taken = max(taken, end - LINK_LATENCY_CYCLES - LINK_WORDS * tile.groups)
                state.integrated = end
                update_begin = max(end + CLOSE_LATENCY_CYCLES, state.updated[1])
                update_end = update_begin + _update_cycles(tile)
                state.updated = (state.updated[1], update_end)
                share = sent * tile.channels / tile.layer_channels
                encoder_begin = max(update_begin + UPDATE_LATENCY_CYCLES, state.encoded)
                encoder_end = max(encoder_begin + share + TOKEN_CYCLES, update_end + UPDATE_LATENCY_CYCLES)
                state.hold(encoder_end)
                outputs.append((encoder_begin, encoder_end))
            # The source is held up until its words have been taken.
            if senders:
                for sender in senders:
                    tiles[sender.name].hold(taken)
            else:
                encoder_free = max(last, taken)
            first = min(begin for begin, _ in outputs)
            # One word a cycle where slices merge again.
            last = max(max(end for _, end in outputs), first + sent)
            senders = list(layer)
        readout_free = max(last, max(first, readout_free) + logits) + LINK_LATENCY_CYCLES
        finish[frame] = readout_free
    return Estimate(finish, _average_work(design, encoder, events))


def _update_cycles(tile: TileParameters) -> int:
    return update_cycles(tile.groups, tile.row_slots, tile.update_rows, tile.mix_phases)


def _average_work(
    design: DesignParameters, encoder: NDArray[np.integer], events: NDArray[np.integer]
) -> dict[str, float]:
    means = [float(value) for value in events.mean(axis=0)]
    work = {"frame_encoder": float(encoder.mean())}
    for index, layer in enumerate(design.layers):
        for tile in layer:
            work[tile.name] = integration_cycles(means[index], tile.groups)
            work[f"{tile.name}_update"] = float(_update_cycles(tile))
            if index + 1 < len(design.layers):
                work[f"{tile.name}_encoder"] = means[index + 1] * tile.channels / tile.layer_channels + 1
            else:
                work[f"{tile.name}_encoder"] = float(tile.channels + 1)
    work["readout"] = float(design.classes + 1)
    return work
