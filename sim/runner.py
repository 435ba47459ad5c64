"""Run a cocotb bench on emitted Verilog: build, simulate, read the results."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cocotb_tools import config
from cocotb_tools.runner import get_runner

from lmht.model.environment import own_environment, replaced_environment
from lmht.sim.bench_build import build_bench
from lmht.sim.model_build import LINT_WAIVERS

__all__ = [
    "LINT_WAIVERS",
    "PARAMETERS_VARIABLE",
    "BenchFailure",
    "BenchResult",
    "bench_parameters",
    "run_cocotb",
]

PARAMETERS_VARIABLE = "LMHT_BENCH_PARAMETERS"

_log = logging.getLogger(__name__)


class BenchFailure(AssertionError):  # noqa: N818 (a failure of the design, not of the program)
    """A bench failed. The message names the failing tests, what they said, and the seed."""


@dataclass(frozen=True)
class BenchResult:
    """A bench that passed.

    Parameters
    ----------
    tests : tuple of str
        Names of the tests that ran.
    seed : int
    folder : Path
        Log, results file and waveform.
    waveform : Path or None
    """

    tests: tuple[str, ...]
    seed: int
    folder: Path
    waveform: Path | None = None


def bench_parameters() -> dict[str, Any]:
    """Inside a bench: the `parameters` that :func:`run_cocotb` was given."""
    parameters: dict[str, Any] = json.loads(os.environ.get(PARAMETERS_VARIABLE, "{}"))
    return parameters


def run_cocotb(
    sources: Sequence[Path | str],
    top: str,
    module: str,
    *,
    parameters: Mapping[str, object] | None = None,
    tests: Sequence[str] = (),
    build_args: Sequence[str] = ("-O3",),
    open_nets: Sequence[str] = (),
    plusargs: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    waves: str | None = None,
    folder: Path | None = None,
    seed: int | None = None,
) -> BenchResult:
    """Build `sources`, run the cocotb tests of `module` on them and wait for the end.

    Parameters
    ----------
    sources : sequence of Path or str
        Verilog files; a string is Verilog text itself.
    top : str
        Top module.
    module : str
        Importable module with the tests, such as ``lmht.sim.benches.router``.
    parameters : mapping, optional
        JSON-able values that the bench reads with :func:`bench_parameters`. They do not enter the build.
    tests : sequence of str
        Names of the tests to run; all of the module by default.
    build_args, plusargs : sequence of str
        Further arguments of Verilator and of the simulation.
    open_nets : sequence of str
        Nets of the top module that the bench reads, beside its ports.
    environment : mapping, optional
        Further variables of the simulation.
    waves : {"fst", "vcd"}, optional
        Record a waveform into `folder`.
    folder : Path, optional
        Where log, results and waveform go; a new temporary folder by default.
    seed : int, optional
        Seed of all random streams; ``LMHT_SEED`` by default, else a random one. It is logged.

    Raises
    ------
    BenchFailure
        If a test fails, none ran or the simulation died.
    ToolchainError
        If a tool is missing or the sources do not build.
    ValueError
        If `waves` is something else.
    """
    if waves not in (None, "fst", "vcd"):
        raise ValueError(f"waves must be 'fst', 'vcd' or None, not {waves!r}")
    if seed is None:
        seed = int(os.environ.get("LMHT_SEED") or random.SystemRandom().getrandbits(31))
    folder = Path(tempfile.mkdtemp(prefix="lmht-bench-")) if folder is None else Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    build = build_bench(sources, top, build_args, open_nets=open_nets, waves=waves)
    _log.info("%s on %s with LMHT_SEED=%d in %s", module, top, seed, folder)
    results = folder / "results.xml"
    log = folder / "simulation.log"
    extra = {
        PARAMETERS_VARIABLE: json.dumps(dict(parameters or {})),
        "LMHT_SEED": str(seed),
        "COCOTB_REWRITE_ASSERTION_FILES": _neighbours(module),
        "LD_LIBRARY_PATH": os.pathsep.join(
            filter(None, (str(config.libs_dir), os.environ.get("LD_LIBRARY_PATH")))
        ),
        **(environment or {}),
    }
    runner = get_runner("verilator")
    runner.log.setLevel(logging.CRITICAL)
    # The results, or their absence, tell more than the exit status.
    with replaced_environment(own_environment(extra)), suppress(SystemExit, RuntimeError):
        runner.test(
            test_module=module,
            hdl_toplevel=top,
            hdl_toplevel_lang="verilog",
            test_filter=rf"\.({'|'.join(tests)})$" if tests else None,
            seed=seed,
            plusargs=list(plusargs),
            test_args=["--trace-file", f"dump.{waves}"] if waves else [],
            waves=waves is not None,
            build_dir=build,
            test_dir=folder,
            results_xml=str(results),
            log_file=log,
        )
    passed = _passed_tests(results, log, f"{module} (LMHT_SEED={seed}, log {log})")
    return BenchResult(
        tests=passed, seed=seed, folder=folder, waveform=folder / f"dump.{waves}" if waves else None
    )


def _neighbours(module: str) -> str:
    """Names of the Python files in the folder of `module`, whose asserts shall say what they compared.

    By default cocotb lets pytest rewrite the asserts of everything that is imported, NumPy and Amaranth included, which
    takes longer than most simulations.
    """
    spec = None
    with suppress(ModuleNotFoundError):
        spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return f"{module.rpartition('.')[2]}.py"
    return " ".join(sorted(path.name for path in Path(spec.origin).parent.glob("*.py")))


def _passed_tests(results: Path, log: Path, what: str) -> tuple[str, ...]:
    """Names of the tests in the results file.

    Raises
    ------
    BenchFailure
        If one failed, or there is none.
    """
    if not results.is_file():
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        raise BenchFailure(f"{what}: the simulation died: {' / '.join(lines[-3:]) or 'it left no log'}")
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    failures = [
        f"{case.get('name')}: {failure.get('error_msg') or failure.get('message') or 'failed'}"
        for case in cases
        for failure in (*case.findall("failure"), *case.findall("error"))
    ]
    if failures:
        raise BenchFailure(f"{what}: {'; '.join(failures)}")
    if not cases:
        raise BenchFailure(f"{what}: no test ran")
    return tuple(case.get("name", "") for case in cases)
