"""Memory contents as files: a ``$readmemh`` file for each memory, and ``image.bin`` with all for the driver.

``image.bin`` is made of little-endian words of 32 bits::

    magic 0x494D484C ("LHMI"), format 1, design hash (low, high), words in the file, number of sections,
    for each section: memory index, words per row, rows, then rows * words of data (least significant word
    first), CRC-32 (as in zlib) of all bytes before it
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmht.gen.memory_contents import tile_memories
from lmht.rtl.parameters import DesignParameters

__all__ = [
    "IMAGE_FILE",
    "IMAGE_FORMAT",
    "IMAGE_MAGIC",
    "Image",
    "ImageError",
    "encode_image",
    "format_hex",
    "read_image",
]

IMAGE_FILE = "image.bin"
IMAGE_MAGIC = 0x494D484C
IMAGE_FORMAT = 1

_HEADER_WORDS = 6
_SECTION_WORDS = 3


class ImageError(ValueError):
    """An image is damaged or belongs to another design; one line that names the file and what is wrong."""


@dataclass(frozen=True, eq=False)
class Image:
    """What an image file holds: rows of shape (rows, words per row) by memory index."""

    design_hash: str
    sections: dict[int, NDArray[np.uint32]]

    def by_name(self, design: DesignParameters) -> dict[str, NDArray[np.uint32]]:
        """Rows by memory name; memories that the image does not hold are left out."""
        memories = tile_memories(design)
        return {
            memory.name: self.sections[memory.index] for memory in memories if memory.index in self.sections
        }


def format_hex(rows: NDArray[np.uint32], width: int) -> str:
    """Rows as text for ``$readmemh``: one row a line, highest digit first, zero padded to `width` bits."""
    digits = -(-width // 4)
    text = np.ascontiguousarray(rows.astype("<u4").view(np.uint8)[:, ::-1]).tobytes().hex()
    line = rows.shape[1] * 8
    return "".join(text[end - digits : end] + "\n" for end in range(line, len(text) + 1, line))


def encode_image(design: DesignParameters, contents: Mapping[str, NDArray[np.uint32]]) -> bytes:
    """The bytes of ``image.bin`` with one section for every loadable memory."""
    memories = tile_memories(design)
    sections = []
    for memory in memories:
        rows = contents[memory.name]
        sections += [np.array([memory.index, rows.shape[1], rows.shape[0]], dtype="<u4"), rows.reshape(-1)]
    total = _HEADER_WORDS + sum(len(section) for section in sections) + 1
    number = int(design.design_hash, 16)
    header = [IMAGE_MAGIC, IMAGE_FORMAT, number & 0xFFFFFFFF, number >> 32, total, len(memories)]
    body = np.concatenate([np.array(header, dtype="<u4"), *sections]).astype("<u4").tobytes()
    return body + zlib.crc32(body).to_bytes(4, "little")


def read_image(path: str | Path, expected_hash: str) -> Image:
    """Read and check an image.

    Parameters
    ----------
    path : path
        File to read.
    expected_hash : str
        Hash of the design it must belong to, 16 hexadecimal digits.

    Raises
    ------
    ImageError
        If the file is missing, no image, of another format, truncated, corrupted, or of another design.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from None
    smallest = 4 * (_HEADER_WORDS + 1)
    if len(content) < smallest:
        raise ImageError(f"{path}: truncated: {len(content)} bytes, at least {smallest} expected")
    header = np.frombuffer(content, "<u4", _HEADER_WORDS)
    magic, version, low, high, total, count = (int(word) for word in header)
    if magic != IMAGE_MAGIC:
        raise ImageError(f"{path}: not a memory image: magic must be 0x{IMAGE_MAGIC:08X}, not 0x{magic:08X}")
    if version != IMAGE_FORMAT:
        raise ImageError(f"{path}: format must be {IMAGE_FORMAT}, not {version}")
    if len(content) != 4 * total:
        kind = "truncated" if len(content) < 4 * total else "overlong"
        raise ImageError(f"{path}: {kind}: {len(content)} bytes, {4 * total} expected")
    stored, computed = int.from_bytes(content[-4:], "little"), zlib.crc32(content[:-4])
    if stored != computed:
        raise ImageError(f"{path}: corrupted: CRC-32 is 0x{computed:08X}, 0x{stored:08X} expected")
    design_hash = f"{high << 32 | low:016x}"
    if design_hash != expected_hash:
        raise ImageError(f"{path}: belongs to design {design_hash}, not {expected_hash}")
    words = np.frombuffer(content, "<u4", total - _HEADER_WORDS - 1, 4 * _HEADER_WORDS)
    return Image(design_hash, _parse_sections(path, words, count))


def _parse_sections(path: Path, words: NDArray[np.uint32], count: int) -> dict[int, NDArray[np.uint32]]:
    sections: dict[int, NDArray[np.uint32]] = {}
    at = 0
    for number in range(count):
        if at + _SECTION_WORDS > len(words):
            raise ImageError(f"{path}: section {number} of {count} lies beyond the end")
        index, width, rows = (int(word) for word in words[at : at + _SECTION_WORDS])
        at += _SECTION_WORDS
        if width < 1 or rows < 1 or at + width * rows > len(words):
            raise ImageError(f"{path}: section {number} has {rows} rows of {width} words, beyond the end")
        if index in sections:
            raise ImageError(f"{path}: section {number} repeats memory {index}")
        sections[index] = words[at : at + width * rows].reshape(rows, width)
        at += width * rows
    if at != len(words):
        raise ImageError(f"{path}: {len(words) - at} words follow the last section")
    return sections
