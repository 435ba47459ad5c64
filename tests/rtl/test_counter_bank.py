"""Counter bank: bench on emitted Verilog, planted faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Cat, Const, Signal

from lmht.rtl.counter_bank import CounterBank
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.runner import BenchFailure, run_cocotb

SEED = 88

CASES = {
    "one": {"most": [1], "bits": 3},
    "mixed": {"most": [1, 0, 3, 1, 20, 0, 1, 1, 2, 1, 1], "bits": 6},
    "wide": {"most": [1] * 5 + [0] + [1] * 14, "bits": 32},
}


def run(case: dict[str, Any], folder: Path, tests: tuple[str, ...] = ()) -> None:
    run_cocotb(
        [emit_verilog(CounterBank(**case), "dut"), *primitive_sources()],
        "dut",
        "lmht.sim.benches.counter_bank",
        parameters=case,
        build_args=("-O1",),
        folder=folder,
        seed=SEED,
        tests=tests,
    )


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_bench(case: dict[str, Any], tmp_path: Path) -> None:
    run(case, tmp_path)


ORDER = CounterBank._order


def never_clear(self, m, previous_written):
    order = ORDER(self, m, previous_written)
    wrong = Signal(order.shape())
    m.d.comb += [wrong.eq(order), wrong.clear.eq(0)]
    return wrong


def too_early(self, m, previous_written):
    return ORDER(self, m, Const(1))


def lose_what_comes_at_the_moment(self, m, index, bits):
    count, share = Signal(bits, name=f"count_{index}"), Signal(bits, name=f"share_{index}")
    with m.If(self.moment):
        m.d.sync += [share.eq(count), count.eq(0)]
    with m.Else():
        m.d.sync += count.eq(count + getattr(self, f"amount_{index}"))
    return share


def count_twice_what_comes_at_the_moment(self, m, index, bits):
    count, share = Signal(bits, name=f"count_{index}"), Signal(bits, name=f"share_{index}")
    amount = getattr(self, f"amount_{index}")
    m.d.sync += count.eq(count + amount)
    with m.If(self.moment):
        m.d.sync += [share.eq(count + amount), count.eq(amount)]
    return share


def a_bit_less(self, most):
    return (self.sweep_cycles * most).bit_length() - 1


def live_row(self, index):
    return Cat(index, Const(0, 1))


def half_decoded(self, index):
    return Cat(index[:-1], Const(0, 1), Const(1, 1))


@pytest.mark.parametrize(
    ("method", "wrong", "found_by"),
    [
        ("_order", never_clear, "any_amounts"),
        ("_order", too_early, "any_amounts"),
        ("_count", lose_what_comes_at_the_moment, "any_amounts"),
        ("_count", count_twice_what_comes_at_the_moment, "any_amounts"),
        ("_short_bits", a_bit_less, "largest_amounts"),
        ("_copy_row", live_row, "any_amounts"),
        ("_copy_row", half_decoded, "any_amounts"),
    ],
    ids=["no clear", "early", "lost", "twice", "narrow", "live", "half decoded"],
)
def test_planted_faults_are_found(
    method: str, wrong: Any, found_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CounterBank, method, wrong)
    with pytest.raises(BenchFailure, match=f"{found_by}: cycle"):
        run(CASES["mixed"], tmp_path, tests=(found_by,))
