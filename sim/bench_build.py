"""Builds of cocotb benches: Verilog to an executable, cached by content."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from cocotb_tools import config

from lmht.model.build_cache import build_key, cached_build
from lmht.sim.model_build import LINT_WAIVERS, library, workplace
from lmht.sim.toolchain import ToolchainError, tool_identity

__all__ = ["build_bench"]

_MAKE_VALUES = ("OPT_FAST=-O1", "OPT_GLOBAL=-Os")
_HEADER = "runtime.h"
_HEADER_TEXT = "".join(f'#include "verilated{part}.h"\n' for part in ("", "_dpi", "_vpi"))
_MAIN = "verilator.cpp"


def build_bench(
    sources: Sequence[Path | str],
    top: str,
    build_args: Sequence[str] = (),
    *,
    open_nets: Sequence[str] = (),
    waves: str | None = None,
) -> Path:
    """Folder with the executable ``<top>``, from the cache if the same was built before.

    Parameters
    ----------
    sources : sequence of Path or str
        Verilog files; a string is Verilog text itself.
    top : str
        Top module.
    build_args : sequence of str
        Further arguments of Verilator.
    open_nets : sequence of str
        Nets of the top module that the bench reads, beside its ports.
    waves : {"fst", "vcd"}, optional
        Waveform format to build for.

    Raises
    ------
    ToolchainError
        If a tool is missing or the sources do not build.
    """
    inputs = [_opened(sources, top, open_nets), *sources]
    texts = [source.encode() if isinstance(source, str) else Path(source).read_bytes() for source in inputs]
    waivers = [f"-Wno-{name}" for name in LINT_WAIVERS]
    arguments = ["--vpi", *waivers, *build_args, *_trace_flags(waves), "--timescale", "1ns/1ps"]
    main = (config.share_dir / "lib" / "verilator" / _MAIN).read_bytes()
    tools = f"{tool_identity()} cocotb {version('cocotb')}"
    key = build_key([*texts, main, _HEADER_TEXT.encode()], [top, *_MAKE_VALUES, *arguments], tools)

    def build(folder: Path) -> None:
        runtime = library(arguments, _MAKE_VALUES, _HEADER_TEXT)
        with workplace(top, key) as work:
            paths = [f"source{index}.v" for index in range(len(texts))]
            for path, text in zip([_MAIN, *paths], [main, *texts], strict=True):
                (work.folder / path).write_bytes(text)
            work.objects.mkdir()
            for header in runtime.glob(f"{_HEADER}*"):
                (work.objects / header.name).symlink_to(header)
            # Where cocotb's library lies is said when the bench runs: it may be another environment's then.
            libraries = work.link(config.libs_dir)
            linked = f"-L{libraries} -Wl,-rpath-link,{libraries} -lcocotbvpi_verilator"
            options = ["--exe", "--top-module", top, "-o", top, "-LDFLAGS", linked, *arguments]
            if (runtime / _HEADER).is_file():
                options += ["-CFLAGS", f"-include {_HEADER}"]
            work.compile([*options, _MAIN, *paths], "Vtop", _MAKE_VALUES, runtime)
            shutil.move(work.objects / top, folder)

    return cached_build("cocotb", key, build)


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
