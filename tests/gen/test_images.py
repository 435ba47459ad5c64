import struct
import zlib

import numpy as np
import pytest

from lmht.gen.images import ImageError, encode_image, format_hex, read_image
from lmht.gen.memory_contents import pack_memories, tile_memories
from lmht.sim.random_networks import random_design


@pytest.fixture(scope="module")
def built():
    network, design = random_design(np.random.default_rng(0), widths=(24, 10))
    contents = pack_memories(design, network)
    return design, contents, encode_image(design, contents)


@pytest.fixture
def image_file(built, tmp_path):
    path = tmp_path / "image.bin"
    path.write_bytes(built[2])
    return path


def with_crc(words):
    body = b"".join(struct.pack("<I", word) for word in words)
    return body + struct.pack("<I", zlib.crc32(body))


def test_bytes_are_as_documented(built):
    design, contents, image = built
    memories = tile_memories(design)
    words = [0x494D484C, 1, int(design.design_hash[8:], 16), int(design.design_hash[:8], 16)]
    data = []
    for index, memory in enumerate(memories):
        width = -(-memory.shape.width // 32)
        data += [index, width, memory.shape.depth]
        data += [int(word) for row in contents[memory.name] for word in row]
    assert image == with_crc([*words, 4 + 2 + len(data) + 1, len(memories), *data])


def test_round_trip(built, image_file):
    design, contents, _ = built
    image = read_image(image_file, design.design_hash)
    found = image.by_name(design)
    assert list(found) == list(contents)
    for name, rows in contents.items():
        np.testing.assert_array_equal(found[name], rows)


@pytest.mark.parametrize("kept", [0, 20, 27, 28, 29, 100, -4, -1])
def test_truncated(built, image_file, kept):
    image_file.write_bytes(built[2][:kept])
    with pytest.raises(ImageError, match=r"image\.bin: truncated: \d+ bytes, (at least )?\d+ expected$"):
        read_image(image_file, built[0].design_hash)


def test_every_flipped_bit_is_seen(built, image_file):
    for bit in range(0, len(built[2]) * 8, 997):
        changed = bytearray(built[2])
        changed[bit // 8] ^= 1 << bit % 8
        image_file.write_bytes(changed)
        with pytest.raises(ImageError):
            read_image(image_file, built[0].design_hash)


def test_foreign_and_wrong_files(built, image_file):
    design, _, image = built
    with pytest.raises(ImageError, match=rf"belongs to design {design.design_hash}, not 0123456789abcdef$"):
        read_image(image_file, "0123456789abcdef")
    image_file.write_bytes(image + b"\0\0\0\0")
    with pytest.raises(ImageError, match=r"overlong: \d+ bytes, \d+ expected$"):
        read_image(image_file, design.design_hash)
    image_file.write_bytes(b"\x7fELF" + image[4:])
    with pytest.raises(ImageError, match=r"magic must be 0x494D484C, not 0x464C457F$"):
        read_image(image_file, design.design_hash)
    image_file.write_bytes(image[:4] + b"\2\0\0\0" + image[8:])
    with pytest.raises(ImageError, match=r"format must be 1, not 2$"):
        read_image(image_file, design.design_hash)
    with pytest.raises(ImageError, match=r"no such file$"):
        read_image(image_file.with_name("other.bin"), design.design_hash)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ([0, 1, 1000, 7], "section 0 has 1000 rows of 1 words, beyond the end"),
        ([0, 0, 1], "section 0 has 1 rows of 0 words, beyond the end"),
        ([0, 1, 1, 7, 0, 1, 1, 7], "section 1 repeats memory 0"),
        ([0, 1, 1, 7], "section 1 of 2 lies beyond the end"),
        ([0, 1, 1, 7, 1, 1, 1, 7, 9], "1 words follow the last section"),
    ],
)
def test_sections_that_do_not_fit(image_file, sections, message):
    image_file.write_bytes(with_crc([0x494D484C, 1, 5, 0, 6 + len(sections) + 1, 2, *sections]))
    with pytest.raises(ImageError, match=f"{message}$"):
        read_image(image_file, f"{5:016x}")


def test_hex_rows():
    rows = np.array([[0x89ABCDEF, 0x1], [0xF, 0x0]], dtype=np.uint32)
    assert format_hex(rows, 33) == "189abcdef\n00000000f\n"
    assert format_hex(rows[:, :1], 4) == "f\nf\n"
    assert format_hex(rows, 64) == "0000000189abcdef\n000000000000000f\n"
