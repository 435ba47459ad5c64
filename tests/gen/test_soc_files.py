"""Address map and flash of the RISC-V system: what C, linker and Verilog are told is the same, and fits."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lmht.gen.soc_files import firmware_sources, flash_contents, soc_linker_map, soc_map_header
from lmht.rtl.soc_map import (
    DEVICE_REGISTERS,
    DEVICES,
    FLASH,
    FLASH_HEADER,
    REGIONS,
    SELECT_BITS,
    device_register,
)


def test_regions_are_apart():
    assert len({region.base >> 32 - SELECT_BITS for region in REGIONS}) == len(REGIONS)
    for region in REGIONS:
        assert region.base % (1 << 32 - SELECT_BITS) == 0
        assert region.size & region.size - 1 == 0
        assert region.size <= 1 << 32 - SELECT_BITS
    assert len(DEVICE_REGISTERS) <= DEVICES.words


def test_header_says_what_the_map_says():
    numbers = dict(re.findall(r"#define (\w+) (0x\w+|\d+)u", soc_map_header()))
    for region in REGIONS:
        assert int(numbers[f"SOC_{region.name.upper()}_BASE"], 0) == region.base
        assert int(numbers[f"SOC_{region.name.upper()}_BYTES"], 0) == region.size
    for register in DEVICE_REGISTERS:
        assert int(numbers[f"SOC_REG_{register.name}"], 0) == register.address
        for name, field in register.fields.items():
            assert int(numbers[f"SOC_{register.name}_{name.upper()}_MASK"], 0) == field.mask
    assert re.findall(r"uint32_t (\w+);", soc_map_header()) == [name for name, _ in FLASH_HEADER]


def test_linker_is_told_the_memory():
    assert soc_linker_map().splitlines() == [
        "MEMORY { RAM : ORIGIN = 0x00000000, LENGTH = 0x00010000 }",
        "INTERRUPT_VECTOR = 0x00000010;",
    ]


def test_driver_among_the_sources_is_the_one_of_the_package():
    sources = firmware_sources()
    assert sources["soc_map.h"].decode() == soc_map_header()
    assert b"lmht_load_image" in sources["lmht.c"]


def test_unknown_register_is_refused():
    with pytest.raises(KeyError, match="UART_SPEED"):
        device_register("UART_SPEED")


def test_flash_holds_what_its_header_says():
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (3, 25), dtype=np.uint8)
    image = rng.bytes(42)
    flash = flash_contents(image, frames, timeout_cycles=2**40)
    header = np.frombuffer(flash, "<u4", len(FLASH_HEADER)).tolist()
    image_offset, image_bytes, frames_offset, stride, count, timeout = header
    assert (image_bytes, stride, count, timeout) == (42, 28, 3, 2**32 - 1)
    assert frames_offset % 4 == 0
    assert flash[image_offset : image_offset + image_bytes] == image
    for number, frame in enumerate(frames):
        start = frames_offset + number * stride
        assert flash[start : start + 25] == frame.tobytes()
    assert len(flash) == frames_offset + 3 * stride


def test_flash_is_filled_to_the_last_frame():
    stride = 4096
    image = bytes(stride - 4 * len(FLASH_HEADER))
    room = FLASH.size // stride - 1
    frames = np.zeros((room, stride), np.uint8)
    assert len(flash_contents(image, frames, timeout_cycles=1)) == FLASH.size
    message = rf"^images must be at most {room}, not {room + 1}: the system's flash has 16,777,216 bytes, "
    with pytest.raises(ValueError, match=message):
        flash_contents(image, np.zeros((room + 1, stride), np.uint8), timeout_cycles=1)
    with pytest.raises(ValueError, match=r"^images must be at most 0, not 1: "):
        flash_contents(bytes(FLASH.size), frames[:1], timeout_cycles=1)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_numbers_are_written_in_decimal(tmp_path):
    """The firmware's own conversion, on this machine: numbers of 64 bits without a division of that width."""
    (tmp_path / "soc_text.c").write_bytes(firmware_sources()["soc_text.c"])
    (tmp_path / "soc.h").write_text(
        "#include <stdint.h>\n"
        "void soc_put_character(char character);\n"
        "void soc_put_text(const char *text);\n"
        "void soc_put_number(int64_t number);\n"
    )
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include <stdlib.h>\n#include "soc.h"\n'
        "void soc_put_character(char character) { putchar(character); }\n"
        "int main(int count, char **texts) {\n"
        "    for (int i = 1; i < count; i++) {\n"
        "        soc_put_number(strtoll(texts[i], NULL, 10));\n"
        '        soc_put_text("\\n");\n'
        "    }\n    return 0;\n}\n"
    )
    flags = [
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Werror",
        "-fsanitize=undefined",
        "-fno-sanitize-recover=all",
    ]
    command = ["gcc", *flags, "main.c", "soc_text.c", "-o", "numbers"]
    subprocess.run(command, cwd=tmp_path, check=True)
    rng = np.random.default_rng(2)
    numbers = [0, -1, 9, 10, 65535, 65536, -(2**63), 2**63 - 1, 10**18]
    numbers += [int(number) for bits in range(1, 63) for number in rng.integers(-(2**bits), 2**bits, 3)]
    done = subprocess.run(
        [str(tmp_path / "numbers"), *map(str, numbers)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(number) for number in numbers]


def test_page_has_every_region():
    page = (Path(__file__).parents[2] / "docs/riscv.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(0x\w{8})` \|", page, re.MULTILINE) == [
        f"0x{region.base:08x}" for region in REGIONS
    ]
