"""Bench of :class:`~lmht.rtl.bus_accelerator.BusAccelerator` on AXI: a system's view of a whole design.

Parameters (:func:`lmht.sim.runner.bench_parameters`)
    ``parameters`` : fields of DesignParameters
    ``image_file`` : memory image
    ``frames`` : file of frames, as :func:`lmht.sim.simulation.frame_bytes` gives them
    ``logits`` : expected ones, a list for every frame
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import cocotb
import numpy as np
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)
from pydantic import TypeAdapter

from lmht.rtl.axi_lite import AxiResponse
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.registers import RegisterMap
from lmht.rtl.result_words import TRAILER, WORD_BITS, words_per_logit
from lmht.sim.axi_rules import AxiLiteRules, ChannelRules
from lmht.sim.benches.axi_frames import STREAM_SIGNALS
from lmht.sim.codecs import StructCodec
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench

RESULT_CYCLES = 20_000


class System:
    """Master, source and sink of cocotbext-axi around the design, under the rules of every handshake."""

    def __init__(self, dut: Any):
        settings = bench_parameters()
        self.dut = dut
        self.parameters = TypeAdapter(DesignParameters).validate_python(settings["parameters"])
        self.map = RegisterMap.for_design(self.parameters)
        self.words = np.fromfile(settings["image_file"], "<u4").tolist()
        size = self.parameters.frame.frame_bytes
        self.frames = np.fromfile(settings["frames"], np.uint8).reshape(-1, size)
        self.logits: list[list[int]] = settings["logits"]
        self.rng = random.Random(cocotb.RANDOM_SEED)
        self.bench = Bench(dut)
        self.rules = [
            self.bench.add(AxiLiteRules(dut, "s_axi_")),
            self.bench.add(ChannelRules(dut, "s_axis_", "t", STREAM_SIGNALS)),
            self.bench.add(ChannelRules(dut, "m_axis_", "t", STREAM_SIGNALS)),
        ]
        dut.rst.value = 1
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst)

    async def access(self, address: int, value: int | None = None) -> tuple[int, int]:
        """Data and response of a read, or of a write of `value`, at a byte address."""
        if value is None:
            operation = self.registers.init_read(address, 4)
        else:
            operation = self.registers.init_write(address, value.to_bytes(4, "little"))
        await self.bench.run_until(operation.is_set, limit=2000, what=f"the access to {address}")
        answer = operation.data
        return int.from_bytes(answer.data, "little") if value is None else 0, int(answer.resp)

    async def write(self, register: str, value: int = 0, **fields: int) -> None:
        declared = self.map[register]
        _, response = await self.access(4 * declared.address, value | declared.pack(**fields))
        assert response == AxiResponse.OKAY.value, f"{register} answered {response}"

    async def read(self, register: str) -> int:
        value, response = await self.access(4 * self.map.address(register))
        assert response == AxiResponse.OKAY.value, f"{register} answered {response}"
        return value

    async def read_fields(self, register: str) -> dict[str, int]:
        return self.map[register].unpack(await self.read(register))

    async def start(self) -> None:
        """Reset, load the memory image, accept frames."""
        await self.bench.reset(4)
        at = 6
        for _ in range(self.words[5]):
            memory, width, rows = self.words[at : at + 3]
            at += 3
            await self.write("LOAD_SELECT", memory)
            await self.write("LOAD_ROW", 0)
            for word in self.words[at : at + width * rows]:
                await self.write("LOAD_DATA", word)
            at += width * rows
        await self.write("CONTROL", enable=1)

    def pause_streams(self, probability: float) -> None:
        for port in (self.source, self.sink):
            port.set_pause_generator(self.rng.random() < probability for _ in itertools.repeat(None))

    def send(self, image: int, length: int | None = None, missing: int | None = None) -> None:
        """A frame, cut to `length` bytes, or with the byte `missing` not there."""
        content = self.frames[image].tobytes()[:length]
        keep = [int(position != missing) for position in range(len(content))]
        self.source.send_nowait(AxiStreamFrame(tdata=content, tkeep=keep))

    async def result(self) -> tuple[list[int], dict[str, int]]:
        """Logits and trailer of the next result."""
        await self.bench.run_until(lambda: not self.sink.empty(), limit=RESULT_CYCLES, what="a result")
        packet = bytes(self.sink.recv_nowait(compact=True).tdata)
        size = WORD_BITS // 8 * words_per_logit(self.parameters.logit_layout)
        logits = [
            int.from_bytes(packet[start : start + size], "little", signed=True)
            for start in range(0, len(packet) - 4, size)
        ]
        return logits, StructCodec(TRAILER).unpack(int.from_bytes(packet[-4:], "little"))

    async def check(self, image: int) -> None:
        """The next result is that of `image`."""
        logits, trailer = await self.result()
        assert logits == self.logits[image], f"image {image}: {logits}, not {self.logits[image]}"
        assert (trailer["winner"], trailer["error"]) == (int(np.argmax(logits)), 0)


@cocotb.test()
async def images_through_the_ports(dut: Any) -> None:
    """Every logit and class, with pauses on the streams and registers read meanwhile; counters and interrupt fit."""
    system = System(dut)
    await system.start()
    assert await system.read("DESIGN_HASH_HIGH") == int(system.parameters.design_hash, 16) >> 32
    await system.write("INTERRUPT_ENABLE", frame_done=1)
    done = 0
    for pause in (0.0, 0.4, 0.8):
        system.pause_streams(pause)
        for image in range(len(system.frames)):
            system.send(image)
        for image in range(len(system.frames)):
            assert (await system.read_fields("STATUS")) == {"error": 0, "swallowing": 0}
            await system.check(image)
        done += len(system.frames)
        await system.write("COMMAND", snapshot=1)
        assert await system.read("readout_frames") == done
        assert dut.interrupt_request.value
        await system.write("INTERRUPT_CAUSE", frame_done=1)
        await system.bench.run(3)
        assert not dut.interrupt_request.value


@cocotb.test()
async def refused_accesses(dut: Any) -> None:
    """Addresses without a register, and writes to read-only ones, are answered with SLVERR through the whole way."""
    system = System(dut)
    await system.bench.reset(4)
    last = max(register.address for register in system.map.registers)
    for address, value in ((last + 1, None), (last + 1, 5), (system.map.address("ID"), 5), (4095, None)):
        assert (await system.access(4 * address, value))[1] == AxiResponse.SLVERR.value
    assert (await system.access(4 * system.map.address("COMMAND")))[1] == AxiResponse.SLVERR.value
    assert await system.read("ID") == 0x4C4D4854


@cocotb.test()
async def malformed_frames_and_soft_resets(dut: Any) -> None:
    """A short packet, one with a hole, and a reset in the middle of a frame leave the next frame right."""
    system = System(dut)
    await system.start()
    rng = system.rng
    size = system.parameters.frame.frame_bytes
    for _ in range(4):
        system.pause_streams(rng.choice((0.0, 0.5)))
        image = rng.randrange(len(system.frames))
        for damage in ({"length": rng.randrange(1, size)}, {"missing": rng.randrange(size)}):
            system.send(image, **damage)
            system.send(image)
            _, trailer = await system.result()
            assert trailer["error"] == 1, f"the result of a packet with {damage} is not flagged"
            await system.check(image)
        first = await system.read_fields("FIRST_ERROR")
        assert (first["valid"], first["stage"]) == (1, 0)
        await system.write("COMMAND", clear=1)

        system.send(image)
        await system.bench.run(rng.randrange(1, 60))
        await system.write("COMMAND", soft_reset=1)
        await system.bench.run_until(lambda: system.source.idle(), limit=RESULT_CYCLES)
        await system.bench.run(2000)
        while not system.sink.empty():
            await system.result()
        system.send(image)
        await system.check(image)
