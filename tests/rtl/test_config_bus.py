"""Configuration bus: every register and load port of two designs; planted faults are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Cat, Const, Signal
from amaranth.lib import data

from lmht.gen.plan import PlanOptions
from lmht.rtl import config_bus, error_log
from lmht.rtl.config_bus import ConfigBus
from lmht.rtl.counter_bank import CounterBank
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.registers import FIRST_STAGE_ADDRESS, FIXED_REGISTERS, Field, Register, RegisterMap
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.random_networks import random_design
from lmht.sim.runner import BenchFailure, run_cocotb

SEED = 77


def make_design(**options: Any) -> DesignParameters:
    rng = np.random.default_rng(SEED)
    return random_design(rng, plan_options=PlanOptions(**options), widths=(24, 12, 10), leak=True)[1]


def run(design: DesignParameters, bench: str, tmp_path: Path, tests: Sequence[str] = ()) -> None:
    run_cocotb(
        [emit_verilog(ConfigBus(parameters=design), "config_bus"), *primitive_sources()],
        "config_bus",
        f"lmht.sim.benches.{bench}",
        parameters={"design": asdict(design)},
        build_args=("-O1",),
        folder=tmp_path,
        seed=SEED,
        tests=tests,
    )


@pytest.mark.parametrize("bench", ["config_bus", "bus_counters"])
@pytest.mark.parametrize("options", [{"lanes": 8}, {"lanes": [12, 3, 5], "split": {0: 2, 1: 3}}])
def test_bench(options: dict, bench: str, tmp_path: Path) -> None:
    run(make_design(**options), bench, tmp_path)


def last_of(requests):
    return Cat(bit & ~requests[index + 1 :].any() for index, bit in enumerate(requests))


class Deaf(CounterBank):
    """Hears of no clear."""

    def elaborate(self, platform):
        self.clear = Const(0)
        return super().elaborate(platform)


class Hasty(CounterBank):
    """Tells nobody that copies are being made."""

    def elaborate(self, platform):
        self.copying = Signal()
        return super().elaborate(platform)


def never_refuse_writes(self, m, name, write, address):
    strobe = Signal(name=f"write_{name.lower()}")
    m.d.sync += strobe.eq(write & (address[:5] == self.map.address(name)))
    return strobe


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "bench", "found_by"),
    [
        (config_bus, "CounterBank", Deaf, "bus_counters", "counters_and_errors"),
        (config_bus, "CounterBank", Hasty, "bus_counters", "snapshots_are_coherent"),
        (ConfigBus, "_written", never_refuse_writes, "config_bus", "answers_errors"),
        (error_log, "first_of", last_of, "bus_counters", "first_error_is_kept"),
    ],
    ids=["no clear", "hasty read", "half decoded", "last stage"],
)
def test_planted_faults_are_found(
    owner: Any,
    name: str,
    wrong: Any,
    bench: str,
    found_by: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(BenchFailure, match=found_by):
        run(make_design(), bench, tmp_path, tests=[found_by])


def test_names_and_addresses_are_unique() -> None:
    registers = RegisterMap.for_design(make_design(split={0: 2}))
    assert len({register.name for register in registers.registers}) == len(registers.registers)
    assert len({register.address for register in registers.registers}) == len(registers.registers)
    assert [memory.index for memory in registers.memories] == list(range(len(registers.memories)))
    assert len({memory.name for memory in registers.memories}) == len(registers.memories)
    assert registers["layer0_tile1_integrate"].address == registers.address("layer0_tile1_integrate")


def test_an_unknown_register_is_refused() -> None:
    with pytest.raises(KeyError):
        RegisterMap.for_design(make_design()).address("NO_SUCH")


def test_fields_do_not_overlap_and_fit() -> None:
    for register in RegisterMap.for_design(make_design()).registers:
        masks = [field.mask for field in register.fields.values()]
        assert sum(masks) < 2**32
        assert sum(mask.bit_count() for mask in masks) == sum(masks).bit_count(), register.name


def test_fields_are_packed_where_they_are_declared() -> None:
    register = Register("R", 0, "rw", "", {"low": Field(0), "number": Field(8, 16), "top": Field(31)})
    word = register.pack(number=0xABC, top=1)
    assert word == 0x800ABC00
    assert register.unpack(word) == {"low": 0, "number": 0xABC, "top": 1}
    with pytest.raises(ValueError, match=r"^R\.number must be between 0 and 65535, not 65536$"):
        register.pack(number=65536)
    with pytest.raises(ValueError, match=r"^R has no field high; its fields are low, number, top$"):
        register.pack(high=1)


def test_fixed_registers_lie_before_the_stages() -> None:
    assert [register.address for register in FIXED_REGISTERS] == list(range(len(FIXED_REGISTERS)))
    assert len(FIXED_REGISTERS) <= FIRST_STAGE_ADDRESS


def test_init_too_many_errors() -> None:
    layouts = {"stage": data.StructLayout({f"e{bit}": 1 for bit in range(9)})}
    with pytest.raises(ValueError, match=r"^errors of stage must be at most 8 bits, not 9$"):
        error_log.ErrorLog(errors=layouts)
