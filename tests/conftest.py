"""Which of many cases run every time."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

DAILY = 4
"""Simulations of a file that run every time."""
BENCH_FIXTURES = {"tmp_path", "run_tile"}
BENCHES = Path(__file__).parent / "rtl"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Leave most simulations of a file to ``make nightly``.

    A simulation is a test marked ``slow``, or one of the RTL that has a folder for its build. Those that run every time
    are spread evenly over the file: sound designs as well as planted faults. The mark ``daily`` keeps a test.
    """
    files: dict[Path, list[pytest.Function]] = defaultdict(list)
    for item in items:
        builds = BENCHES in item.path.parents and BENCH_FIXTURES & set(item.fixturenames)
        if (builds or item.get_closest_marker("slow")) and not item.get_closest_marker("daily"):
            files[item.path].append(item)
    for simulations in files.values():
        count = min(DAILY, len(simulations))
        kept = {(2 * place + 1) * len(simulations) // (2 * count) for place in range(count)}
        for place, item in enumerate(simulations):
            if place not in kept:
                item.add_marker(pytest.mark.nightly)
