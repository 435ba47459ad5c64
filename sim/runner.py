"""Run a cocotb bench on emitted Verilog: build (cached by content), simulate, read the results."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cocotb_tools.runner import get_runner

from lmht.sim.cache import build_key, cached_build, cached_folder
from lmht.sim.toolchain import ToolchainError, tool_environment, verilator_version

__all__ = ["PARAMETERS_VARIABLE", "BenchFailure", "BenchResult", "bench_parameters", "run_cocotb"]

PARAMETERS_VARIABLE = "LMHT_BENCH_PARAMETERS"

_log = logging.getLogger(__name__)

# What Amaranth's Verilog is known to warn about; anything else stays an error.
LINT_WAIVERS = ("WIDTHEXPAND", "WIDTHTRUNC", "CASEINCOMPLETE", "PROCASSINIT", "UNUSEDSIGNAL")


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
    build = _build(
        [_opened(sources, top, open_nets), *sources],
        top,
        (*build_args, *_trace_flags(waves)),
        traced=waves is not None,
    )
    _log.info("%s on %s with LMHT_SEED=%d in %s", module, top, seed, folder)
    results = folder / "results.xml"
    log = folder / "simulation.log"
    extra = {
        PARAMETERS_VARIABLE: json.dumps(dict(parameters or {})),
        "LMHT_SEED": str(seed),
        **(environment or {}),
    }
    runner = get_runner("verilator")
    runner.log.setLevel(logging.CRITICAL)
    # The results, or their absence, tell more than the exit status.
    with tool_environment(extra), suppress(SystemExit, RuntimeError):
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


def _opened(sources: Sequence[Path | str], top: str, nets: Sequence[str]) -> str:
    """Verilator configuration that opens the ports of `top`, and `nets`, to cocotb.

    Opening every net of the design, as cocotb does by default, makes simulations slower and lets builds take minutes.
    """
    module = re.compile(rf"^module {re.escape(top)}\b.*?(?:^endmodule|\Z)", re.MULTILINE | re.DOTALL)
    texts = (
        source if isinstance(source, str) else Path(source).read_text(encoding="utf-8") for source in sources
    )
    body = next((match[0] for text in texts if (match := module.search(text))), None)
    if body is None:
        raise ToolchainError(f"{top} does not build: no source holds that module")
    names = [*re.findall(r"\b(?:input|output)\b[^;,)]*?(\w+)\s*[;,)\n]", body), *nets]
    lines = [f'public_flat_rw -module "{top}" -var "{name}"' for name in dict.fromkeys(names)]
    return "\n".join(["`verilator_config", *lines, ""])


def _trace_flags(waves: str | None) -> tuple[str, ...]:
    if waves == "fst" and not any(
        Path(folder, "lz4.h").exists() for folder in ("/usr/include", "/usr/local/include")
    ):
        raise ToolchainError(
            "FST waveforms need lz4.h (Debian package: liblz4-dev); waves='vcd' works without"
        )
    return {"fst": ("--trace-fst",), "vcd": ("--trace-vcd",)}.get(waves or "", ())


def _build(sources: Sequence[Path | str], top: str, flags: Sequence[str], *, traced: bool) -> Path:
    """Folder with the executable ``<top>``, from the cache if possible."""
    texts = [source.encode() if isinstance(source, str) else Path(source).read_bytes() for source in sources]
    waivers = [f"-Wno-{name}" for name in LINT_WAIVERS]
    arguments = [*waivers, "--no-public-flat-rw", "-CFLAGS", "-O1", *flags]
    tools = (
        f"{verilator_version()} cocotb {version('cocotb')} in {Path(get_runner.__code__.co_filename).parent}"
    )

    # Most of a build's time goes into Verilator's own run-time library: its objects serve all builds.
    runtime_key = build_key([], [f"traced={traced}", *arguments], tools)
    runtime = cached_folder("runtime", runtime_key)

    def build(folder: Path) -> None:
        paths = []
        for index, text in enumerate(texts):
            path = folder / f"source{index}.v"
            path.write_bytes(text)
            paths.append(path)
        objects, log = folder / "objects", folder / "build.log"
        objects.mkdir()
        for path in _runtime_objects(runtime):
            # Its makefile, written anew, must not look younger than the objects.
            later = time.time() + 3600
            os.utime(shutil.copy(path, objects), (later, later))
        runner = get_runner("verilator")
        runner.log.setLevel(logging.CRITICAL)
        with tool_environment():
            try:
                runner.build(
                    sources=paths,
                    hdl_toplevel=top,
                    build_args=arguments,
                    build_dir=objects,
                    always=True,
                    timescale=("1ns", "1ps"),
                    waves=traced,
                    log_file=log,
                )
            except (SystemExit, RuntimeError) as error:
                raise ToolchainError(f"{top} does not build: {_first_error(log, error)}") from error
        if not runtime.is_dir():
            cached_build("runtime", runtime_key, lambda kept: _keep_runtime(objects, kept))
        # Only the executable is needed again.
        (objects / top).rename(folder / top)
        shutil.rmtree(objects)

    key = build_key(texts, [top, f"traced={traced}", *arguments], tools)
    return cached_build("cocotb", key, build)


def _runtime_objects(folder: Path) -> list[Path]:
    """Objects and dependency files of Verilator's library, which are the same for every design."""
    return sorted((*folder.glob("verilated*.o"), *folder.glob("verilated*.d")))


def _keep_runtime(objects: Path, folder: Path) -> None:
    for path in _runtime_objects(objects):
        shutil.copy(path, folder)


def _first_error(log: Path, error: BaseException) -> str:
    """The first line of the build log that names an error."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    # Its last line only says how many there were.
    lines = [line for line in lines if "Exiting due to" not in line]
    named = (line for line in lines if line.startswith("%Error") or "error:" in line)
    warnings = (line for line in lines if line.startswith("%Warning"))
    return next(named, None) or next(warnings, None) or str(error)


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
