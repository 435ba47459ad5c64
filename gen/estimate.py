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

# Cycles from a stage's input to its output, and words that fit between two stages. They move the result by a
# few cycles per frame; the work itself is counted exactly.
TOKEN_CYCLES = 1
UPDATE_OVERHEAD_CYCLES = 2
LINK_LATENCY_CYCLES = 4
UPDATE_LATENCY_CYCLES = 12
LINK_WORDS = 2


def integration_cycles(events: float, groups: float) -> float:
    """Cycles the synapse lanes need for a frame: every event once for each group, and the token."""
    return events * groups + TOKEN_CYCLES


def update_cycles(rows: int, phases: int) -> int:
    """Cycles the neuron array needs for a frame of `rows` update rows."""
    return rows * phases + UPDATE_OVERHEAD_CYCLES


def expected_encoder_cycles(frame: FrameParameters, events: float) -> float:
    """Expected cycles of the frame encoder: one per event, row and piece of a beat that ends in zeros."""
    density = min(1.0, events / frame.frame_bytes)
    return events + frame.height + _pieces(frame) * (1 - density)


def _pieces(frame: FrameParameters) -> int:
    """Parts into which beats and rows together divide a frame."""
    row = frame.width * frame.channels
    beats = set(range(0, frame.frame_bytes, frame.bytes_per_beat))
    return len(beats | set(range(0, frame.frame_bytes, row)))


def encoder_cycles(frame: FrameParameters, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Cycles the frame encoder needs for each image if nothing stops it.

    One cycle for a byte that is not 0, one for the zeros at the end of a beat (or of its part in one row),
    one for the token of a row.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (images, C, H, W)

    Returns
    -------
    numpy.ndarray of int64, shape (images,)
    """
    flat = images.transpose(0, 2, 3, 1).reshape(len(images), -1)
    ends = np.arange(frame.bytes_per_beat, frame.frame_bytes, frame.bytes_per_beat)
    row = frame.width * frame.channels
    last = np.union1d(ends, np.arange(row, frame.frame_bytes + 1, row)) - 1
    return np.count_nonzero(flat, axis=1) + np.count_nonzero(flat[:, last] == 0, axis=1) + frame.height


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
    """When a tile's parts became free: end of integration, and of the updates of the last two frames."""

    integrated: float = 0.0
    updated: tuple[float, float] = (0.0, 0.0)


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
                update_begin = max(end, state.updated[1])
                share = sent * tile.channels / tile.layer_channels
                update_end = update_begin + max(update_cycles(tile.update_rows, tile.mix_phases), share + 1)
                outputs.append((update_begin + UPDATE_LATENCY_CYCLES, update_end + UPDATE_LATENCY_CYCLES))
                state.updated = (state.updated[1], update_end)
            # The source is held up until its words have been taken.
            if senders:
                for sender in senders:
                    newest = tiles[sender.name]
                    held = max(newest.updated[1], taken - UPDATE_LATENCY_CYCLES)
                    newest.updated = (newest.updated[0], held)
            else:
                encoder_free = max(last, taken)
            first = min(begin for begin, _ in outputs)
            # One word a cycle where slices merge again.
            last = max(max(end for _, end in outputs), first + sent)
            senders = list(layer)
        readout_free = max(last, max(first, readout_free) + logits) + LINK_LATENCY_CYCLES
        finish[frame] = readout_free
    return Estimate(finish, _average_work(design, encoder, events))


def _average_work(
    design: DesignParameters, encoder: NDArray[np.integer], events: NDArray[np.integer]
) -> dict[str, float]:
    means = [float(value) for value in events.mean(axis=0)]
    work = {"frame_encoder": float(encoder.mean())}
    for index, layer in enumerate(design.layers):
        for tile in layer:
            work[tile.name] = integration_cycles(means[index], tile.groups)
            work[f"{tile.name}_update"] = float(tile.update_cycles)
            if index + 1 < len(design.layers):
                work[f"{tile.name}_encoder"] = means[index + 1] * tile.channels / tile.layer_channels + 1
            else:
                work[f"{tile.name}_encoder"] = float(tile.channels + 1)
    work["readout"] = float(design.classes + 1)
    return work
