"""Readout: bench on emitted Verilog, constructor checks, planted faults."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Const, Module, Value

from lmht.rtl.events import EventLayout
from lmht.rtl.readout import Readout, _Word
from lmht.rtl.verilog import emit_verilog
from lmht.sim.faults import Fault, Saboteur
from lmht.sim.runner import BenchFailure, run_cocotb

BENCH = "lmht.sim.benches.readout"
TEN = EventLayout(channels=10, level_bits=20, signed=True)


def run(component: Readout | Saboteur, layout: EventLayout, folder: Path, **options: Any) -> None:
    parameters = {"layout": dataclasses.asdict(layout), "fault": options.pop("fault", 0)}
    text = emit_verilog(component, "dut")
    run_cocotb([text], "dut", BENCH, parameters=parameters, folder=folder, **options)


@pytest.mark.parametrize("classes", [1, 8, 10])
def test_bench(classes: int, tmp_path: Path) -> None:
    layout = dataclasses.replace(TEN, channels=classes)
    run(Readout(layout=layout), layout, tmp_path)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
def test_planted_fault_fails(fault: Fault, tmp_path: Path) -> None:
    with pytest.raises(BenchFailure, match="good_frames"):
        run(
            Saboteur(inner=Readout(layout=TEN), nth=3), TEN, tmp_path, fault=int(fault), tests=["good_frames"]
        )


class LastTieWins(Readout):
    @property
    def _inverted(self) -> int:
        return super()._inverted & -1 << self._channel_bits


class FirstArrivalWins(Readout):
    def _above(self, number: int, own: Value, best: Value) -> Value:
        channel_bits = max(0, self._channel_bits - self._slices[number][0])
        return own[channel_bits:] > best[channel_bits:]


class UnsignedLogits(Readout):
    @property
    def _inverted(self) -> int:
        return (1 << self._channel_bits) - 1


class SlicesAlone(Readout):
    """A slice takes the best one's place whatever the slices above it say."""

    def _meet(self, m: Module, advance: Value, number: int, word: _Word) -> _Word:
        return super()._meet(m, advance, number, dataclasses.replace(word, equal=Const(1, 1)))


@pytest.mark.parametrize("wrong", [LastTieWins, FirstArrivalWins, UnsignedLogits, SlicesAlone])
def test_wrong_comparison_fails(wrong: type[Readout], tmp_path: Path) -> None:
    with pytest.raises(BenchFailure, match="good_frames"):
        run(wrong(layout=TEN), TEN, tmp_path, tests=["good_frames"])


def test_init_wrong_layout() -> None:
    with pytest.raises(ValueError, match=r"^steps of a link of logits must be 1, not 2$"):
        Readout(layout=EventLayout(channels=10, steps=2, level_bits=20, signed=True))
