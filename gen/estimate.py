"""Cycles a design needs for given frames: every part's work, row by row, and how parts wait for each other.

Rows stream through all parts at once. The recurrence is linear in the (max, +) algebra: a part begins with a row when
it is free and the row's first word is there, and ends when its work is done, the last word has come and
its own last word has been taken. Rows are followed in the order of their times (:mod:`lmht.gen.row_times`), in which
none comes before what it needs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lmht.gen.frame_work import FrameWork
from lmht.gen.row_times import RowTimes, needed_row, taken_rows
from lmht.gen.work import CLOSING_CYCLES, stolen_cycles
from lmht.rtl.fire import fire_latency
from lmht.rtl.parameters import Consumer, DesignParameters
from lmht.rtl.projection import IMAGE
from lmht.rtl.tile_parameters import TileParameters

__all__ = ["Estimate", "estimate"]

TOKEN_CYCLES = 1
# Latencies between parts and words that fit in between. They move the result by a few cycles; the work
# itself is counted exactly.
LINK_LATENCY_CYCLES = 4
CLOSE_LATENCY_CYCLES = 8
UPDATE_LATENCY_CYCLES = 14  # and those of `fire_latency`
LINK_WORDS = 14
UPDATE_VECTORS = 14
KEPT_ROWS = 8
"""Rows of the past that a port remembers, apart from those its source may still have to wait for."""


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

    def utilization(self, stage: str) -> float:
        """Part of the steady state's cycles in which a stage works, 0 to 1."""
        return self.stages[stage] / self.cycles_per_frame


def estimate(design: DesignParameters, work: FrameWork) -> Estimate:
    """Follow a sequence of frames through the design, one directly behind the other."""
    course = _Course(design, work)
    finish = [course.pass_frame(frame) for frame in range(len(work))]
    return Estimate(np.array(finish), _average_work(design, work))


@dataclass
class _Flow:
    """When the words of one row come over a link: the first event, the last one, and the token."""

    first: float
    last: float
    token: float


@dataclass
class _Port:
    """An input of a tile: when each row's last word is integrated, and when words were taken in the past.

    ``taken`` holds, for rows that the source may still have to wait for, the words that had come before, and when the
    first and the last of the row were taken.
    """

    capacity: int
    ended: dict[int, float] = field(default_factory=dict)
    free: float = 0.0
    count: float = 0.0
    taken: deque[tuple[float, float, float, float]] = field(default_factory=deque)

    def take(self, words: float, begin: float, end: float) -> None:
        self.taken.append((self.count, self.count + words, begin, end))
        self.count += words

    def has_taken(self, word: float) -> float:
        """When the port has taken so many words in all; 0 if that is not known to have been a wait."""
        while len(self.taken) > KEPT_ROWS and self.taken[0][1] < word:
            self.taken.popleft()
        for first, last, begin, end in self.taken:
            if first < word <= last:
                return begin + (end - begin) * (word - first) / (last - first)
        return 0.0


@dataclass
class _TileState:
    """When a tile's parts became free."""

    ports: tuple[_Port, ...]
    banks: deque[float]  # of the first open row and those behind it
    closed: int = 0  # rows of this frame
    integrated: float = 0.0
    updated: float = 0.0
    encoded: float = 0.0
    # When the vectors of the row that was updated last begin and end to leave the neurons.
    vectors: tuple[float, float] = (0.0, 0.0)
    # When the last two rows behind the pooling had been sent: it holds two.
    pooled: tuple[float, float] = (0.0, 0.0)

    def hold(self, encoded: float, updated: float, *, pooling: bool) -> None:
        """The encoder could not end before `encoded`, nor the update before `updated`, unless rows are buffered by a
        pooling in between."""
        self.encoded = max(self.encoded, encoded)
        if pooling:
            self.pooled = (self.pooled[0], self.encoded)
        else:
            self.updated = max(self.updated, updated)
            self.banks[-1] = max(self.banks[-1], updated)


