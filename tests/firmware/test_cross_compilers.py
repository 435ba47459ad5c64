"""The driver compiles for RISC-V and Arm Cortex-M with every warning an error, and stays small."""

import numpy as np
import pytest

from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.header import HEADER_FILE
from lmht.sim.cross_compiler import COMPILERS, TARGETS, find_compiler
from lmht.sim.elf import ElfError, loaded_bytes, text_bytes
from lmht.sim.random_networks import random_network
from lmht.sim.soc_firmware import compile_driver
from lmht.sim.toolchain import ToolchainError

SMALL = 4096  # bytes of code and constants that a driver may take in a microcontroller


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cross") / "build"
    network = random_network(np.random.default_rng(4), input_shape=(1, 4, 4), widths=(12, 4))
    compile_network(network, folder, CompileOptions(name="compact", lanes=4, split={0: 2}))
    return (folder / HEADER_FILE).read_bytes()


@pytest.fixture(params=[(target, kind) for target in TARGETS for kind in COMPILERS], ids=" ".join)
def compiler(request):
    target, kind = request.param
    try:
        return find_compiler(TARGETS[target], kind)
    except ToolchainError as missing:
        pytest.skip(str(missing))


def test_driver(header, compiler):
    assert 1000 < text_bytes(compile_driver(header, compiler)) < SMALL


def test_a_warning_is_an_error(header, compiler):
    careless = b"static int narrow(long long wide) { return wide; }\n"
    with pytest.raises(ToolchainError, match=rf"^{compiler.kind}: .*error"):
        compile_driver(header + careless, compiler)


@pytest.mark.parametrize(
    "content", [b"", b"MZ", b"\x7fELF\x02\x01\x01" + bytes(100)], ids=["empty", "PE", "64 bits"]
)
def test_other_files_are_no_elf(content):
    with pytest.raises(ElfError, match=r"^not an ELF file of 32 bits, little-endian$"):
        text_bytes(content)


def test_a_program_outside_the_memory_is_refused():
    """One segment of 8 bytes, at 0x1000."""
    header = bytearray(b"\x7fELF\x01\x01\x01".ljust(52, b"\0"))
    header[28:32] = (52).to_bytes(4, "little")
    header[42:46] = bytes([32, 0, 1, 0])
    segment = [1, 84, 0, 0x1000, 8, 8, 5, 4]
    content = bytes(header) + b"".join(word.to_bytes(4, "little") for word in segment) + b"program."
    assert loaded_bytes(content, 0x0FF8, 64) == bytes(8) + b"program."
    with pytest.raises(ElfError, match=r"^a segment at 0x00001000 of 8 bytes lies outside the memory$"):
        loaded_bytes(content, 0, 0x1004)
    with pytest.raises(ElfError, match="truncated or damaged"):
        loaded_bytes(content[:60], 0, 0x2000)
