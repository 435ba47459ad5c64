"""Bench of :class:`~lmht.rtl.integrator.Integrator`: random events, some malformed, against the sums of a convolution.

Parameters (JSON): ``tile`` (fields of TileParameters), ``data`` (npz with ``weights``, and ``residual_weights`` for a
second projection, of shape (N, C / groups, KH, KW)), ``frames``, ``idle`` (pattern name), ``pause`` (cycles a closed
bank waits at most before it is read; 0: it is freed at once, unread), ``malformed`` (probability per event),
``density`` and ``steady`` (bool: check the cycles of the steady state).
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from lmht.rtl.event_address import is_flat
from lmht.rtl.events import EventKind
from lmht.rtl.integrator import Integrator
from lmht.rtl.pixel_walk import closed_layout
from lmht.rtl.row_scheduler import INPUTS
from lmht.rtl.synapse_lanes import accumulator_row_layout
from lmht.rtl.tile_parameters import TileParameters
from lmht.sim.codecs import Event, EventCodec, StructCodec, layout_fields
from lmht.sim.patterns import pattern
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, PulseCounter, Source

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
        """Add a frame's words to `sums` (T, N, H, W) and mark `touched` (H, W, groups). Returns the frame's flag."""
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
                pixels += 1
        self.operations += len(groups) * (min(pixels, 1) if tile.tap_unroll else pixels)


@dataclass(frozen=True)
class ExpectedRow:
    """A closed row: its accumulators by accumulator row, whether each was touched, end and flag of its frame."""

    sums: Array
    touched: NDArray[np.bool_]
    last: bool
    error: bool


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


class Reader:
    """Reads every bank that closes after a pause, checks it and frees it, as the update would."""

    def __init__(self, dut: Any, tile: TileParameters, pause: int, rng: random.Random):
        self.dut, self.tile, self.pause, self.rng = dut, tile, pause, rng
        self.expected: deque[ExpectedRow] = deque()
        self.rows_checked = 0
        self.frame_cycles: list[int] = []
        self._closed = StructCodec(closed_layout(tile.banks))
        self._fields = layout_fields(accumulator_row_layout(tile))
        self._row = StructCodec(accumulator_row_layout(tile))
        self._queue: deque[dict[str, int]] = deque()
        self._wait = 0
        self._script: list[tuple[str, int]] = []

    def start(self, bench: Bench) -> None:
        self.bench = bench
        dut = self.dut
        for name in ("freed", "reading", "read_bank", "read_row", "read_enable"):
            if hasattr(dut, name):
                getattr(dut, name).value = 0

    def _set(self, name: str, value: int) -> None:
        """Drive a port, which is absent where it has no bits."""
        if hasattr(self.dut, name):
            getattr(self.dut, name).value = value

    def step(self) -> None:
        dut = self.dut
        dut.freed.value = 0
        if dut.closed_valid.value:
            closed = self._closed.unpack(int(dut.closed.value))
            closed.setdefault("bank", 0)
            if closed["last"]:
                self.frame_cycles.append(self.bench.cycle)
            self._queue.append(closed)
            self._wait = self._wait or self.rng.randint(0, self.pause)
        if self._script:
            self._read_on()
        elif self._queue and self._wait:
            self._wait -= 1
        elif self._queue:
            closed = self._queue[0]
            self._check_closing(closed)
            self._set("read_bank", closed["bank"])
            if self.pause:
                self._script = [
                    (action, row)
                    for row in range(self.tile.bank_rows)
                    for action in ("address", "wait", "wait", "data")
                ]
                self._set("reading", 1 << closed["bank"])
                self._read_on()
            else:
                self._free(closed)

    def _check_closing(self, closed: dict[str, int]) -> None:
        expected, tile = self.expected[0], self.tile
        name = f"row {self.rows_checked}"
        assert closed["last"] == expected.last, f"{name}: last is {closed['last']}"
        assert closed["error"] == expected.error, f"{name}: error is {closed['error']}, not {expected.error}"
        bits = tile.bank_rows if tile.partial else tile.width
        found = int(self.dut.touched.value) >> closed["bank"] * bits & (1 << bits) - 1
        touched = expected.touched if tile.partial else expected.touched[:: tile.groups]
        wanted = sum(int(bit) << place for place, bit in enumerate(touched))
        assert found == wanted, f"{name}: touched is {found:#x}, expected {wanted:#x}"

    def _read_on(self) -> None:
        """One cycle of the reading: set an address, wait until it is there (2 cycles), compare."""
        action, row = self._script.pop(0)
        if action == "address":
            self._set("read_row", row)
            self._set("read_enable", 1)
        elif action == "data":
            expected = self.expected[0]
            if expected.touched[row]:
                values = self._row.unpack(int(self.dut.read_data.value))
                found = list(values.values())
                wanted = [int(value) for value in expected.sums[row].ravel()]
                assert found == wanted, (
                    f"row {self.rows_checked}, accumulator row {row}: found {found}, expected {wanted}"
                )
            if not self._script:
                self._set("reading", 0)
                self._free(self._queue[0])

    def _free(self, closed: dict[str, int]) -> None:
        self.dut.freed.value = 1 << closed["bank"]
        self._queue.popleft()
        self.expected.popleft()
        self.rows_checked += 1
        self._wait = self.rng.randint(0, self.pause) if self._queue else 0


async def load_weights(bench: Bench, name: str, rows: list[int]) -> None:
    """Write every row through a load port."""
    enable, row_port = getattr(bench.dut, f"load_{name}__enable"), getattr(bench.dut, f"load_{name}__row")
    enable.value = 1
    for index, row in enumerate(rows):
        row_port.value = index
        getattr(bench.dut, f"load_{name}__data").value = row
        await bench.run(1)
    enable.value = 0


@cocotb.test()
async def frames(dut: Any) -> None:
    """Accumulators, touched bits and flags of every row, counters, errors; the cycles of the steady state."""
    given = bench_parameters()
    rng = random.Random(cocotb.RANDOM_SEED)
    tile = TypeAdapter(TileParameters).validate_python(given["tile"])
    arrays = np.load(Path(str(given["data"])))
    names = ("weights", "residual_weights")[: len(tile.projections)]
    models = [ProjectionModel(tile, index, arrays[name]) for index, name in enumerate(names)]

    bench = Bench(dut)
    sources = [
        bench.add(Source(dut, INPUTS[index], WordCodec(tile, index), valid=pattern(str(given["idle"]), rng)))
        for index in range(len(models))
    ]
    reader = bench.add(Reader(dut, tile, int(given["pause"]), rng))
    pulses = bench.add(PulseCounter(dut, "pulses", Integrator.PULSES))
    errors = bench.add(PulseCounter(dut, "errors", Integrator.ERRORS))
    await bench.reset()
    for index, name in enumerate(names):
        await load_weights(bench, name, models[index].memory(index))

    count = int(given["frames"])
    work = [0]
    words_sent = 0
    for number in range(count):
        density = 0.0 if number == 1 else 1.0 if number == 2 else float(given["density"])
        malformed = 0.0 if number in (1, 2) else float(given["malformed"])
        sums = np.zeros(
            (tile.neuron.input_steps, tile.layer_channels, tile.height, tile.width), dtype=np.int64
        )
        touched = np.zeros((tile.height, tile.width, tile.groups), dtype=bool)
        error = False
        for index, model in enumerate(models):
            words = FrameMaker(tile, index, rng).words(density, malformed)
            error |= model.add(words, sums, touched)
            sources[index].send(words)
            words_sent += len(words)
        work.append(sum(model.operations for model in models))
        reader.expected.extend(_rows(tile, sums, touched, error))

    limit = (
        40 * (work[-1] + words_sent + count * tile.height * (5 * tile.bank_rows + int(given["pause"]) + 20))
        + 2000
    )
    await bench.run_until(lambda: not reader.expected, limit=limit, what="the integrator")
    await bench.run(30)

    assert reader.rows_checked == count * tile.height
    counted, flagged = pulses.totals(), errors.totals()
    assert counted["frames"] == count
    assert counted["integrate"] == work[-1], f"{counted['integrate']} operations, expected {work[-1]}"
    for name in ("events_in", "dropped"):
        wanted = sum(model.totals[name] for model in models)
        assert counted[name] == wanted, f"{name}: expected {wanted}, found {counted[name]}"
    for name in ("coordinates", "level", "rows", "kind"):
        wanted = sum(model.totals[name] for model in models)
        # Two projections may flag an error in the same cycle.
        exact = len(models) == 1
        assert flagged[name] == wanted if exact else wanted // 2 <= flagged[name] <= wanted, (
            f"{name}: expected {wanted}, found {flagged[name]}"
        )
    if given.get("steady"):
        # From the end of the first dense frame on there is always an event waiting.
        cycles = [
            later - earlier
            for earlier, later in zip(reader.frame_cycles[2:], reader.frame_cycles[3:], strict=False)
        ]
        wanted_cycles = [
            later - earlier + tile.height + int(given.get("token_cycles", 0))
            for earlier, later in itertools.pairwise(work[3:])
        ]
        assert cycles == wanted_cycles, f"frames took {cycles} cycles, expected {wanted_cycles}"


def _rows(tile: TileParameters, sums: Array, touched: NDArray[np.bool_], error: bool) -> list[ExpectedRow]:
    """The tile's slice of `sums` as closed rows of accumulator rows (lanes, T)."""
    own = sums[:, tile.channel_offset : tile.channel_offset + tile.channels]
    padded = np.pad(own, ((0, 0), (0, tile.groups * tile.lanes - tile.channels), (0, 0), (0, 0)))
    # (T, groups * lanes, H, W) to (H, W * groups, lanes, T)
    rows = padded.transpose(2, 3, 1, 0).reshape(tile.height, tile.bank_rows, tile.lanes, -1)
    return [
        ExpectedRow(
            sums=rows[y],
            touched=touched[y].reshape(-1),
            last=y == tile.height - 1,
            error=error and y == tile.height - 1,
        )
        for y in range(tile.height)
    ]
