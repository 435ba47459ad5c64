"""Bench of the top level: load the image through the bus, stream images, check every logit.

Parameters (:func:`lmht.sim.runner.bench_parameters`)
    ``parameters`` : fields of DesignParameters
    ``image_file`` : memory image
    ``frames`` : file of frames, as :func:`lmht.sim.simulation.frame_bytes` gives them
    ``folder`` : where the files of :mod:`lmht.sim.simulation` go
    ``idle``, ``back_pressure`` : probabilities
    ``observe`` : first and end of the images whose words at all taps are recorded, or absent
    ``nets`` : nets of every tap, with ``observe``
    ``expected`` : npz with ``logits`` (N, classes) and, to compare after every layer, ``levels<layer>``
        (T, N, positions on the link); absent: nothing is compared
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cocotb
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from lmht.rtl.frame_encoder import frame_beat_layout
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.readout import result_layout
from lmht.rtl.registers import RegisterMap
from lmht.sim.benches.bus import BusInitiator
from lmht.sim.codecs import StructCodec
from lmht.sim.patterns import Pattern, always, randomly
from lmht.sim.runner import bench_parameters
from lmht.sim.simulation import (
    EVENTS_FILE,
    MISSING_LOGIT,
    RESULTS_FILE,
    STATUS_FILE,
    event_dtype,
    image_dtype,
    stall_cycles,
)
from lmht.sim.stream import Bench, Monitor, Sink, Source
from lmht.sim.taps import KIND_CODES, decode_words, design_taps

_DRAIN_CYCLES = 64


class Results:
    """Turns result words into records, one per image."""

    def __init__(self, parameters: DesignParameters):
        self._codec = StructCodec(result_layout(parameters.logit_layout))
        self._dtype = image_dtype(parameters.classes)
        self._classes = parameters.classes
        self.records: list[Any] = []
        self._record = self._empty()

    def _empty(self) -> Any:
        record = np.zeros((), self._dtype)[()]
        record["logits"] = MISSING_LOGIT
        return record

    def add(self, word: int, cycle: int) -> bool:
        """Take one word; true if it completes an image."""
        fields = self._codec.unpack(word)
        if not fields["last"]:
            self._record["words"] += 1
            if fields["channel"] < self._classes:
                self._record["logits"][fields["channel"]] = fields["value"]
            return False
        self._record["winner"], self._record["error"] = fields["channel"], fields["error"]
        self._record["result"] = cycle
        self.records.append(self._record)
        self._record = self._empty()
        return True


class Accelerator:
    """The design under test with its agents."""

    def __init__(self, dut: Any, settings: dict[str, Any]):
        self.settings = settings
        self.parameters = TypeAdapter(DesignParameters).validate_python(settings["parameters"])
        self.map = RegisterMap.for_design(self.parameters)
        frame = self.parameters.frame
        frames: NDArray[np.uint8] = np.fromfile(settings["frames"], np.uint8).reshape(-1, frame.frame_bytes)
        self.images = len(frames)
        rng = random.Random(cocotb.RANDOM_SEED)
        self.bench = Bench(dut)
        self.bus = BusInitiator(self.bench, self.map)
        self.source = self.bench.add(
            Source(dut, "frames", StructCodec(frame_beat_layout(frame)), valid=_rate(settings["idle"], rng))
        )
        self.sink = self.bench.add(Sink(dut, "results", ready=_rate(settings["back_pressure"], rng)))
        self.inputs = self.bench.add(Monitor(dut, "frames"))
        self.taps = design_taps(self.parameters)
        self.monitors = [
            self.bench.add(Monitor(_net_handles(dut, nets), "tap")) for nets in settings.get("nets", [])
        ]
        expected = settings.get("expected")
        self.expected: dict[str, NDArray[np.int64]] | None = dict(np.load(expected)) if expected else None
        self.beats = [beat for image in frames for beat in self._beats(image)]

    def _beats(self, image: NDArray[np.uint8]) -> list[dict[str, int]]:
        frame = self.parameters.frame
        size = frame.bytes_per_beat
        return [
            {
                "data": int.from_bytes(image[beat * size : (beat + 1) * size].tobytes(), "little"),
                "last": int(beat == frame.beats - 1),
            }
            for beat in range(frame.beats)
        ]

    async def load(self) -> None:
        """Write the image into the memories and enable the design."""
        words = np.fromfile(self.settings["image_file"], "<u4").tolist()
        data, at = self.map.address("LOAD_DATA"), 6
        for _ in range(words[5]):
            memory, width, rows = words[at : at + 3]
            await self.bus.write("LOAD_SELECT", memory)
            await self.bus.write("LOAD_ROW", 0)
            at += 3
            for word in words[at : at + width * rows]:
                await self.bus.write_address(data, word)
            at += width * rows
        await self.bus.write("COMMAND", clear=1)
        await self.bus.write("CONTROL", enable=1)

    async def registers(self) -> dict[str, int]:
        """Every readable register, all counters at one time."""
        await self.bus.write("COMMAND", snapshot=1)
        return {
            register.name: await self.bus.read_address(register.address)
            for register in self.map.registers
            if register.readable
        }

    async def stream(self, results: Results) -> bool:
        """Send all images and collect their results; false if the design stalled."""
        self.source.send(self.beats)
        for monitor in (self.sink, self.inputs, *self.monitors):
            monitor.take()
        bench, sink, source = self.bench, self.sink, self.source
        begin, limit = bench.cycle, stall_cycles(self.parameters)
        taken, moved, last_move = 0, -1, begin

        def over() -> bool:
            nonlocal taken, moved, last_move
            while taken < len(sink.words):
                if results.add(sink.words[taken], sink.cycles[taken] - begin):
                    self.check_logits(results.records)
                taken += 1
            if taken + source.accepted != moved:
                moved, last_move = taken + source.accepted, bench.cycle
            return len(results.records) >= self.images or bench.cycle - last_move > limit

        await bench.run_until(over, limit=sys.maxsize)
        starts = self.inputs.cycles[:: self.parameters.frame.beats]
        for record, start in zip(results.records, starts, strict=False):
            record["first_beat"] = start - begin
        return len(results.records) >= self.images

    def check_logits(self, records: list[Any]) -> None:
        """Compare the newest image with the expected logits."""
        if self.expected is None:
            return
        image = len(records) - 1
        found, wanted = records[-1]["logits"], self.expected["logits"][image]
        wrong = np.flatnonzero(found != wanted)
        assert not len(wrong), f"image {image}: logit {wrong[0]} is {found[wrong[0]]}, not {wanted[wrong[0]]}"

    def check_levels(self, events: NDArray[np.void]) -> None:
        """Compare the events at every hidden tile's output with the expected levels, neuron by neuron."""
        for index, tap in enumerate(self.taps):
            name = f"levels{tap.source}"
            if self.expected is None or not tap.sends or name not in self.expected:
                continue
            tile = next(tile for tile in self.parameters.tiles if tile.name == tap.stage)
            seen = events[events["tap"] == index]
            words = decode_words(tap.layout, seen["payload"], seen["cycle"], seen["image"])
            channels = np.arange(tap.layout.positions) % tap.layout.channels - tile.channel_offset
            own = (channels >= 0) & (channels < tile.channels)
            for image in range(*self.settings["observe"]):
                part = words.of_image(image)
                found = np.zeros((tap.layout.positions, tap.layout.steps), np.int64)
                found[part.position[part.events]] = part.levels[part.events]
                wanted = self.expected[name][:, image].T
                wrong = np.argwhere((found != wanted) & own[:, None])
                if len(wrong):
                    neuron, step = wrong[0]
                    raise AssertionError(
                        f"image {image}, layer {tile.layer}, neuron {neuron}, step {step}: level "
                        f"{found[neuron, step]}, not {wanted[neuron, step]}"
                    )

    def events(self) -> NDArray[np.void]:
        """The words at all taps, for the images asked for."""
        first, end = self.settings["observe"]
        dtype = event_dtype(self.parameters)
        chunks = []
        for index, (tap, monitor) in enumerate(zip(self.taps, self.monitors, strict=True)):
            offset, width = tap.layout.fields()["kind"]
            words = np.zeros(len(monitor.words), dtype)
            words["cycle"] = monitor.cycles
            words["tap"] = index
            for part in range(words["payload"].shape[1]):
                words["payload"][:, part] = [(word >> 64 * part) & (2**64 - 1) for word in monitor.words]
            ends = [(word >> offset) & (2**width - 1) == KIND_CODES["FRAME_END"] for word in monitor.words]
            words["image"] = np.cumsum(ends) - ends
            chunks.append(words[(words["image"] >= first) & (words["image"] < end)])
        return np.concatenate(chunks)


