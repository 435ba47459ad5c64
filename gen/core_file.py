"""``<name>.core``: the build as a core for FuseSoC (CAPI2)."""

from __future__ import annotations

from collections.abc import Sequence

from lmht.gen.templating import render
from lmht.sim.runner import LINT_WAIVERS

__all__ = ["core_file"]


def core_file(
    *,
    name: str,
    architecture: str,
    lmht_version: str,
    verilog: Sequence[str],
    images: Sequence[str],
    header: str,
    driver: Sequence[str],
    top: str,
) -> str:
    """Text of the core file; file names are relative to the build, the design's own Verilog first; `top`: module;
    `driver`: the C driver's files, empty for a design without a bus."""
    return render(
        "design.core.jinja",
        name=name,
        architecture=architecture,
        lmht_version=lmht_version,
        verilog=verilog,
        images=images,
        headers=[header, *(name for name in driver if name.endswith(".h"))],
        c_files=[name for name in driver if not name.endswith(".h")],
        top=top,
        waivers=LINT_WAIVERS,
    )
