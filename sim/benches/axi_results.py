"""Bench of :class:`~lmht.rtl.axi_stream.AxiStreamResults`: results in, cocotbext-axi takes the packets.

Parameters (JSON): ``layout`` (fields of EventLayout), ``data_bytes``, ``results``.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import cocotb
from cocotbext.axi import AxiStreamBus, AxiStreamSink

from lmht.rtl.events import EventLayout
from lmht.rtl.readout import result_layout
from lmht.rtl.result_words import TRAILER, WORD_BITS, words_per_logit
from lmht.sim.axi_rules import ChannelRules
from lmht.sim.benches.axi_frames import STREAM_SIGNALS
from lmht.sim.codecs import StructCodec
from lmht.sim.patterns import pattern
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench, Source


def random_result(rng: random.Random, layout: EventLayout) -> tuple[list[dict[str, int]], bytes]:
    """Words of the readout in any order, some of a damaged frame missing; and the packet they stand for."""
    largest = 1 << (layout.level_bits - 1)
    logits = {
        channel: rng.choice((-largest, largest - 1, rng.randrange(-largest, largest)))
        for channel in rng.sample(range(layout.channels), layout.channels)
    }
    error = rng.random() < 0.3
    if error:
        for channel in rng.sample(range(layout.channels), rng.randrange(layout.channels + 1)):
            del logits[channel]
    winner = rng.randrange(layout.channels)
    words = [{"channel": channel, "value": value} for channel, value in logits.items()]
    words.append(
        {"last": 1, "error": int(error), "channel": winner, "value": rng.randrange(-largest, largest)}
    )
    size = words_per_logit(layout) * WORD_BITS // 8
    packet = b"".join(
        logits.get(channel, 0).to_bytes(size, "little", signed=True) for channel in range(layout.channels)
    )
    trailer = StructCodec(TRAILER).pack({"winner": winner, "error": int(error)})
    return words, packet + trailer.to_bytes(4, "little")


class _Rig:
    def __init__(self, dut: Any):
        settings = bench_parameters()
        self.layout = EventLayout(**settings["layout"])
        self.results: int = settings["results"]
        self.rng = random.Random(cocotb.RANDOM_SEED)
        self.bench = Bench(dut)
        self.source = self.bench.add(Source(dut, "i", StructCodec(result_layout(self.layout))))
        self.rules = self.bench.add(ChannelRules(dut, "axi__", "t", STREAM_SIGNALS))
        dut.rst.value = 1
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "axi_"), dut.clk, dut.rst)


@cocotb.test()
async def results_become_packets(dut: Any) -> None:
    """Every word of every result, under idle and back-pressure."""
    rig = _Rig(dut)
    rng = rig.rng
    await rig.bench.reset(4)
    for valid, pause in itertools.product(("always", "half", "bursts"), (0.0, 0.5, 0.9)):
        rig.source.pattern = pattern(valid, rng)
        rig.sink.set_pause_generator(rng.random() < pause for _ in itertools.repeat(None))
        wanted = []
        for _ in range(rig.results):
            words, packet = random_result(rng, rig.layout)
            rig.source.send(words)
            wanted.append(packet)
        limit = 60 * rig.results * (2 * rig.layout.channels + 4)
        await rig.bench.run_until(lambda: rig.sink.count() >= rig.results, limit=limit)
        found = [bytes(rig.sink.recv_nowait(compact=True).tdata) for _ in range(rig.results)]
        assert found == wanted
    assert rig.rules.waits


@cocotb.test()
async def a_result_is_taken_though_nobody_fetches_it(dut: Any) -> None:
    """Two whole results have room (some words of the first one more at the output)."""
    rig = _Rig(dut)
    rig.sink.pause = True
    await rig.bench.reset(4)
    wanted = []
    for _ in range(2):
        words, packet = random_result(rig.rng, rig.layout)
        rig.source.send(words)
        wanted.append(packet)
    await rig.bench.run_until(lambda: rig.source.idle, limit=20 * rig.layout.channels + 50)
    rig.sink.pause = False
    await rig.bench.run_until(lambda: rig.sink.count() == 2, limit=20 * rig.layout.channels + 50)
    assert [bytes(rig.sink.recv_nowait(compact=True).tdata) for _ in range(2)] == wanted
