"""What is needed of an ELF file of 32 bits, little-endian: its loaded bytes, and how much of it is program."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["ElfError", "loaded_bytes", "text_bytes"]

_IDENTIFICATION = b"\x7fELF\x01\x01\x01"  # magic, 32 bits, little-endian, version 1
_PROGRAM_HEADER = struct.Struct("<8I")
_SECTION_HEADER = struct.Struct("<10I")
_LOAD = 1  # segment type
_NO_BITS = 8  # section type: zeros that the file does not hold
_WRITE, _ALLOCATE = 1, 2  # section flags


class ElfError(ValueError):
    """Not the kind of file that a cross compiler writes; one line."""


def loaded_bytes(content: bytes, base: int, size: int) -> bytes:
    """Bytes of the memory ``base … base + size - 1`` after loading, without the zeros at its end.

    Raises
    ------
    ElfError
        If it is no such file, or does not fit the memory.
    """
    memory = bytearray(size)
    used = 0
    for kind, offset, _, address, length, _, _, _ in _table(content, _PROGRAM_HEADER, 28, 42):
        if kind != _LOAD or not length:
            continue
        start = address - base
        if start < 0 or start + length > size:
            raise ElfError(f"a segment at 0x{address:08x} of {length} bytes lies outside the memory")
        memory[start : start + length] = content[offset : offset + length]
        used = max(used, start + length)
    return bytes(memory[:used])


def text_bytes(content: bytes) -> int:
    """Bytes of code and constants, as the command ``size`` counts them.

    Raises
    ------
    ElfError
        If it is no such file.
    """
    return sum(
        length
        for _, kind, flags, _, _, length, *_ in _table(content, _SECTION_HEADER, 32, 46)
        if flags & _ALLOCATE and not flags & _WRITE and kind != _NO_BITS
    )


def _table(content: bytes, entry: struct.Struct, offset_at: int, size_at: int) -> Iterator[tuple[int, ...]]:
    """Entries of a table whose offset, and whose entry size and number, stand at these places of the header."""
    if not content.startswith(_IDENTIFICATION) or len(content) < 52:
        raise ElfError("not an ELF file of 32 bits, little-endian")
    (offset,) = struct.unpack_from("<I", content, offset_at)
    size, count = struct.unpack_from("<2H", content, size_at)
    if (size != entry.size and count) or offset + size * count > len(content):
        raise ElfError("an ELF file that is truncated or damaged")
    for index in range(count):
        yield entry.unpack_from(content, offset + index * size)
