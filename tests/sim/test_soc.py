"""The RISC-V system: real images with every logit equal; planted faults are found and named; damage is refused."""

import copy
import re
import struct
import zlib

import numpy as np
import pytest

from lmht.gen.build import Build
from lmht.gen.cli import main
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.header import HEADER_FILE
from lmht.gen.soc_files import firmware_sources
from lmht.model import load_dataset
from lmht.rtl.soc_map import FLASH
from lmht.sim import expectations, soc_engine, soc_firmware
from lmht.sim.cross_compiler import COMPILERS, TARGETS, find_compiler
from lmht.sim.random_networks import random_images, random_network
from lmht.sim.simulation import SimulationError
from lmht.sim.soc_engine import SocEngine, cpu_source
from lmht.sim.soc_report import SocError, SocReport
from lmht.sim.soc_verify import compare_soc
from lmht.sim.toolchain import ToolchainError

IMAGES = 20


@pytest.fixture(scope="module")
def compiler():
    """A RISC-V compiler; without one, or without the processor, there is nothing to test."""
    try:
        cpu_source()
        return find_compiler(TARGETS["riscv"])
    except ToolchainError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny network for the digits, trained and compiled."""
    folder = tmp_path_factory.mktemp("soc")
    network = ["--net", "64-12-10", "--epochs", "2", "--seed", "3"]
    assert main(["train", *network, "--out", str(folder / "run")]) == 0
    options = ["--name", "digits", "--lanes", "4", "--bus", "axi"]
    assert main(["compile", str(folder / "run"), *options, "--out", str(folder / "build")]) == 0
    return folder / "build"


@pytest.fixture(scope="module")
def build(folder):
    return Build.open(folder)


@pytest.fixture(scope="module")
def engine(build, compiler):
    return SocEngine(build, compiler)


@pytest.fixture(scope="module")
def images():
    return load_dataset("digits").test_images[:IMAGES].numpy()


@pytest.fixture(scope="module")
def expected(build, images):
    return expectations.expect(build.network, build.parameters, images)


@pytest.fixture(scope="module")
def finished(engine, images):
    return engine.run(images)


@pytest.fixture
def run(finished):
    """A run of all images, which a test may change."""
    return copy.deepcopy(finished)


def with_checksum(image):
    return bytes(image[:-4]) + zlib.crc32(image[:-4]).to_bytes(4, "little")


def test_twenty_digits(engine, folder, tmp_path, capsys):
    capsys.readouterr()
    assert main(["soc", str(folder), "--images", str(IMAGES), "--uart", str(tmp_path / "uart.txt")]) == 0
    shown = capsys.readouterr().out
    assert f"all {10 * IMAGES} logits and {IMAGES} classes equal the golden model's" in shown
    report = SocReport.read((tmp_path / "uart.txt").read_text().splitlines())
    assert [image.way for image in report.images] == ["polling", "interrupt"] * (IMAGES // 2)
    for number, image in enumerate(report.images):
        assert 0 < image.core < image.total
        assert re.search(rf"\b{number} +│ +{image.winner} │ {image.way} ", shown)


def test_a_wrong_golden_logit_is_named(engine, folder, monkeypatch, capsys):
    """The comparison itself: another number on the golden side is found where it is."""
    true_expect = expectations.expect

    def wrong_expect(*arguments):
        result = true_expect(*arguments)
        result.logits[13, 7] += 1
        return result

    monkeypatch.setattr(expectations, "expect", wrong_expect)
    capsys.readouterr()
    assert main(["soc", str(folder)]) == 1
    message = r"error: system and golden model differ: image 13: logit 7 is (-?\d+) instead of (-?\d+)\n"
    match = re.fullmatch(message, capsys.readouterr().err)
    assert int(match[2]) == int(match[1]) + 1


def test_a_flipped_weight_is_named(engine, build, images, expected):
    """One bit of a weight in flash, with the checksum made right: the logits that it reaches are named."""
    image = bytearray(build.image_file.read_bytes())
    index = next(item.index for item in build.manifest.memories if item.name == "layer1_tile0_weights")
    at = section_start(image, index)
    for row in range(len(image)):  # a row whose neuron spikes somewhere
        flipped = bytearray(image)
        flipped[at + 4 * row] ^= 1
        differences = compare_soc(build, expected, engine.run(images, image=with_checksum(flipped)))
        if differences:
            break
    first = differences[0]
    assert first.kind == "logit"
    found = f"{first.found} instead of {expected.logits[first.image, first.neuron]}"
    assert first.message == f"image {first.image}: logit {first.neuron} is {found}"
    assert {item.neuron for item in differences if item.kind == "logit"} == {first.neuron}


def section_start(image, index):
    """First byte of the rows of the memory `index` in ``image.bin``."""
    words = struct.unpack(f"<{len(image) // 4}I", image)
    at = 6
    while words[at] != index:
        at += 3 + words[at + 1] * words[at + 2]
    return 4 * (at + 3)


@pytest.mark.parametrize(
    ("damage", "status"),
    [
        (lambda image: image[:40] + bytes([image[40] ^ 1]) + image[41:], "LMHT_ERR_IMAGE_CORRUPTED"),
        (lambda image: with_checksum(image[:8] + bytes([image[8] ^ 1]) + image[9:]), "LMHT_ERR_DESIGN"),
        (lambda image: image[:-4], "LMHT_ERR_IMAGE_LENGTH"),
    ],
    ids=["flipped bit", "another design", "truncated"],
)
def test_a_damaged_image_is_refused_over_the_uart(engine, build, images, damage, status):
    with pytest.raises(SocError, match=f"^the firmware says: lmht_load_image returned {status}$"):
        engine.run(images, image=damage(build.image_file.read_bytes()))


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (
            "soc_mask_interrupts(~(1u << SOC_CORE_INTERRUPT))",
            "soc_mask_interrupts(~0u)",
            "waiting for the interrupt returned LMHT_ERR_TIMEOUT",
        ),
        (
            "lmht_enable(&soc_core, true)",
            "lmht_enable(&soc_core, false)",
            "lmht_send_frame returned LMHT_ERR_BUS",
        ),
    ],
    ids=["interrupt masked", "core not enabled"],
)
def test_what_never_comes_is_given_up(engine, build, compiler, images, monkeypatch, right, wrong, message):
    """The interrupt is needed for every second image; a core that takes no frame is noticed."""
    sources = firmware_sources()
    text = sources["soc_main.c"].decode()
    assert right in text
    changed = {**sources, "soc_main.c": text.replace(right, wrong).encode()}
    monkeypatch.setattr(soc_firmware, "firmware_sources", lambda: changed)
    header = (build.folder / HEADER_FILE).read_bytes()
    monkeypatch.setattr(engine, "firmware", soc_firmware.compile_firmware(header, compiler))
    with pytest.raises(SocError, match=f"^the firmware says: {message}$"):
        engine.run(images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda report: report.registers.pop(0), "the firmware did not report the register ID"),
        (
            lambda report: report.registers.update({7: 0}),
            "the firmware read a register at 7, where the core must refuse it",
        ),
    ],
    ids=["missing", "one that is only written"],
)
def test_registers_are_complete(build, expected, run, change, message):
    assert compare_soc(build, expected, run) == []
    change(run.report)
    with pytest.raises(SocError, match=f"^{message}$"):
        compare_soc(build, expected, run)


def test_a_wrong_counter_is_named(build, expected, run):
    address = next(item.address for item in build.manifest.registers if item.name == "frame_encoder_events")
    run.report.registers[address] += 1
    (difference,) = compare_soc(build, expected, run)
    assert (difference.kind, difference.stage) == ("counter", "frame_encoder")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ([0x00000000], "^the processor met an instruction that it cannot execute, or a misaligned address$"),
        # lui a0, 0x30000; lw a0, 4(a0)
        ([0x30000537, 0x00452503], "accessed 0x30000004, which is not allowed$"),
        # lui a0, 0x20000; sw a0, 8(a0): flash
        ([0x20000537, 0x00A52423], "accessed 0x20000008, which is not allowed$"),
        # j .
        ([0x0000006F], r"^nothing came over the UART for \d+ cycles$"),
    ],
    ids=["illegal instruction", "no memory", "flash written", "hang"],
)
def test_a_program_that_goes_astray_ends(build, engine, images, monkeypatch, program, message):
    monkeypatch.setattr(soc_engine, "_QUIET_CYCLES", 1000)
    monkeypatch.setattr(soc_engine, "_LOAD_CYCLES_PER_BYTE", 1)
    monkeypatch.setattr(engine, "firmware", struct.pack(f"<{len(program)}I", *program))
    with pytest.raises(SimulationError, match=message):
        engine.run(images)


@pytest.mark.parametrize("kind", COMPILERS)
def test_firmware_compiles_without_warnings(build, kind):
    """The flags make a warning an error: a function that nothing calls is found."""
    try:
        compiler = find_compiler(TARGETS["riscv"], kind)
    except ToolchainError as missing:
        pytest.skip(str(missing))
    header = (build.folder / HEADER_FILE).read_bytes()
    assert 2000 < len(soc_firmware.compile_firmware(header, compiler)) < 20_000
    with pytest.raises(ToolchainError, match=rf"^{kind}: .*error.*unused"):
        soc_firmware.compile_firmware(header + b"static int unused(void) { return 0; }\n", compiler)


def test_without_a_compiler_one_line_says_what_to_install(folder, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name, **options: None)
    offers = {
        (): "no compiler for RV32IM: pip install ziglang or the Debian package gcc-riscv64-unknown-elf",
        ("--compiler", "gcc"): "no compiler gcc for RV32IM: the Debian package gcc-riscv64-unknown-elf",
        ("--compiler", "zig"): "no compiler zig for RV32IM: pip install ziglang",
    }
    for options, line in offers.items():
        assert main(["soc", str(folder), *options]) == 2
        assert capsys.readouterr().err == f"error: {line}\n"


def test_without_the_processor_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ToolchainError, match=r"^the processor is missing: pip install pythondata-cpu-picorv32$"
    ):
        cpu_source()


def test_more_images_than_the_flash_holds_are_refused(engine, images):
    many = np.broadcast_to(images[:1], (FLASH.size // 64, 1, 8, 8))
    with pytest.raises(ValueError, match=r"^images must be at most \d+, not 262144: the system's flash has"):
        engine.run(many)


@pytest.mark.nightly
def test_a_build_without_a_bus_and_with_narrow_beats(compiler, tmp_path):
    """The module with the ports is made here; streams of 32 bits, frames that end within a word."""
    rng = np.random.default_rng(11)
    network = random_network(rng, input_shape=(1, 5, 5), widths=(12, 6), leak=True)
    compile_network(network, tmp_path / "build", CompileOptions(name="narrow", lanes=4, bytes_per_beat=4))
    build = Build.open(tmp_path / "build")
    images = random_images(rng, 30, network.input_shape, density=0.5)
    run = SocEngine(build, compiler, optimize=False).run(images)
    expected = expectations.expect(build.network, build.parameters, images)
    assert compare_soc(build, expected, run) == []


def test_other_beats_are_refused(compiler, tmp_path):
    network = random_network(np.random.default_rng(11), input_shape=(1, 5, 5), widths=(6,))
    compile_network(network, tmp_path / "build", CompileOptions(name="bytewise", lanes=4, bytes_per_beat=1))
    message = r"^bytes_per_beat of the RISC-V system must be one of 4, 8, not 1$"
    with pytest.raises(ValueError, match=message):
        SocEngine(Build.open(tmp_path / "build"), compiler)
