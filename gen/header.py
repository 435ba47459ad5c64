"""``lmht_design.h``: the constants of one design for its driver, from the objects that made the Verilog."""

from __future__ import annotations

from amaranth.lib import data

from lmht.gen.images import IMAGE_FORMAT, IMAGE_MAGIC
from lmht.gen.templating import render
from lmht.rtl.frame_encoder import frame_beat_layout
from lmht.rtl.parameters import DesignParameters
from lmht.rtl.readout import result_layout
from lmht.rtl.registers import ID_VALUE, VERSION_VALUE, RegisterMap
from lmht.rtl.result_words import TRAILER, words_per_logit

__all__ = ["HEADER_FILE", "c_header"]

HEADER_FILE = "lmht_design.h"


def c_header(registers: RegisterMap, *, image_bytes: int, image_sections: int) -> str:
    """Text of the header, C99.

    Parameters
    ----------
    registers : RegisterMap
        Map of the design, which also says which design it is.
    image_bytes, image_sections : int
        Size of ``image.bin`` and number of memories in it.
    """
    design: DesignParameters = registers.parameters
    number = int(design.design_hash, 16)
    return render(
        "design.h.jinja",
        design=design,
        hash_low=number & 0xFFFFFFFF,
        hash_high=number >> 32,
        payloads={
            "frames": _positions(frame_beat_layout(design.frame)),
            "results": _positions(result_layout(design.logit_layout)),
            "trailer": {name: place for name, place in _positions(TRAILER).items() if name != "unused"},
        },
        words_per_logit=words_per_logit(design.logit_layout),
        id_value=ID_VALUE,
        version_value=VERSION_VALUE,
        registers=registers.registers,
        memories=registers.memories,
        image_magic=IMAGE_MAGIC,
        image_format=IMAGE_FORMAT,
        image_bytes=image_bytes,
        image_sections=image_sections,
    )


def _positions(layout: data.StructLayout) -> dict[str, tuple[int, int]]:
    return {name: (field.offset, field.width) for name, field in layout}
