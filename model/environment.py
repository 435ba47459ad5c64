"""The environment of what this package starts: made here, not taken over from the user's shell.

A shell may carry variables of other projects that the tools would obey: the folder of another Verilator, a choice of
cocotb's tests, flags for every compiler. Only the names below reach a program; ``docs/environment-variables.md`` lists
them beside the variables that the package reads itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["PASSED_ON", "module_path", "own_environment", "replaced_environment"]

PASSED_ON = (
    "PATH",
    "LD_LIBRARY_PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "TEMP",
    "TMP",
    "XDG_CACHE_HOME",
    "CCACHE_DIR",
    "YOWASP_CACHE_DIR",
    "OMP_NUM_THREADS",
)
"""Variables of the user's that every program gets."""


def own_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment for a program: the names of :data:`PASSED_ON`, messages in English as UTF-8, and `extra`."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    kept.setdefault("PATH", os.defpath)
    # The first error of a log is found by its English words.
    return {**kept, "LC_ALL": "C.UTF-8", **(extra or {})}


def module_path() -> dict[str, str]:
    """``PYTHONPATH`` with which another process of this Python finds the same modules."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextmanager
def replaced_environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Give this process exactly these variables for a while.

    For libraries that start programs themselves and pass this process's environment on.
    """
    before = dict(os.environ)
    _become(wanted)
    try:
        yield
    finally:
        _become(before)


def _become(wanted: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name not in wanted]:
        del os.environ[name]
    os.environ.update(wanted)
