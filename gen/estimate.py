"""Cycles a design needs for given frames: every stage's work, and how stages wait for each other.

A stage works on one frame at a time, frames follow each other, and all stages work at once. The recurrence is
linear in the (max, +) algebra: a stage begins when it is free and its input is there, and ends when its work
is done, its last input has come and its last output has been taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lmht.gen.encoder_work import EncoderWork
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["Estimate", "estimate", "integration_cycles", "update_cycles"]

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


def estimate(design: DesignParameters, encoder: EncoderWork, events: NDArray[np.integer]) -> Estimate:
    """Follow a sequence of frames through the design, one directly behind the other.

    Two banks of accumulators let a tile integrate frame f once the update of frame f-2 is done.

    Parameters
    ----------
    design : DesignParameters
    encoder : EncoderWork
        Of every frame, from :func:`~lmht.gen.encoder_work.measure_encoder`.
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
    pipeline = _Pipeline(design)
    finish = [
        pipeline.pass_frame(*work)
        for work in zip(
            encoder.cycles.tolist(),
            encoder.lead.tolist(),
            encoder.tail.tolist(),
            events.tolist(),
            strict=True,
        )
    ]
    return Estimate(np.array(finish), _average_work(design, encoder, events))


@dataclass(frozen=True)
class _Flow:
    """When the words of one frame come over a link: the first event, the last one, and the token."""

    first: float
    last: float
    token: float


class _Pipeline:
    """The state of a design between two frames."""

    def __init__(self, design: DesignParameters) -> None:
        self._design = design
        self._tiles = {tile.name: _TileState() for tile in design.tiles}
        self._encoder_free = self._readout_free = 0.0

    def pass_frame(self, cycles: int, lead: int, tail: int, events: list[int]) -> float:
        """Send one frame through all stages; the cycle in which its result leaves."""
        # The classifier sends every logit.
        sent = [*events[1:], self._design.classes]
        flow = _Flow(
            self._encoder_free + lead, self._encoder_free + cycles - tail, self._encoder_free + cycles
        )
        for index, layer in enumerate(self._design.layers):
            accepted = max(self._integrate(tile, flow, events[index]) for tile in layer)
            # The source is held up until its last event has been taken.
            if index == 0:
                flow = replace(flow, token=max(flow.token, accepted + tail))
                self._encoder_free = flow.token
            else:
                for sender in self._design.layers[index - 1]:
                    self._tiles[sender.name].hold(accepted)
            flows = [self._update(tile, flow, sent[index]) for tile in layer]
            first = min(part.first for part in flows)
            # One word a cycle where slices merge again.
            last = max(*(part.last for part in flows), first + sent[index])
            flow = _Flow(first, last, last)
        self._readout_free = max(flow.token, flow.first + sent[-1], self._readout_free + sent[-1])
        return self._readout_free + LINK_LATENCY_CYCLES

    def _integrate(self, tile: TileParameters, flow: _Flow, count: int) -> float:
        """Integrate the events; the cycle in which the source is rid of the last one."""
        state = self._tiles[tile.name]
        begin = max(flow.first + LINK_LATENCY_CYCLES, state.integrated, state.updated[0])
        state.integrated = max(begin + count * tile.groups, flow.last + LINK_LATENCY_CYCLES + tile.groups)
        return state.integrated - LINK_LATENCY_CYCLES - LINK_WORDS * tile.groups

    def _update(self, tile: TileParameters, flow: _Flow, sent: int) -> _Flow:
        """Close the frame, update the neurons and send their spikes."""
        state = self._tiles[tile.name]
        state.integrated = max(state.integrated, flow.token + LINK_LATENCY_CYCLES) + TOKEN_CYCLES
        begin = max(state.integrated + CLOSE_LATENCY_CYCLES, state.updated[1])
        end = begin + _update_cycles(tile)
        state.updated = (state.updated[1], end)
        share = sent * tile.channels / tile.layer_channels
        first = max(begin + UPDATE_LATENCY_CYCLES, state.encoded)
        last = max(first + share + TOKEN_CYCLES, end + UPDATE_LATENCY_CYCLES)
        state.hold(last)
        return _Flow(first, last, last)


def _update_cycles(tile: TileParameters) -> int:
    return update_cycles(tile.groups, tile.row_slots, tile.update_rows, tile.mix_phases)


def _average_work(
    design: DesignParameters, encoder: EncoderWork, events: NDArray[np.integer]
) -> dict[str, float]:
    means = [float(value) for value in events.mean(axis=0)]
    work = {"frame_encoder": float(encoder.cycles.mean())}
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
