import re
import subprocess

import pytest

from lmht.gen.build import Build
from lmht.rtl.registers import RegisterMap

PROGRAM = """
#include "lmht_design.h"
#include <stdint.h>
#include <stdio.h>

#define ROW(name, index, width, rows, words) {#name, index, width, rows, words},
static const struct { const char *name; uint32_t index, width, rows, words; } memories[LMHT_MEMORY_COUNT] = {
    LMHT_MEMORIES(ROW)
};

int main(void)
{
    uint32_t i;
    printf("%s %08x%08x %u %u\\n", LMHT_DESIGN_NAME, (unsigned)LMHT_DESIGN_HASH_HIGH,
           (unsigned)LMHT_DESIGN_HASH_LOW, LMHT_FRAME_BYTES, LMHT_IMAGE_BYTES);
    for (i = 0; i < LMHT_MEMORY_COUNT; i++) {
        printf("%s %u %u ", memories[i].name, (unsigned)memories[i].index, (unsigned)memories[i].width);
        printf("%u %u\\n", (unsigned)memories[i].rows, (unsigned)memories[i].words);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def build(small_build):
    return Build.open(small_build)


def test_header_compiles_and_says_what_the_design_is(build, tmp_path):
    (tmp_path / "main.c").write_text(PROGRAM)
    program = tmp_path / "program"
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    command = ["gcc", *strict, f"-I{build.folder}", str(tmp_path / "main.c"), "-o", str(program)]
    subprocess.run(command, check=True)
    lines = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.splitlines()
    size = build.image_file.stat().st_size
    assert lines[0] == f"compact {build.parameters.design_hash} 16 {size}"
    memories = RegisterMap.for_design(build.parameters).memories
    assert lines[1:] == [
        f"{memory.name} {memory.index} {memory.shape.width} {memory.shape.depth} {memory.words}"
        for memory in memories
    ]


def test_every_register_and_field_is_there(build):
    text = (build.folder / "lmht_design.h").read_text()
    numbers = {name: int(value, 0) for name, value in re.findall(r"#define (\w+) (0x\w+|\d+)u", text)}
    for register in build.manifest.registers:
        assert numbers[f"LMHT_REG_{register.name.upper()}"] == register.address
        for name, field in register.fields.items():
            prefix = f"LMHT_{register.name.upper()}_{name.upper()}"
            assert numbers[f"{prefix}_OFFSET"] == field.offset
            assert numbers[f"{prefix}_MASK"] == (2**field.width - 1) * 2**field.offset
    names = re.findall(r"#define (\w+)", text)
    assert len(names) == len(set(names))
