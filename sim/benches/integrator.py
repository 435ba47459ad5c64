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

from lmht.gen.work import CLOSING_CYCLES
from lmht.rtl.address_generator import fetch_layout
from lmht.rtl.integrator import Integrator
from lmht.rtl.pixel_walk import closed_layout
from lmht.rtl.row_scheduler import INPUTS
from lmht.rtl.synapse_lanes import FETCH_CYCLES, accumulator_row_layout
from lmht.rtl.tile_parameters import TileParameters
from lmht.sim.benches.integrator_model import FrameMaker, ProjectionModel, WordCodec
from lmht.sim.codecs import StructCodec
from lmht.sim.patterns import pattern
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, PulseCounter, Source

Array = NDArray[np.int64]


@dataclass(frozen=True)
class ExpectedRow:
    """A closed row: its accumulators by accumulator row, whether each was touched, end and flag of its frame.

    ``latest`` is the accumulator row that was added to last, where there is one.
    """

    sums: Array
    touched: NDArray[np.bool_]
    latest: int | None
    last: bool
    error: bool


@dataclass
class _Fetch:
    """An accumulator row that was asked for: when its answer is there, what it must be, and where it lies."""

    due: int
    wanted: list[int] | None
    place: str


class Reader:
    """Fetches all rows of every bank that closes after a pause, checks them and frees it, as the update would."""

    def __init__(self, dut: Any, tile: TileParameters, pause: int, rng: random.Random):
        self.dut, self.tile, self.pause, self.rng = dut, tile, pause, rng
        self.expected: deque[ExpectedRow] = deque()
        self.rows_checked = 0
        self.frame_cycles: list[int] = []
        self._closed = StructCodec(closed_layout(tile.banks))
        self._fetch = StructCodec(fetch_layout(tile))
        self._row = StructCodec(accumulator_row_layout(tile))
        self._queue: deque[dict[str, int]] = deque()
        self._wait = 0
        self._rows_left: list[int] = []
        self._fetches: deque[_Fetch] = deque()

    @property
    def done(self) -> bool:
        return not self.expected and not self._fetches

    def start(self, bench: Bench) -> None:
        self.bench = bench
        self.dut.freed.value = 0
        self.dut.fetch_valid.value = 0

    def step(self) -> None:
        dut = self.dut
        dut.freed.value = 0
        dut.fetch_valid.value = 0
        self._check_answer()
        if dut.closed_valid.value:
            closed = self._closed.unpack(int(dut.closed.value))
            closed.setdefault("bank", 0)
            if closed["last"]:
                self.frame_cycles.append(self.bench.cycle)
            self._queue.append(closed)
            self._wait = self._wait or self.rng.randint(0, self.pause)
        if self._rows_left:
            self._read_on()
        elif self._queue and self._wait:
            self._wait -= 1
        elif self._queue:
            self._check_closing(self._queue[0])
            if self.pause:
                self._rows_left = self.rng.sample(range(self.tile.bank_rows), self.tile.bank_rows)
                latest = self.expected[0].latest
                if latest is not None and self.rng.random() < 0.5:
                    # What was written last may not be there yet.
                    self._rows_left.remove(latest)
                    self._rows_left.append(latest)
                self._read_on()
            else:
                self._free(self._queue[0])

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
        """Ask for a row, now and then a cycle later; the bank is freed with the last one."""
        if self.rng.random() < 0.2:
            return
        bank, row = self._queue[0]["bank"], self._rows_left.pop()
        self.dut.fetch.value = self._fetch.pack({"bank": bank, "row": row})
        self.dut.fetch_valid.value = 1
        expected = self.expected[0]
        self._fetches.append(
            _Fetch(
                due=self.bench.cycle + 1 + FETCH_CYCLES,
                # What no event has met holds anything.
                wanted=[int(value) for value in expected.sums[row].ravel()]
                if expected.touched[row]
                else None,
                place=f"row {self.rows_checked}, accumulator row {row}",
            )
        )
        if not self._rows_left:
            self._free(self._queue[0])

    def _check_answer(self) -> None:
        if self._fetches and self._fetches[0].due == self.bench.cycle:
            fetch = self._fetches.popleft()
            found = list(self._row.unpack(int(self.dut.read_data.value)).values())
            assert fetch.wanted in (None, found), f"{fetch.place}: found {found}, expected {fetch.wanted}"

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
        latest = {row: place for model in models for row, place in model.latest.items()}
        reader.expected.extend(_rows(tile, sums, touched, latest, error))

    limit = (
        40 * (work[-1] + words_sent + count * tile.height * (5 * tile.bank_rows + int(given["pause"]) + 20))
        + 2000
    )
    await bench.run_until(lambda: reader.done, limit=limit, what="the integrator")
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
            later - earlier + CLOSING_CYCLES * tile.height + int(given.get("token_cycles", 0))
            for earlier, later in itertools.pairwise(work[3:])
        ]
        # A row end may show where the last event before it is short.
        shown = int(given.get("shown_row_ends", 0))
        assert all(0 <= found - least <= shown for found, least in zip(cycles, wanted_cycles, strict=True)), (
            f"frames took {cycles} cycles, expected {wanted_cycles} and up to {shown} more"
        )


def _rows(
    tile: TileParameters, sums: Array, touched: NDArray[np.bool_], latest: dict[int, int], error: bool
) -> list[ExpectedRow]:
    """The tile's slice of `sums` as closed rows of accumulator rows (lanes, T)."""
    own = sums[:, tile.channel_offset : tile.channel_offset + tile.channels]
    padded = np.pad(own, ((0, 0), (0, tile.groups * tile.lanes - tile.channels), (0, 0), (0, 0)))
    # (T, groups * lanes, H, W) to (H, W * groups, lanes, T)
    rows = padded.transpose(2, 3, 1, 0).reshape(tile.height, tile.bank_rows, tile.lanes, -1)
    return [
        ExpectedRow(
            sums=rows[y],
            touched=touched[y].reshape(-1),
            latest=latest.get(y),
            last=y == tile.height - 1,
            error=error and y == tile.height - 1,
        )
        for y in range(tile.height)
    ]
