"""Bench of :class:`~lmht.rtl.update_sequencer.UpdateSequencer`: banks that close and their memory, against plain loops.

Parameters: ``tile``, keyword arguments of :func:`sequencer_parameters`.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any

import cocotb

from lmht.rtl.address_generator import fetch_layout
from lmht.rtl.events import EventLayout
from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.pixel_walk import closed_layout
from lmht.rtl.projection import IMAGE, ProjectionParameters
from lmht.rtl.synapse_lanes import FETCH_CYCLES, accumulator_row_layout
from lmht.rtl.tile_parameters import TileParameters
from lmht.rtl.update_sequencer import UpdateSequencer, update_row_layout
from lmht.sim.benches.support import bench_rng, crossed, plant_fault
from lmht.sim.codecs import StructCodec
from lmht.sim.patterns import Pattern, always, pattern
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, PulseCounter, Sink

ACCUMULATOR_BITS = 9
INPUT_STEPS = 2
AWAY_CYCLES = 9
"""From the closing of a row to the first request for it, and from the last one to the next closing."""


def sequencer_parameters(
    *,
    width: int,
    height: int,
    channels: int,
    lanes: int,
    update_lanes: int,
    kernel: int = 1,
    channel_groups: int = 1,
    levels: int | None = 2,
    skip_quiet: bool = True,
    constant_events: bool = False,
) -> TileParameters:
    """A tile of which map, lanes and banks (by the height of the kernel) are given."""
    classifier = levels is None
    source = EventLayout.for_levels(
        height=height, width=width, channels=channel_groups, steps=INPUT_STEPS, max_level=2
    )
    return TileParameters(
        name="tile",
        layer=0,
        projections=(
            ProjectionParameters(
                source=IMAGE,
                input=source,
                kernel=(kernel, 1),
                padding=(kernel // 2, 0),
                channel_groups=channel_groups,
                weight_bits=4,
            ),
        ),
        layer_channels=channels,
        channel_offset=0,
        channels=channels,
        lanes=lanes,
        update_lanes=update_lanes,
        skip_quiet=skip_quiet,
        constant_events=constant_events,
        neuron=NeuronParameters(
            input_steps=INPUT_STEPS,
            steps=1 if classifier else 2,
            levels=levels,
            accumulator_bits=ACCUMULATOR_BITS,
            multiplier_bits=8,
            shift=0 if classifier else 4,
            mix_bits=20,
            bias_bits=8,
            current_bits=20,
        ),
    )


@dataclass
class ClosedRow:
    """A row of the map that closes: accumulator rows as words, which of them are touched, what ends with it."""

    rows: list[int]
    touched: int
    frame: bool
    error: bool


class Banks:
    """The integrating side: closes rows in the banks' turn as soon as they are free, and answers what is fetched.

    A bank that was freed holds something else from the next cycle on, and so do its touched bits.
    """

    def __init__(self, dut: Any, parameters: TileParameters, rng: random.Random):
        self.dut = dut
        self.parameters = parameters
        self.rng = rng
        self.queue: list[ClosedRow] = []
        self.pattern: Pattern = always
        self.word_bits = accumulator_row_layout(parameters).size
        self.touched_bits = parameters.width * (parameters.groups if parameters.partial else 1)
        self._closed = StructCodec(closed_layout(parameters.banks))
        self._fetch = StructCodec(fetch_layout(parameters))

    def start(self, bench: Bench) -> None:
        banks = range(self.parameters.banks)
        self.rows = [self._noise() for _ in banks]
        self.touched = [0 for _ in banks]
        self.busy = [False for _ in banks]
        self.next = 0
        self.answers = [0] * (FETCH_CYCLES - 1)
        self.dut.closed_valid.value = 0
        self.dut.touched.value = 0

    def _noise(self) -> list[int]:
        return [self.rng.getrandbits(self.word_bits) for _ in range(self.parameters.bank_rows)]

    def step(self) -> None:
        dut = self.dut
        self._answer()
        freed = int(dut.freed.value)
        for bank in range(self.parameters.banks):
            if freed >> bank & 1:
                assert self.busy[bank], f"bank {bank} was freed twice"
                self.busy[bank] = False
                self.rows[bank] = self._noise()
                self.touched[bank] = self.rng.getrandbits(self.touched_bits)
        closes = bool(self.queue) and not self.busy[self.next] and self.pattern()
        dut.closed_valid.value = int(closes)
        if closes:
            row = self.queue.pop(0)
            bank = self.next
            dut.closed.value = self._closed.pack(
                {"bank": bank, "last": int(row.frame), "error": int(row.error)}
            )
            self.rows[bank], self.touched[bank], self.busy[bank] = row.rows, row.touched, True
            self.next = (bank + 1) % self.parameters.banks
        dut.touched.value = sum(bits << self.touched_bits * bank for bank, bits in enumerate(self.touched))

    def _answer(self) -> None:
        """What was fetched `FETCH_CYCLES` ago; in between, noise."""
        dut = self.dut
        answer = self.rng.getrandbits(self.word_bits)
        if int(dut.fetch_valid.value):
            fetch = self._fetch.unpack(int(dut.fetch.value))
            bank, row = fetch.get("bank", 0), fetch.get("row", 0)
            assert self.busy[bank], f"bank {bank} is fetched after it was freed"
            answer = self.rows[bank][row]
        self.answers = [*self.answers, answer]
        dut.read_data.value = self.answers.pop(0)


class SequencerBench(Bench):
    """Banks, a sink and a counter around an update sequencer."""

    def __init__(self, dut: Any):
        super().__init__(dut)
        self.parameters = sequencer_parameters(**bench_parameters()["tile"])
        self.rng = bench_rng()
        self.banks = self.add(Banks(dut, self.parameters, self.rng))
        self.sink = self.add(Sink(dut, "o", StructCodec(update_row_layout(self.parameters))))
        self.pulses = self.add(PulseCounter(dut, "pulses", UpdateSequencer.PULSES))
        self.skipped = 0
        dut.silent.value = 0
        plant_fault(dut)

    @property
    def skips(self) -> bool:
        parameters = self.parameters
        silent = bool(int(self.dut.silent.value))
        return silent and parameters.skip_quiet and not parameters.neuron.is_classifier

    def row(self, density: float) -> ClosedRow:
        banks, rng = self.banks, self.rng
        touched = sum((rng.random() < density) << bit for bit in range(banks.touched_bits))
        return ClosedRow(banks._noise(), touched, rng.random() < 0.3, rng.random() < 0.3)

    def expected(self, row: ClosedRow) -> list[dict[str, int]]:
        """Update rows of a closed row."""
        parameters = self.parameters
        groups, lanes = parameters.groups, parameters.update_lanes
        neuron_bits = INPUT_STEPS * ACCUMULATOR_BITS
        words: list[dict[str, int]] = []
        for x in range(parameters.width):
            if parameters.partial:
                touched = [row.touched >> x * groups + group & 1 for group in range(groups)]
            else:
                touched = [row.touched >> x & 1] * groups
            if self.skips and not any(touched):
                self.skipped += 1
                continue
            neurons = [
                (row.rows[x * groups + group] >> lane * neuron_bits) & (1 << neuron_bits) - 1
                if touched[group]
                else 0
                for group in range(groups)
                for lane in range(parameters.lanes)
            ]
            for first in range(0, parameters.channels, lanes):
                packed = sum(
                    value << i * neuron_bits for i, value in enumerate(neurons[first : first + lanes])
                )
                quiet = int(parameters.constant_events and not any(touched))
                words.append({"x": x, "accumulators": packed, "empty": 0, "quiet": quiet, "last": 0})
        if not words:
            words = [{"empty": 1, "quiet": 0}]
        words[-1] |= {"last": 1, "frame": int(row.frame)}
        if row.frame:
            words[-1]["error"] = int(row.error)
        return words

    async def check(self, rows: list[ClosedRow], *, limit: int = 0) -> None:
        """Close rows and compare all that comes out with the reference."""
        wanted = [word for row in rows for word in self.expected(row)]
        self.banks.queue += rows
        await self.run_until(
            lambda: len(self.sink.words) >= len(wanted), limit=limit or 100 * len(wanted) + 500
        )
        await self.run(10)
        fields = self.sink.codec.fields  # type: ignore[union-attr]
        offset = min(start for name, (start, _) in fields.items() if name.startswith("accumulators"))
        assert len(self.sink.words) == len(wanted), f"{len(self.sink.words)} words, expected {len(wanted)}"
        for number, (word, values, want) in enumerate(
            zip(self.sink.words, self.sink.items, wanted, strict=True)
        ):
            found = {name: values[name] if name in values else word >> offset for name in want}
            assert found == want, f"word {number}: {found}, expected {want}"
        assert self.pulses.totals()["skipped"] == self.skipped, f"{self.pulses.totals()}, not {self.skipped}"


@cocotb.test()
async def rows(dut: Any) -> None:
    """Rows of all densities under every pair of patterns, with and without silent pixels."""
    bench = SequencerBench(dut)
    await bench.reset()
    for silent in (0, 1):
        dut.silent.value = silent
        await bench.run(2)
        for _, closes, accepts in crossed(bench.rng):
            bench.banks.pattern, bench.sink.pattern = closes, accepts
            await bench.check([bench.row(density) for density in (0.0, 0.02, 0.0, 0.3, 1.0, 0.0)])
            bench.sink.take()


@cocotb.test()
async def gaps(dut: Any) -> None:
    """Rows that close now and then."""
    bench = SequencerBench(dut)
    bench.sink.pattern = pattern("often", bench.rng)
    await bench.reset()
    dut.silent.value = 1
    await bench.run(2)
    for density in (0.1, 0.0, 1.0, 0.0, 0.05):
        await bench.check([bench.row(density)])
        bench.sink.take()


@cocotb.test()
async def throughput(dut: Any) -> None:
    """Update rows leave as fast as the neuron array takes them; a row of the map costs at most 2 more, an untouched one
    its share of a round through the banks."""
    bench = SequencerBench(dut)
    parameters = bench.parameters
    cycles = 1 if parameters.constant_events else parameters.mix_phases
    turns = itertools.cycle([True] + [False] * (cycles - 1))
    bench.sink.pattern = lambda: next(turns)
    await bench.reset()
    dut.silent.value = 1
    await bench.run(2)
    count = 12
    for density in (0.0, 1.0):
        await bench.check([bench.row(density) for _ in range(count)])
        taken = bench.sink.cycles[-1] - bench.sink.cycles[0] + 1
        work = len(bench.sink.words) * cycles
        # From its closing to the end of its reading a bank is away for some cycles: with two banks that shows.
        row = max(work // count + 2, -(-(work // count + AWAY_CYCLES) // (parameters.banks - 1)))
        assert taken <= count * row, f"{taken} cycles for work of {work} in {count} rows, not {count * row}"
        bench.sink.take()
