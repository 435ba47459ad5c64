"""AXI4-Lite slave against cocotbext-axi under our own protocol rules; slaves that break them are found."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring

from lmht.rtl.axi_lite import AxiLite
from lmht.rtl.verilog import emit_verilog
from lmht.sim.runner import BenchFailure, run_cocotb

SEED = 1215


def run(component: AxiLite, folder: Path, transactions: int = 300, tests: tuple[str, ...] = ()) -> None:
    run_cocotb(
        [emit_verilog(component, "axi_lite")],
        "axi_lite",
        "lmht.sim.benches.axi_lite",
        parameters={"transactions": transactions},
        build_args=("-O1",),
        tests=tests,
        folder=folder,
        seed=SEED,
    )


def test_bench(tmp_path: Path) -> None:
    run(AxiLite(), tmp_path, 3000)


class Tampered(AxiLite):
    """A slave whose outputs pass through :meth:`tamper`."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = AxiLite()
        wiring.connect(m, wiring.flipped(self.axi), inner.axi)
        wiring.connect(m, inner.bus, wiring.flipped(self.bus))
        self.tamper(m, inner)
        return m

    def tamper(self, m: Module, inner: AxiLite) -> None:
        raise NotImplementedError


class DropsValid(Tampered):
    """Offers a response for one cycle only, now and then."""

    def tamper(self, m: Module, inner: AxiLite) -> None:
        count = Signal(3)
        m.d.sync += count.eq(count + (self.axi.rvalid & ~self.axi.rready))
        with m.If(count == 7):
            m.d.comb += self.axi.rvalid.eq(0)


class ChangesData(Tampered):
    """Offers other data while it waits."""

    def tamper(self, m: Module, inner: AxiLite) -> None:
        count = Signal(32)
        m.d.sync += count.eq(count + 1)
        m.d.comb += self.axi.rdata.eq(inner.axi.rdata ^ count)


class ChangesResponse(Tampered):
    """Its answer to a write changes while it waits."""

    def tamper(self, m: Module, inner: AxiLite) -> None:
        was_valid = Signal()
        m.d.sync += was_valid.eq(self.axi.bvalid)
        with m.If(was_valid):
            m.d.comb += self.axi.bresp.eq(0)


class AnswersEarly(Tampered):
    """Answers a write whose data have not come."""

    def tamper(self, m: Module, inner: AxiLite) -> None:
        early = Signal()
        with m.If(self.axi.awvalid & self.axi.awready):
            m.d.sync += early.eq(1)
        with m.If(self.axi.bvalid & self.axi.bready):
            m.d.sync += early.eq(0)
        m.d.comb += self.axi.bvalid.eq(early)


class HidesErrors(Tampered):
    """Answers OKAY to everything."""

    def tamper(self, m: Module, inner: AxiLite) -> None:
        m.d.comb += self.axi.rresp.eq(0)


class WaitsForBoth(Tampered):
    """Is ready for an address only with its data: a combinational way from VALID to READY."""

    def tamper(self, m: Module, inner: AxiLite) -> None:
        both = self.axi.awvalid & self.axi.wvalid & inner.axi.awready & inner.axi.wready
        m.d.comb += [
            inner.axi.awvalid.eq(both),
            inner.axi.wvalid.eq(both),
            self.axi.awready.eq(both),
            self.axi.wready.eq(both),
        ]


class ValidInReset(Tampered):
    """Does not forget its response in a reset."""

    def tamper(self, m: Module, inner: AxiLite) -> None:
        kept = Signal(reset_less=True)
        m.d.sync += kept.eq(inner.axi.bvalid)
        m.d.comb += self.axi.bvalid.eq(inner.axi.bvalid | (kept & ~self.axi.bready))


@pytest.mark.parametrize(
    ("wrong", "found_by", "message"),
    [
        (DropsValid, "random_transactions", "channel r, .*VALID fell before READY"),
        (ChangesData, "random_transactions", "channel r, .*without READY in between"),
        (ChangesResponse, "random_transactions", "channel b, .*without READY in between"),
        (AnswersEarly, "halves_of_a_write_come_in_any_order", "BVALID without address and data"),
        (HidesErrors, "random_transactions", ""),
        (WaitsForBoth, "no_output_follows_an_input_within_a_cycle", "awready"),
        (ValidInReset, "reset_in_the_middle", "channel b, .*VALID is 1 in reset"),
    ],
)
def test_planted_faults_are_found(wrong: type[Tampered], found_by: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BenchFailure, match=f"{found_by}: .*{message}"):
        run(wrong(), tmp_path, tests=(found_by,))
