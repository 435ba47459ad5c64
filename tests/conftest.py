"""Which of many cases run every time."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

BENCH_FIXTURES = {"tmp_path", "run_tile"}
BENCHES = Path(__file__).parent / "rtl"
PLANTED = re.compile(r"_(found|fails)$")
"""Names of tests that plant a fault into the RTL and expect its bench to find it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Leave most simulations of a file to ``make nightly``.

    A simulation is a test marked ``slow``, or one of the RTL that has a folder for its build. One of each file runs
    every time, and so do all planted faults of the RTL, most of which share a build, and tests marked ``daily``.
    """
    files: dict[Path, list[pytest.Function]] = defaultdict(list)
    for item in items:
        builds = BENCHES in item.path.parents and BENCH_FIXTURES & set(item.fixturenames)
        slow = item.get_closest_marker("slow")
        if item.get_closest_marker("daily"):
            continue
        if slow or (builds and not PLANTED.search(item.originalname)):
            files[item.path].append(item)
    for simulations in files.values():
        # Not the first one: it is the simplest.
        kept = simulations[len(simulations) // 8]
        for item in simulations:
            if item is not kept:
                item.add_marker(pytest.mark.nightly)
