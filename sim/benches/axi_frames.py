"""Bench of :class:`~lmht.rtl.axi_stream.AxiStreamFrames`: cocotbext-axi sends packets, good and bad ones.

Parameters (JSON): ``frame`` (fields of FrameParameters), ``packets``.
"""

from __future__ import annotations

import itertools
import random
from functools import partial
from typing import Any

import cocotb
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSource

from lmht.rtl.frame_encoder import frame_beat_layout
from lmht.rtl.parameters import FrameParameters
from lmht.sim.axi_rules import ChannelRules
from lmht.sim.codecs import StructCodec
from lmht.sim.patterns import pattern
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, Sink

STREAM_SIGNALS = ("tdata", "tkeep", "tlast")

Encoded = tuple[bytes, bool]
"""What an encoder makes of a frame: its bytes, and whether it was malformed."""


def encoded(beats: list[dict[str, int]], frame: FrameParameters) -> list[Encoded]:
    """Frames as the encoder reads them from its beats (see :class:`~lmht.rtl.frame_encoder.FrameEncoder`)."""
    frames: list[Encoded] = []
    content = bytearray()
    for count, beat in _counted(beats):
        if count < frame.beats:
            content += beat["data"].to_bytes(frame.bytes_per_beat, "little")
        if beat["last"]:
            whole = bytes(content[: frame.frame_bytes]).ljust(frame.frame_bytes, b"\0")
            frames.append((whole, count != frame.beats - 1))
            content.clear()
    assert not content, "a frame was left open"
    return frames


def _counted(beats: list[dict[str, int]]) -> Any:
    count = 0
    for beat in beats:
        yield count, beat
        count = 0 if beat["last"] else count + 1


def expected(packet: AxiStreamFrame, frame: FrameParameters) -> Encoded:
    """What a packet stands for."""
    size, wanted = frame.bytes_per_beat, frame.frame_bytes
    there = [byte if keep else None for byte, keep in zip(packet.tdata, packet.tkeep, strict=True)]
    late = -(-len(there) // size) > frame.beats
    there = there[:wanted] + [None] * (wanted - len(there))
    return bytes(byte or 0 for byte in there), late or None in there


def _closed(sink: Sink, frame: FrameParameters, count: int) -> bool:
    offset = frame_beat_layout(frame)["last"].offset
    return sum(word >> offset for word in sink.words) >= count


def random_packet(rng: random.Random, frame: FrameParameters) -> AxiStreamFrame:
    """Half of them good; the others too short, too long, or with holes."""
    wanted, size = frame.frame_bytes, frame.bytes_per_beat
    kind = rng.choice(("good", "good", "good", "padded", "short", "long", "holes"))
    length = {
        "padded": frame.beats * size,
        "short": rng.randrange(1, max(2, wanted)),
        "long": rng.randrange(wanted + 1, wanted + 3 * size + 1),
    }.get(kind, wanted)
    keep = [1] * length
    if kind == "holes":
        for position in rng.sample(range(length), rng.randrange(1, min(4, length) + 1)):
            keep[position] = 0
    return AxiStreamFrame(tdata=bytes(rng.randrange(256) for _ in range(length)), tkeep=keep)


@cocotb.test()
async def packets_become_frames(dut: Any) -> None:
    """Bytes and flag of every packet, under idle and back-pressure; a bad one leaves no trace in the next."""
    settings = bench_parameters()
    frame = FrameParameters(**settings["frame"])
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = Bench(dut)
    rules = bench.add(ChannelRules(dut, "axi__", "t", STREAM_SIGNALS))
    sink = bench.add(Sink(dut, "o", StructCodec(frame_beat_layout(frame))))
    dut.rst.value = 1
    source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "axi_"), dut.clk, dut.rst)
    await bench.reset(4)
    for idle, ready in itertools.product((0.0, 0.5), ("always", "half", "bursts")):
        source.set_pause_generator(rng.random() < idle for _ in itertools.repeat(None))
        sink.pattern = pattern(ready, rng)
        packets = [random_packet(rng, frame) for _ in range(settings["packets"])]
        wanted = [expected(packet, frame) for packet in packets]
        assert {flag for _, flag in wanted} == {False, True}
        for packet in packets:
            source.send_nowait(packet)
        limit = 40 * len(packets) * (frame.beats + 4)
        await bench.run_until(partial(_closed, sink, frame, len(wanted)), limit=limit)
        assert encoded(sink.items, frame) == wanted
        sink.take()
    assert rules.waits
    assert rules.transfers


@cocotb.test()
async def full_rate(dut: Any) -> None:
    """One beat a cycle, without a gap between frames."""
    frame = FrameParameters(**bench_parameters()["frame"])
    bench = Bench(dut)
    sink = bench.add(Sink(dut, "o", StructCodec(frame_beat_layout(frame))))
    dut.rst.value = 1
    source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "axi_"), dut.clk, dut.rst)
    await bench.reset(4)
    count = 20
    for _ in range(count):
        source.send_nowait(AxiStreamFrame(tdata=bytes(range(1, 1 + frame.frame_bytes))))
    await bench.run_until(lambda: len(sink.words) == count * frame.beats, limit=1000)
    assert sink.cycles[-1] - sink.cycles[0] == count * frame.beats - 1
