"""What the RISC-V system is built and loaded with: its address map for C and the linker, its Verilog, its flash."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from lmht.gen.driver_files import driver_sources
from lmht.gen.templating import render
from lmht.rtl.soc_map import (
    CORE_INTERRUPT,
    DEVICE_REGISTERS,
    FLASH,
    FLASH_HEADER,
    INTERRUPT_VECTOR,
    RAM,
    REGIONS,
)

__all__ = ["LINKER_SCRIPT", "firmware_sources", "flash_contents", "soc_linker_map", "soc_map_header"]

LINKER_SCRIPT = "link.ld"
"""Among the firmware's sources the one that the linker reads."""

_FIRMWARE = ("start.S", "soc.h", "soc_port.c", "soc_text.c", "soc_main.c", LINKER_SCRIPT)
_HEADER_FILE, _LINKER_FILE = "soc_map.h", "soc_map.ld"  # as the sources include them
_WORD_BYTES = 4


def firmware_sources() -> dict[str, bytes]:
    """All that the firmware is built from, by name, but for the design's own header."""
    own = files("lmht.firmware") / "soc"
    return {
        **driver_sources(),
        **{name: (own / name).read_bytes() for name in _FIRMWARE},
        _HEADER_FILE: soc_map_header().encode(),
        _LINKER_FILE: soc_linker_map().encode(),
    }


def soc_map_header() -> str:
    """The address map for the firmware: a C header."""
    return render(
        "soc_map.h.jinja",
        regions=REGIONS,
        registers=DEVICE_REGISTERS,
        flash=FLASH_HEADER,
        core_interrupt=CORE_INTERRUPT,
    )


def soc_linker_map() -> str:
    """The part of the linker script that says where things are."""
    return (
        f"MEMORY {{ RAM : ORIGIN = 0x{RAM.base:08x}, LENGTH = 0x{RAM.size:08x} }}\n"
        f"INTERRUPT_VECTOR = 0x{RAM.base + INTERRUPT_VECTOR:08x};\n"
    )


def flash_contents(image: bytes, frames: NDArray[np.uint8], *, timeout_cycles: int) -> bytes:
    """What stands in flash from its first byte on.

    Parameters
    ----------
    image : bytes
        ``image.bin``.
    frames : numpy.ndarray of uint8, shape (N, bytes)
        In the order (y, x, channel).
    timeout_cycles : int
        Cycles that no frame's result takes.

    Raises
    ------
    ValueError
        If it does not fit the flash.
    """
    stride = _aligned(frames.shape[1])
    image_offset = len(FLASH_HEADER) * _WORD_BYTES
    frames_offset = _aligned(image_offset + len(image))
    room = max(0, (FLASH.size - frames_offset) // stride)
    if len(frames) > room:
        raise ValueError(
            f"images must be at most {room}, not {len(frames)}: the system's flash has {FLASH.size:,} bytes, "
            f"of which the memory image takes {len(image):,} and every image {stride:,}"
        )
    header = {
        "image_offset": image_offset,
        "image_bytes": len(image),
        "frames_offset": frames_offset,
        "frame_stride": stride,
        "frames": len(frames),
        "timeout_cycles": min(timeout_cycles, 2**32 - 1),
    }
    words = np.array([header[name] for name, _ in FLASH_HEADER], "<u4").tobytes()
    padded = np.pad(frames, ((0, 0), (0, stride - frames.shape[1])))
    return (words + image).ljust(frames_offset, b"\0") + padded.tobytes()


def _aligned(length: int) -> int:
    return -(-length // _WORD_BYTES) * _WORD_BYTES
