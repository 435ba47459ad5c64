"""AXI4-Stream ports against cocotbext-axi under the rules of the handshake; planted faults are found."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring

from lmht.rtl.axi_stream import AxiStreamFrames, AxiStreamResults
from lmht.rtl.events import EventLayout
from lmht.rtl.parameters import FrameParameters
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.runner import BenchFailure, run_cocotb

SEED = 77


def run(component: wiring.Component, bench: str, folder: Path, **parameters: Any) -> None:
    run_cocotb(
        [emit_verilog(component, "dut"), *primitive_sources()],
        "dut",
        f"lmht.sim.benches.{bench}",
        parameters=parameters,
        build_args=("-O1",),
        folder=folder,
        seed=SEED,
    )


FRAMES = [
    FrameParameters(height=3, width=7, channels=1, bytes_per_beat=8),
    FrameParameters(height=4, width=4, channels=3, bytes_per_beat=4),
    FrameParameters(height=1, width=3, channels=1, bytes_per_beat=4),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: f"{frame.frame_bytes} of {frame.bytes_per_beat}")
def test_frames(frame: FrameParameters, tmp_path: Path) -> None:
    run(AxiStreamFrames(frame=frame), "axi_frames", tmp_path, frame=asdict(frame), packets=16)


LAYOUTS = [(4, 10, 20), (8, 10, 32), (8, 9, 33), (4, 1, 40), (8, 1, 12)]


@pytest.mark.parametrize(("data_bytes", "classes", "bits"), LAYOUTS)
def test_results(data_bytes: int, classes: int, bits: int, tmp_path: Path) -> None:
    layout = EventLayout(channels=classes, level_bits=bits, signed=True)
    component = AxiStreamResults(layout=layout, data_bytes=data_bytes)
    run(component, "axi_results", tmp_path, layout=asdict(layout), data_bytes=data_bytes, results=20)


class IgnoresKeep(AxiStreamFrames):
    """Takes bytes that are not there for zeros and says nothing."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = AxiStreamFrames(frame=self.frame)
        wiring.connect(m, wiring.flipped(self.axi), inner.axi)
        wiring.connect(m, inner.o, wiring.flipped(self.o))
        m.d.comb += inner.axi.tkeep.eq(~0)
        return m


def test_a_slave_that_ignores_missing_bytes_is_found(tmp_path: Path) -> None:
    frame = FRAMES[0]
    with pytest.raises(BenchFailure, match="packets_become_frames"):
        run(IgnoresKeep(frame=frame), "axi_frames", tmp_path, frame=asdict(frame), packets=16)


class Tampered(AxiStreamResults):
    """A source whose outputs pass through :meth:`tamper`."""

    def __init__(self, *, layout: EventLayout, data_bytes: int):
        super().__init__(layout=layout, data_bytes=data_bytes)
        self.inner = AxiStreamResults(layout=layout, data_bytes=data_bytes)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = self.inner
        wiring.connect(m, wiring.flipped(self.i), self.inner.i)
        wiring.connect(m, self.inner.axi, wiring.flipped(self.axi))
        self.tamper(m)
        return m

    def tamper(self, m: Module) -> None:
        raise NotImplementedError


class DropsValid(Tampered):
    """Takes back what it has offered when that waits too long."""

    def tamper(self, m: Module) -> None:
        waited = Signal(2)
        m.d.sync += waited.eq(0)
        with m.If(self.inner.axi.tvalid & ~self.axi.tready):
            m.d.sync += waited.eq(waited + 1)
        with m.If(waited == 3):
            m.d.comb += [self.axi.tvalid.eq(0), self.inner.axi.tready.eq(0)]


class ForgetsLast(Tampered):
    """Joins every second packet to the next one."""

    def tamper(self, m: Module) -> None:
        second = Signal()
        with m.If(self.inner.axi.tvalid & self.axi.tready & self.inner.axi.tlast):
            m.d.sync += second.eq(~second)
        m.d.comb += self.axi.tlast.eq(self.inner.axi.tlast & ~second)


@pytest.mark.parametrize(
    ("wrong", "message"), [(DropsValid, "VALID fell before READY"), (ForgetsLast, "results_become_packets")]
)
def test_planted_faults_are_found(wrong: type[Tampered], message: str, tmp_path: Path) -> None:
    layout = EventLayout(channels=10, level_bits=20, signed=True)
    component = wrong(layout=layout, data_bytes=4)
    with pytest.raises(BenchFailure, match=message):
        run(component, "axi_results", tmp_path, layout=asdict(layout), data_bytes=4, results=20)


def test_init_wrong_bytes_per_beat() -> None:
    with pytest.raises(ValueError, match=r"^bytes_per_beat of an AXI4-Stream must be one of 4, 8, not 16$"):
        AxiStreamFrames(frame=FrameParameters(height=3, width=7, channels=1, bytes_per_beat=16))
