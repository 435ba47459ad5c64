"""Bench of soft resets of the whole design: whatever is in flight is given up, and the next frame is right.

Parameters (:func:`lmht.sim.runner.bench_parameters`)
    ``parameters``, ``image_file``, ``frames``, ``idle``, ``back_pressure`` : as for :mod:`lmht.sim.benches.accelerator`
    ``rounds`` : soft resets
"""

from __future__ import annotations

import random
from typing import Any

import cocotb

from lmht.rtl.readout import result_layout
from lmht.sim.benches.accelerator import Accelerator
from lmht.sim.codecs import StructCodec
from lmht.sim.runner import bench_parameters
from lmht.sim.simulation import stall_cycles


class _Frames:
    """A loaded design, its frames, and what each gives without disturbance."""

    def __init__(self, dut: Any):
        settings = dict(bench_parameters())
        self.design = Accelerator(dut, settings)
        self.rounds: int = settings["rounds"]
        self.bench, self.bus = self.design.bench, self.design.bus
        self.source, self.sink = self.design.source, self.design.sink
        self.beats = self.design.parameters.frame.beats
        self.codec = StructCodec(result_layout(self.design.parameters.logit_layout))
        self.limit = stall_cycles(self.design.parameters)
        self.rng = random.Random(cocotb.RANDOM_SEED)
        self.expected: list[list[int]] = []
        self.longest = 0  # cycles from a frame's first beat to its result

    async def start(self) -> None:
        await self.bench.reset()
        await self.design.load()
        for image in range(self.design.images):
            begin = self.bench.cycle
            self.expected.append(await self.result_of(image))
            self.longest = max(self.longest, self.bench.cycle - begin)

    def beats_of(self, image: int) -> list[dict[str, int]]:
        return self.design.beats[image * self.beats : (image + 1) * self.beats]

    def is_last(self, word: int) -> bool:
        return bool(self.codec.unpack(word)["last"])

    async def result_of(self, image: int) -> list[int]:
        """Send a frame and take its result."""
        assert not self.sink.words, f"words were left over: {self.sink.words}"
        self.source.send(self.beats_of(image))
        await self.bench.run_until(self._complete, limit=self.limit, what=f"image {image}")
        return self.sink.take()

    def _complete(self) -> bool:
        return bool(self.sink.words) and self.is_last(self.sink.words[-1])

    async def check_next_frames(self, what: str) -> None:
        """Two frames after what happened are right."""
        for _ in range(2):
            image = self.rng.randrange(self.design.images)
            found = await self.result_of(image)
            assert found == self.expected[image], f"{what}: image {image} gave {found}"

    def check_rest(self, words: list[int], streaming: int) -> None:
        """What came around a reset: whole results, at most the last one closed with an error."""
        results: list[list[int]] = [[]]
        for word in words:
            results[-1].append(word)
            if self.is_last(word):
                results.append([])
        assert results.pop() == [], f"a result was left open: {words}"
        assert len(results) <= streaming
        for number, result in enumerate(results):
            closing = self.codec.unpack(result[-1])
            if closing["error"]:
                assert number == len(results) - 1, "a result behind the one that was cut off"
                assert len(result) > 1, "a frame of which nothing had come left a word"
                assert result[-1] == self.codec.pack({"last": 1, "error": 1})
            else:
                assert len(result) == self.design.parameters.classes + 1


@cocotb.test()
async def next_frame_is_right(dut: Any) -> None:
    """A reset at any time, also several frames deep and inside one; the source goes on with its frame."""
    frames = _Frames(dut)
    await frames.start()
    rng = frames.rng
    cut_off = 0
    for number in range(frames.rounds):
        count = rng.randrange(1, 4)
        accepts = frames.sink.pattern
        for _ in range(count):
            frames.source.send(frames.beats_of(rng.randrange(frames.design.images)))
        if number % 2:
            await frames.bench.run(rng.randrange(1, 2 * frames.longest))
        else:
            # Amid the words of a result: the rest is held back until the command acts.
            await frames.bench.run_until(lambda: bool(frames.sink.words), limit=frames.limit)
            await frames.bench.run(rng.randrange(3))
            frames.sink.pattern = lambda: False
        await frames.bus.write("COMMAND", soft_reset=1)
        frames.sink.pattern = accepts
        # What was not begun before the reset is a frame like any other: let it come out.
        await frames.bench.run_until(lambda: frames.source.idle, limit=frames.limit * count)
        await frames.bench.run(4 * frames.longest)
        words = frames.sink.take()
        cut_off += sum(frames.codec.unpack(word)["error"] for word in words)
        frames.check_rest(words, count)
        assert (await frames.bus.read_fields("STATUS")) == {"error": 0, "swallowing": 0}
        await frames.check_next_frames(f"round {number}")
    assert cut_off, "no reset met a result that had begun: nothing was shown"


@cocotb.test()
async def source_may_begin_anew(dut: Any) -> None:
    """With `new_frame` the source may drop the rest of its frame as well; without, the rest is awaited."""
    frames = _Frames(dut)
    await frames.start()
    rng = frames.rng
    for number in range(frames.rounds):
        image = rng.randrange(frames.design.images)
        begun = rng.randrange(1, frames.beats)
        frames.source.send(frames.beats_of(image)[:begun])
        await frames.bench.run_until(lambda: frames.source.idle, limit=frames.limit)
        await frames.bench.run(rng.randrange(20))
        await frames.bus.write("COMMAND", soft_reset=1)
        assert (await frames.bus.read_fields("STATUS"))["swallowing"] == 1
        if number % 2:
            frames.source.send(frames.beats_of(image)[begun:])
            await frames.bench.run_until(lambda: frames.source.idle, limit=frames.limit)
        else:
            await frames.bus.write("COMMAND", soft_reset=1, new_frame=1)
        assert (await frames.bus.read_fields("STATUS"))["swallowing"] == 0
        await frames.check_next_frames(f"round {number}")
