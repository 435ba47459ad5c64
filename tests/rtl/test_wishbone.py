"""Wishbone slave: random cycles; planted faults are found."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from lmht.rtl.verilog import emit_verilog
from lmht.rtl.wishbone import Wishbone
from lmht.sim.runner import BenchFailure, run_cocotb

SEED = 2010


def run(component: Wishbone, folder: Path) -> None:
    run_cocotb(
        [emit_verilog(component, "wishbone_slave")],
        "wishbone_slave",
        "lmht.sim.benches.wishbone",
        parameters={"cycles": 1000},
        build_args=("-O1",),
        folder=folder,
        seed=SEED,
    )


def test_bench(tmp_path: Path) -> None:
    run(Wishbone(), tmp_path)


class AnswersTheNext(Wishbone):
    """Answers a cycle that was given up to whoever asks then."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = Wishbone()
        wiring.connect(m, wiring.flipped(self.wishbone), inner.wishbone)
        wiring.connect(m, inner.bus, wiring.flipped(self.bus))
        with m.If(inner.bus.valid):
            m.d.comb += [inner.wishbone.cyc.eq(1), inner.wishbone.stb.eq(1)]
        return m


class NeverRefuses(Wishbone):
    """Acknowledges errors."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = Wishbone()
        wiring.connect(m, wiring.flipped(self.wishbone), inner.wishbone)
        wiring.connect(m, inner.bus, wiring.flipped(self.bus))
        m.d.comb += [
            self.wishbone.ack.eq(inner.wishbone.ack | inner.wishbone.err),
            self.wishbone.err.eq(0),
        ]
        return m


@pytest.mark.parametrize("wrong", [AnswersTheNext, NeverRefuses])
def test_planted_faults_are_found(wrong: type[Wishbone], tmp_path: Path) -> None:
    with pytest.raises(BenchFailure, match="random_cycles"):
        run(wrong(), tmp_path)
