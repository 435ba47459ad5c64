"""The page ``docs/registers.md``: every register and bit field, from the declarations that the hardware is made of.

``python -m lmht.gen.register_page docs/registers.md`` writes it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from amaranth.lib import data

from lmht.gen.templating import render
from lmht.rtl.frame_encoder import FrameEncoder
from lmht.rtl.readout import Readout
from lmht.rtl.registers import COUNTERS, FIRST_STAGE_ADDRESS, FIXED_REGISTERS, Field
from lmht.rtl.router import EventRouter
from lmht.rtl.tile import Tile

__all__ = ["register_page"]


def register_page() -> str:
    """Text of the page, Markdown."""
    return render(
        "registers.md.jinja",
        fixed=FIXED_REGISTERS,
        first_stage_address=FIRST_STAGE_ADDRESS,
        bits=_bits,
        stages={
            "frame_encoder": _stage(FrameEncoder.ERRORS, FrameEncoder.PULSES),
            "router<number>": _stage(EventRouter.ERRORS, EventRouter.pulses_layout(1, 1)),
            "layer<layer>_tile<tile>": _stage(Tile.ERRORS, Tile.PULSES),
            "readout": _stage(Readout.ERRORS, Readout.PULSES),
        },
    )


def _stage(errors: data.StructLayout, pulses: data.StructLayout) -> tuple[list[str], dict[str, str]]:
    return list(errors.members), {name: COUNTERS.get(name, name) for name in pulses.members}


def _bits(field: Field) -> str:
    last = field.offset + field.width - 1
    return str(last) if field.width == 1 else f"{last}:{field.offset}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(register_page(), encoding="utf-8")
