"""Configuration bus: every register and load port of two designs; planted faults are found."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmht.gen.plan import PlanOptions
from lmht.rtl.config_bus import ConfigBus
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.registers import RegisterMap
from lmht.rtl.verilog import emit_verilog, memory_source
from lmht.sim.random_networks import random_design
from lmht.sim.runner import BenchFailure, run_cocotb

SEED = 77


def make_design(**options: Any) -> DesignParameters:
    rng = np.random.default_rng(SEED)
    return random_design(rng, plan_options=PlanOptions(**options), widths=(24, 12, 10), leak=True)[1]


def run(design: DesignParameters, tmp_path: Path) -> None:
    run_cocotb(
        [emit_verilog(ConfigBus(parameters=design), "config_bus"), memory_source()],
        "config_bus",
        "lmht.sim.benches.config_bus",
        parameters={"design": asdict(design)},
        build_args=("-O1",),
        folder=tmp_path,
        seed=SEED,
    )


@pytest.mark.parametrize("options", [{"lanes": 8}, {"lanes": [12, 3, 5], "split": {0: 2, 1: 3}}])
def test_registers_and_loads(options: dict, tmp_path: Path) -> None:
    run(make_design(**options), tmp_path)


def test_a_counter_that_misses_a_clear_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count_for_ever(m, counter, amount, clear):
        m.d.sync += counter.eq(counter + amount)

    monkeypatch.setattr(ConfigBus, "_count", staticmethod(count_for_ever))
    with pytest.raises(BenchFailure, match="counters_and_errors"):
        run(make_design(), tmp_path)


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
