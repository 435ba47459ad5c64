"""Accumulator memory: bench on emitted Verilog, in block RAM and in look-up tables; planted faults are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmht.rtl.accumulators import AccumulatorMemory
from lmht.rtl.verilog import emit_verilog, primitive_sources
from lmht.sim.benches.accumulators import accumulators_row
from lmht.sim.runner import BenchFailure, run_cocotb

ROW = {"lanes": 3, "steps": 2, "bits": 7}
FEW = {"banks": 2, "rows": 4}
MANY = {"banks": 4, "rows": 9}


def run(folder: Path, *, least_distance: int = 1, shape: dict[str, int]) -> None:
    component = AccumulatorMemory(row=accumulators_row(**ROW), least_distance=least_distance, **shape)
    run_cocotb(
        [emit_verilog(component, "accumulators"), *primitive_sources()],
        "accumulators",
        "lmht.sim.benches.accumulators",
        parameters={
            **ROW,
            **shape,
            "least_distance": least_distance,
            "first_cycle": component.first_cycle,
        },
        folder=folder,
        seed=5,
    )


@pytest.mark.parametrize("least_distance", [1, 2, 4])
@pytest.mark.parametrize(
    "shape",
    [FEW, MANY, {"banks": 1, "rows": 1}, {"banks": 1, "rows": 40}, {"banks": 3, "rows": 1}],
    ids=["few", "many", "one", "one bank", "one row"],
)
def test_bench(shape: dict[str, int], least_distance: int, tmp_path: Path) -> None:
    run(tmp_path, shape=shape, least_distance=least_distance)


@pytest.mark.parametrize(
    ("shape", "distance"), [(FEW, 1), (FEW, 2), (MANY, 1), (MANY, 2), (MANY, 3)], ids=str
)
def test_a_missing_forward_is_found(
    shape: dict[str, int], distance: int, tmp_path: Path, without_forward: Callable[[int], None]
) -> None:
    without_forward(distance)
    with pytest.raises(BenchFailure, match="sums"):
        run(tmp_path, shape=shape)


def test_a_row_of_zeros_that_is_overwritten_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of zeros lies on a row that is in use."""
    init = AccumulatorMemory.__init__

    def lower(self: AccumulatorMemory, **options: Any) -> None:
        init(self, **options)
        self._zero_row -= 1

    monkeypatch.setattr(AccumulatorMemory, "__init__", lower)
    with pytest.raises(BenchFailure, match="sums"):
        run(tmp_path, shape=MANY)
