"""The driver's fuzz target (``firmware/fuzz``): the design that it is built for, and the inputs to begin with."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lmht.gen.header import HEADER_FILE, c_header
from lmht.gen.images import IMAGE_FORMAT, IMAGE_MAGIC, read_image
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.registers import LoadableMemory, RegisterMap
from lmht.sim.random_networks import random_design

__all__ = ["IMAGE_BYTES", "MEMORIES", "PREFIX", "image_input", "seed_inputs", "write_design_header"]

PREFIX = 2
"""Bytes before the image: what goes wrong while it is loaded, and where."""

WORD_BYTES = 4
HEADER_WORDS = 6
SECTION_WORDS = 3
BUS_FAULT, FOREIGN_FAULT, LOST_FAULT, ENDLESS_FAULT = range(4)

MEMORIES = ((1, 1), (1, 1), (3, 2), (2, 3), (5, 1), (6, 1), (5, 1), (1, 1))
"""Rows and words of a row of every loadable memory: some sections of wrong memories fit, others miss by one word."""
SECTIONS = 5
"""The image holds the first of them; the others are routing tables, which are no part of an image."""
IMAGE_BYTES = WORD_BYTES * (
    HEADER_WORDS + sum(SECTION_WORDS + rows * words for rows, words in MEMORIES[:SECTIONS]) + 1
)


def write_design_header(folder: Path) -> str:
    """``lmht_design.h`` of a small design with :data:`MEMORIES`, as the compiler writes it; returns the design's hash.

    Its memories do not follow the hardware's, so that the corpus stays valid when tiles change.
    """
    _, design = random_design(np.random.default_rng(4), input_shape=(1, 2, 2), widths=(4, 2), name="fuzzed")
    registers = replace(
        RegisterMap.for_design(design),
        memories=tuple(
            LoadableMemory(index, "fuzzed", f"memory{index}", MemoryShape(width=32 * words, depth=rows))
            for index, (rows, words) in enumerate(MEMORIES)
        ),
    )
    header = c_header(registers, image_bytes=IMAGE_BYTES, image_sections=SECTIONS)
    (folder / HEADER_FILE).write_text(header, encoding="utf-8")
    return design.design_hash


@dataclass(frozen=True)
class Section:
    """Header and data of a section; None is what the memory `index` has."""

    index: int
    words: int | None = None
    rows: int | None = None

    def encode(self) -> list[int]:
        rows, words = MEMORIES[self.index % len(MEMORIES)]
        # Words whose bytes all differ, and from word to word.
        data = [0x9E3779B1 * (16 * self.index + number + 1) & 0xFFFFFFFF for number in range(rows * words)]
        return [
            self.index,
            words if self.words is None else self.words,
            rows if self.rows is None else self.rows,
            *data,
        ]


def fuzz_input(
    content: bytes,
    *,
    fault: int = BUS_FAULT,
    place: int = 0,
    header: Sequence[int] = (0,) * HEADER_WORDS,
    checksum: int = 0,
) -> bytes:
    """An input, see ``firmware/fuzz/fuzz_image.h``.

    Parameters
    ----------
    content : bytes
        Between header and checksum.
    fault, place : int
        What goes wrong while the image is loaded, and where.
    header, checksum : sequence of int, int
        Differences to the right words.
    """
    words = np.array([*header], dtype="<u4").tobytes()
    return bytes((fault, place)) + words + content + checksum.to_bytes(WORD_BYTES, "little")


def image_input(path: Path, design_hash: str) -> bytes:
    """The input that stands for an image file.

    Raises
    ------
    ImageError
        If the image is damaged or of another design.
    """
    read_image(path, design_hash)
    return fuzz_input(path.read_bytes()[WORD_BYTES * HEADER_WORDS : -WORD_BYTES])


def encode_sections(sections: Sequence[Section | int], words: int | None = None) -> bytes:
    """Sections one behind the other; cut or filled with zeros to `words` words, by default to those of an image."""
    parts = [section if isinstance(section, Section) else Section(section) for section in sections]
    encoded = [word for part in parts for word in part.encode()]
    length = IMAGE_BYTES // WORD_BYTES - HEADER_WORDS - 1 if words is None else words
    return np.array([*encoded, *[0] * length][:length], dtype="<u4").tobytes()


def right_header(design_hash: str) -> bytes:
    """The first words of a right image."""
    number = int(design_hash, 16)
    words = (
        IMAGE_MAGIC,
        IMAGE_FORMAT,
        number & 0xFFFFFFFF,
        number >> 32,
        IMAGE_BYTES // WORD_BYTES,
        SECTIONS,
    )
    return np.array(words, dtype="<u4").tobytes()


def force_checksum(before: bytes, content: bytes, place: int, wanted: int) -> bytes:
    """`content` with the word at byte `place` chosen so that the CRC-32 of `before` and `content` is `wanted`."""

    def crc(word: int) -> int:
        changed = content[:place] + word.to_bytes(WORD_BYTES, "little") + content[place + WORD_BYTES :]
        return zlib.crc32(before + changed)

    # The CRC is affine in the word's bits: solve for the bits to set, by elimination over GF(2).
    target = crc(0) ^ wanted
    basis: list[tuple[int, int]] = []
    for bit in range(32):
        effect, bits = crc(1 << bit) ^ crc(0), 1 << bit
        for known, known_bits in basis:
            if effect & 1 << known.bit_length() - 1:
                effect, bits = effect ^ known, bits ^ known_bits
        basis = sorted([*basis, (effect, bits)], reverse=True)
    word = 0
    for effect, bits in basis:
        if target & 1 << effect.bit_length() - 1:
            target, word = target ^ effect, word ^ bits
    return content[:place] + word.to_bytes(WORD_BYTES, "little") + content[place + WORD_BYTES :]


def seed_inputs(design_hash: str) -> dict[str, bytes]:
    """Inputs by name: good images, every single thing wrong, and the boundaries of every comparison.

    Parameters
    ----------
    design_hash : str
        As :func:`write_design_header` returns it. It enters only the one input whose checksum is a given one.
    """
    good = encode_sections(range(SECTIONS))
    seeds = {
        "good": fuzz_input(good),
        "good-other-memory": fuzz_input(encode_sections([0, 1, 2, 3, 6])),
        "wrong-checksum": fuzz_input(good, checksum=1),
        "wrong-checksum-high": fuzz_input(good, checksum=1 << 31),
    }
    for word, name in enumerate(("magic", "format", "hash-low", "hash-high", "length", "sections")):
        for bit in (0, 31):
            difference = [1 << bit if word == place else 0 for place in range(HEADER_WORDS)]
            seeds[f"wrong-{name}-{bit}"] = fuzz_input(good, header=difference)
    layouts: dict[str, Sequence[Section | int]] = {
        "twice": [0, 0, 2, 3, 4],
        "descending": [1, 0, 2, 3, 4],
        "index-beyond": [0, 1, 2, 3, len(MEMORIES)],
        "index-far-beyond": [0, 1, 2, 3, 2**32 - 1],
        "ends-early": [0, 1, 2, 3, 7],
        "ends-at-last-header": [2, 3, 4, 6, 7],
        "one-word-too-many": [2, 3, 4, 5, 7],
        "rows-less": [0, 1, 2, 3, Section(4, rows=4)],
        "rows-more": [0, 1, 2, 3, Section(4, rows=6)],
        "rows-huge": [0, 1, 2, 3, Section(4, rows=2**32 - 1)],
        "words-none": [0, 1, 2, 3, Section(4, words=0)],
        "words-more": [0, 1, 2, 3, Section(4, words=2)],
        "words-rows-exchanged": [0, 1, Section(2, words=3, rows=2), 3, 4],
    }
    seeds |= {f"layout-{name}": fuzz_input(encode_sections(layout)) for name, layout in layouts.items()}
    # A fifth section would begin with the checksum: that is made the number of a memory.
    forced = force_checksum(
        right_header(design_hash),
        encode_sections(layouts["ends-at-last-header"]),
        SECTION_WORDS * WORD_BYTES,
        7,
    )
    seeds["layout-checksum-as-header"] = fuzz_input(forced)
    longer = sum(len(Section(index).encode()) for index in range(1, SECTIONS + 1))
    seeds["length-of-other-memories"] = fuzz_input(encode_sections(range(1, SECTIONS + 1), longer))
    seeds["length-more"] = fuzz_input(encode_sections(range(SECTIONS), len(good) // WORD_BYTES + 1))
    seeds["length-less"] = fuzz_input(encode_sections(range(SECTIONS), len(good) // WORD_BYTES - 1))
    seeds["length-header-only"] = fuzz_input(b"")
    seeds |= {f"bytes-{more}-more": fuzz_input(good + bytes(more)) for more in (1, 2, 3)}
    seeds |= {f"bytes-{length}": fuzz_input(b"")[: PREFIX + length] for length in (0, 1, 4, 20, 24, 27)}
    seeds |= {f"bus-{place}": fuzz_input(good, place=place) for place in (1, 7, 8, 9, 10, 11, 12, 13, 44)}
    seeds |= {f"foreign-{place}": fuzz_input(good, fault=FOREIGN_FAULT, place=place) for place in range(7)}
    seeds |= {f"lost-{place}": fuzz_input(good, fault=LOST_FAULT, place=place) for place in (0, 1, 9, 19, 20)}
    seeds["endless"] = fuzz_input(good, fault=ENDLESS_FAULT)
    return {f"seed-{name}": content for name, content in seeds.items()}
