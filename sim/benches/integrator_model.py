"""What the integrator's bench sends, and what that is worth by definition: plain loops over events and kernels."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmht.rtl.event_address import is_flat
from lmht.rtl.events import EventKind
from lmht.rtl.tile_parameters import TileParameters
from lmht.sim.codecs import Event, EventCodec

Array = NDArray[np.int64]
UNKNOWN_KIND = 3


class ProjectionModel:
    """One projection by definition: what its words are worth, and what they add to which output pixels."""

    def __init__(self, tile: TileParameters, index: int, weights: Array):
        self.tile = tile
        self.own = own = tile.projections[index]
        self.flat = is_flat(tile, index)
        inputs, outputs = own.input.channels // own.channel_groups, tile.layer_channels // own.channel_groups
        self.connected = np.zeros((tile.layer_channels, own.input.channels), dtype=bool)
        self.weights = np.zeros((tile.layer_channels, own.input.channels, *own.kernel), dtype=np.int64)
        for part in range(own.channel_groups):
            rows = slice(part * outputs, (part + 1) * outputs)
            columns = slice(part * inputs, (part + 1) * inputs)
            self.connected[rows, columns] = True
            self.weights[rows, columns] = weights[rows]
        self.totals = dict.fromkeys(("events_in", "dropped", "coordinates", "level", "rows", "kind"), 0)
        self.operations = 0
        self.latest: dict[int, int] = {}

    def memory(self, index: int) -> list[int]:
        """Rows of the weight memory as whole numbers, from the layout that TileParameters.memories states."""
        tile, own = self.tile, self.own
        bits = tile.lanes * own.weight_bits
        kernels = [
            [
                self._lanes(channel, (tile.first_group(index, channel) + span) * tile.lanes, ky, kx)
                for ky in range(own.kernel[0])
                for kx in range(own.kernel[1])
            ]
            for channel in range(own.input.channels)
            for span in range(tile.span(index))
        ]
        if tile.tap_unroll:
            return [sum(row << tap * bits for tap, row in enumerate(kernel)) for kernel in kernels]
        return [kernel[tap] for tap in range(own.taps) for kernel in kernels]

    def _lanes(self, channel: int, first: int, ky: int, kx: int) -> int:
        """Weights of one tap for the tile's channels from `first` on, one a lane; 0 beyond the tile."""
        tile, bits = self.tile, self.own.weight_bits
        row = 0
        for lane in range(min(tile.lanes, tile.channels - first)):
            weight = int(self.weights[tile.channel_offset + first + lane, channel, ky, kx])
            row |= (weight % 2**bits) << lane * bits
        return row

    def add(self, words: list[tuple[Event, int]], sums: Array, touched: NDArray[np.bool_]) -> bool:
        """Add a frame's words to `sums` (T, N, H, W) and mark `touched` (H, W, groups). Returns the frame's flag.

        ``latest`` then holds the accumulator row of each output row that was added to last.
        """
        self.latest = {}
        row, error = 0, False
        link = self.own.input
        assert link.max_level is not None
        for event, kind in words:
            if kind == EventKind.EVENT.value:
                outside = event.y >= link.height or event.x >= link.width or event.channel >= link.channels
                outside |= not self.flat and event.y != row
                excess = any(level > link.max_level for level in event.levels)
                self.totals["coordinates"] += outside
                self.totals["level"] += excess
                if outside or excess:
                    self.totals["dropped"] += 1
                    error = True
                else:
                    self.totals["events_in"] += 1
                    self._add_event(event, sums, touched)
            elif kind == EventKind.ROW_END.value:
                if row == link.height - 1:
                    self.totals["rows"] += 1
                    error = True
                else:
                    row += 1
            elif kind == EventKind.FRAME_END.value:
                if row != link.height - 1:
                    self.totals["rows"] += 1
                    error = True
                return error or event.error
            else:
                self.totals["kind"] += 1
                self.totals["dropped"] += 1
                error = True
        raise AssertionError("a frame must end")

    def _add_event(self, event: Event, sums: Array, touched: NDArray[np.bool_]) -> None:
        own, tile = self.own, self.tile
        y, x = event.y // own.pool[0], event.x // own.pool[1]
        if y >= own.pooled[0] or x >= own.pooled[1]:
            return
        reached = self.connected[tile.channel_offset : tile.channel_offset + tile.channels, event.channel]
        groups = sorted({n // tile.lanes for n in np.flatnonzero(reached)})
        pixels = 0
        for ky in range(own.kernel[0]):
            for kx in range(own.kernel[1]):
                oy, ry = divmod(y + own.padding[0] - ky, own.stride[0])
                ox, rx = divmod(x + own.padding[1] - kx, own.stride[1])
                if ry or rx or not (0 <= oy < tile.height and 0 <= ox < tile.width):
                    continue
                for step, level in enumerate(event.levels):
                    sums[step, :, oy, ox] += (self.weights[:, event.channel, ky, kx] * level) << own.shift
                touched[oy, ox, groups] = True
                if groups:
                    self.latest[oy] = ox * tile.groups + int(groups[-1])
                pixels += 1
        self.operations += len(groups) * (min(pixels, 1) if tile.tap_unroll else pixels)


class FrameMaker:
    """Random words of a projection."""

    def __init__(self, tile: TileParameters, index: int, rng: random.Random):
        self.link = tile.projections[index].input
        self.flat = is_flat(tile, index)
        self.rng = rng

    def words(self, density: float, malformed: float) -> list[tuple[Event, int]]:
        """Events and their kinds, which may be unknown."""
        link, rng = self.link, self.rng
        words: list[tuple[Event, int]] = []
        for y in range(link.height):
            positions = [(x, channel) for x in range(link.width) for channel in range(link.channels)]
            rng.shuffle(positions)
            for x, channel in positions:
                if rng.random() < malformed:
                    words.append(self._malformed())
                if rng.random() < density:
                    words.append((Event(y=y, x=x, channel=channel, levels=self._levels()), 0))
            if y < link.height - 1 and rng.random() >= malformed / 2:
                words.append((Event(), EventKind.ROW_END.value))
        words.append((Event(error=rng.random() < malformed), EventKind.FRAME_END.value))
        return words

    def _levels(self) -> tuple[int, ...]:
        assert self.link.max_level is not None
        return tuple(self.rng.randint(0, self.link.max_level) for _ in range(self.link.steps))

    def _malformed(self) -> tuple[Event, int]:
        """Random bits everywhere, or a surplus row token."""
        link, rng = self.link, self.rng
        fields = link.fields()
        event = Event(
            y=rng.getrandbits(fields["y"][1]),
            x=rng.getrandbits(fields["x"][1]),
            channel=rng.getrandbits(fields["channel"][1]),
            levels=tuple(rng.getrandbits(link.level_bits) for _ in range(link.steps)),
        )
        kind = rng.choice(
            (EventKind.EVENT.value, EventKind.EVENT.value, EventKind.ROW_END.value, UNKNOWN_KIND)
        )
        return event, kind


class WordCodec:
    """Packs words whose kind may be unknown."""

    def __init__(self, tile: TileParameters, index: int):
        self._codec = EventCodec(tile.projections[index].input)
        self._offset = tile.projections[index].input.fields()["kind"][0]

    def pack(self, word: tuple[Event, int]) -> int:
        event, kind = word
        return self._codec.pack(event) & ~(3 << self._offset) | kind << self._offset

    def unpack(self, word: int) -> Any:
        return self._codec.unpack(word)
