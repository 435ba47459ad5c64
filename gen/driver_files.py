"""The C driver: its files as they come with the package, which a build with a bus holds beside its header."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["DRIVER_FILES", "driver_sources"]

DRIVER_FILES = ("lmht.c", "lmht.h")
"""Source and header, which include the design's own header."""


def driver_sources() -> dict[str, bytes]:
    """The driver's files by name."""
    return {name: (files("lmht.firmware") / name).read_bytes() for name in DRIVER_FILES}