@cocotb.test()
async def streams_images(dut: Any) -> None:
    """Every logit of every image is the expected one."""
    settings: dict[str, Any] = dict(bench_parameters())
    design = Accelerator(dut, settings)
    folder = Path(settings["folder"])
    await design.bench.reset()
    await design.load()
    results = Results(design.parameters)
    start, begin = time.perf_counter(), design.bench.cycle
    try:
        finished = await design.stream(results)
        seconds, cycles = time.perf_counter() - start, design.bench.cycle - begin
        before = len(design.sink.words)
        await design.bench.run(_DRAIN_CYCLES)
        status = {
            "received": len(results.records),
            "surplus": len(design.sink.words) - before,
            "stalled": not finished,
            "cycles": cycles,
            "seconds": seconds,
            "taps": {},
            "registers": await design.registers(),
        }
        (folder / STATUS_FILE).write_text(json.dumps(status))
    finally:
        np.array(results.records, image_dtype(design.parameters.classes)).tofile(folder / RESULTS_FILE)
        if "observe" in settings:
            events = design.events()
            events.tofile(folder / EVENTS_FILE)
    if "observe" in settings:
        design.check_levels(events)


def _rate(probability: float, rng: random.Random) -> Pattern:
    return randomly(1 - probability, rng) if probability else always


def _net_handles(dut: Any, nets: list[str]) -> SimpleNamespace:
    valid, ready, payload = (getattr(dut, net) for net in nets)
    return SimpleNamespace(tap__valid=valid, tap__ready=ready, tap__payload=payload)