class _Course:
    """The state of a design while frames pass."""

    def __init__(self, design: DesignParameters, work: FrameWork) -> None:
        self._design, self._work = design, work
        self._tiles = {
            tile.name: _TileState(
                tuple(_Port(LINK_WORDS + projection.fifo) for projection in tile.projections),
                deque([0.0] * tile.banks),
            )
            for tile in design.tiles
        }
        self._latency = {
            tile.name: UPDATE_LATENCY_CYCLES + fire_latency(tile.neuron) for tile in design.tiles
        }
        self._sent = [0.0] * (len(design.layers) + 1)
        self._encoder_free = self._readout_free = 0.0
        self._flows: dict[tuple[int, int], _Flow] = {}
        self._steps = self._order()
        # Last row of the map that each row of a link reaches.
        self._reached = {
            (layer, number): [
                min(max((row // p.pool[0] + p.padding[0]) // p.stride[0], 0), tiles[0].height - 1)
                for row in range(p.input.height)
            ]
            for layer, tiles in enumerate(design.layers)
            for number, p in enumerate(tiles[0].projections)
        }

    def _order(self) -> list[tuple[Callable[..., None], tuple[object, ...]]]:
        """The steps of a frame: rows come over links, are taken, and close."""
        layers = [tiles[0] for tiles in self._design.layers]
        times = RowTimes(layers)
        steps: list[tuple[tuple[float, ...], Callable[..., None], tuple[object, ...]]] = [
            ((row, -1), self._emit_image, (row,)) for row in range(self._design.frame.height)
        ]
        for layer, tile in enumerate(layers):
            for row in range(tile.height):
                steps.append(((times.own(layer, row), layer - 0.5), self._close, (layer, row)))
            for row in range(tile.output.height):
                steps.append(((times.link(layer, row), layer), self._emit, (layer, row)))
            for number, projection in enumerate(tile.projections):
                bases = [taken_rows(tile, projection, base) for base in range(tile.height)]
                for row in range(projection.input.height):
                    base = next(base for base, taken in enumerate(bases) if taken > row)
                    opened = times.own(layer, base - 1) if base else -1
                    came = times.link(projection.source, row)
                    place = (came, layer - 0.6) if came > opened else (opened, layer - 0.4)
                    # Of rows of the same time, that of the source farther back comes first.
                    steps.append(((*place, projection.source), self._take, (layer, number, row)))
        steps.sort(key=lambda step: step[0])
        return [step[1:] for step in steps]

    def pass_frame(self, frame: int) -> float:
        """Send one frame through all stages; the cycle in which its result leaves."""
        self._flows.clear()
        for state in self._tiles.values():
            for port in state.ports:
                port.ended.clear()
        for act, arguments in self._steps:
            act(frame, *arguments)
        classes = self._design.classes
        flow = self._flows[len(self._design.layers) - 1, 0]
        self._readout_free = max(flow.token, flow.first + classes, self._readout_free + classes)
        return self._readout_free + LINK_LATENCY_CYCLES

    def _emit_image(self, frame: int, row: int) -> None:
        encoder = self._work.encoder
        begin = max(self._encoder_free, self._room(IMAGE))
        token = begin + encoder.cycles[frame, row]
        flow = _Flow(begin + encoder.lead[frame, row], token - encoder.tail[frame, row], token)
        self._flows[IMAGE, row] = flow
        self._encoder_free = flow.token
        self._sent[0] += self._work.events[0][frame, row] + TOKEN_CYCLES

    def _room(self, source: int) -> float:
        """When all ports that a source feeds have room for its next word."""
        sent = self._sent[source + 1]
        return max(
            (
                port.has_taken(sent + 1 - port.capacity)
                for port in (self._port(consumer) for consumer in self._design.consumers(source))
            ),
            default=0.0,
        )

    def _port(self, consumer: Consumer) -> _Port:
        return self._tiles[consumer.tile.name].ports[consumer.projection]

    def _take(self, frame: int, layer: int, number: int, row: int) -> None:
        """The tiles of a layer integrate a row."""
        for tile in self._design.layers[layer]:
            self._integrate(tile, frame, number, row)

    def _integrate(self, tile: TileParameters, frame: int, number: int, row: int) -> None:
        state, source = self._tiles[tile.name], tile.projections[number].source
        port, flow = state.ports[number], self._flows[source, row]
        events = self._work.events[source + 1][frame, row]
        cycles = self._work.tiles[tile.name].integration[number][frame, row]
        begin = end = max(flow.first + LINK_LATENCY_CYCLES, port.free)
        if cycles:
            bank = self._reached[tile.layer, number][row] - state.closed
            begin = max(begin, state.integrated, state.banks[bank])
            state.integrated = begin + cycles
            end = max(begin + cycles, flow.last + LINK_LATENCY_CYCLES + cycles / events)
        port.free = end
        port.ended[row] = max(end, flow.token + LINK_LATENCY_CYCLES)
        port.take(events + TOKEN_CYCLES, begin - LINK_LATENCY_CYCLES, end - LINK_LATENCY_CYCLES)
        if port.count == self._sent[source + 1]:
            self._hold(source, frame, row, port)

    def _hold(self, source: int, frame: int, row: int, port: _Port) -> None:
        """A source cannot send the last word of a row before a port has room for it."""
        flow, last = self._flows[source, row], port.count - port.capacity
        if source == IMAGE:
            token = port.has_taken(last) + self._work.encoder.tail[frame, row]
            self._encoder_free = flow.token = max(flow.token, token)
            return
        for sender in self._design.layers[source]:
            # The update is done with a row while the last vectors of it are on their way to the encoder.
            rows = self._work.tiles[sender.name]
            own = min(row, sender.height - 1)
            vectors = max(rows.update[frame, own] / sender.mix_phases + rows.constant[frame, own], 1.0)
            waiting = (UPDATE_VECTORS + sender.row_slots) * rows.sent[frame, row] / vectors
            updated = port.has_taken(last - waiting)
            self._tiles[sender.name].hold(port.has_taken(last), updated, pooling=sender.pooling is not None)
        flow.token = max(flow.token, port.has_taken(last))

    def _close(self, frame: int, layer: int, row: int) -> None:
        """A row of the map closes and is updated."""
        for tile in self._design.layers[layer]:
            state = self._tiles[tile.name]
            ended = max(
                port.ended[min(needed_row(tile, projection, row), projection.input.height - 1)]
                for port, projection in zip(state.ports, tile.projections, strict=True)
            )
            work = self._work.tiles[tile.name]
            # The update's reads are counted in one piece, although they come one by one.
            stolen = work.update[frame, row] * stolen_cycles(tile)
            state.integrated = max(state.integrated, ended) + CLOSING_CYCLES + stolen
            begin = max(ended + TOKEN_CYCLES + CLOSE_LATENCY_CYCLES, state.updated)
            if tile.pooling is not None and row % tile.pooling.size[0] == 0:
                begin = max(begin, state.pooled[0] - self._latency[tile.name])
            end = begin + max(1.0, work.update[frame, row] + work.constant[frame, row])
            state.updated = end
            latency = self._latency[tile.name]
            state.vectors = (begin + latency, end + latency)
            state.banks.popleft()
            state.banks.append(end)
            state.closed = row + 1 if row + 1 < tile.height else 0

    def _emit(self, frame: int, layer: int, row: int) -> None:
        """A layer sends a row."""
        tiles = self._design.layers[layer]
        room = self._room(layer)
        flow, total = _Flow(np.inf, 0.0, 0.0), 0.0
        for tile in tiles:
            state = self._tiles[tile.name]
            begin, end = state.vectors
            if tile.pooling is not None:
                begin = end  # the window's last row completes all of its pixels
            sent = self._work.tiles[tile.name].sent[frame, row]
            first = max(begin, state.encoded, room)
            last = max(first + sent + TOKEN_CYCLES, end)
            state.pooled = (state.pooled[1], last)
            updated = last - self._latency[tile.name] - UPDATE_VECTORS
            state.hold(last, updated, pooling=tile.pooling is not None)
            flow = _Flow(min(flow.first, first), max(flow.last, last), 0.0)
            total += sent
        # One word a cycle where slices merge again.
        flow.last = flow.token = max(flow.last, flow.first + total)
        self._flows[layer, row] = flow
        self._sent[layer + 1] += total + TOKEN_CYCLES


def _average_work(design: DesignParameters, work: FrameWork) -> dict[str, float]:
    """Cycles of work per frame by stage."""

    def mean(values: NDArray[np.float64]) -> float:
        return float(values.sum(axis=1).mean())

    stages = {"frame_encoder": mean(work.encoder.cycles)}
    for tile in design.tiles:
        rows = work.tiles[tile.name]
        stolen = mean(rows.update) * stolen_cycles(tile)
        stages[tile.name] = sum(map(mean, rows.integration)) + tile.height * CLOSING_CYCLES + stolen
        stages[f"{tile.name}_update"] = mean(rows.update + rows.constant)
        stages[f"{tile.name}_encoder"] = mean(rows.sent) + tile.output.height * TOKEN_CYCLES
    stages["readout"] = float(design.classes + 1)
    return stages
