"""C driver on a mocked core: the exact accesses of every call; what must be refused is refused before the first."""

from __future__ import annotations

import random
import re
import subprocess
import zlib
from dataclasses import replace

import numpy as np
import pytest

from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.images import read_image
from lmht.sim.random_networks import random_network

from .conftest import FIRMWARE, SANITIZERS, compile_c

OK = "= 0"
CALLS = 12  # that take a port


def with_checksum(content: bytes | bytearray) -> bytes:
    """The image with its checksum made right again."""
    return bytes(content[:-4]) + zlib.crc32(content[:-4]).to_bytes(4, "little")


def assert_refused(driver, path, *statuses):
    """Both calls refuse the image, with one of the statuses, and without any access."""
    lines = driver(f"check {path}", f"load {path}")
    assert [line for line in lines if not line.startswith("=")] == []
    found = {driver.status(line) for line in lines}
    assert len(found) == 1, found
    assert found <= {f"LMHT_ERR_{status}" for status in statuses}, found


def load_sequence(driver):
    """Accesses of a complete load, as the format of the image has it."""
    image = read_image(driver.build.image_file, driver.build.parameters.design_hash)
    identification = driver.reads(
        "ID", "VERSION", "DESIGN_HASH_LOW", "DESIGN_HASH_HIGH", "FRAME_BYTES", "CLASSES"
    )
    lines = [*identification, driver.write("CONTROL", 0), driver.write("COMMAND", 0b1100), "g 16 0"]
    for index, rows in image.sections.items():
        lines += [driver.write("LOAD_SELECT", index), driver.write("LOAD_ROW", 0)]
        lines += [driver.write("LOAD_DATA", int(word)) for word in rows.reshape(-1)]
        lines += driver.reads("LOAD_ROW")
    return [*lines, driver.write("COMMAND", 0b0001)]


def test_everything_that_is_missing_is_refused_before_any_access(driver):
    lines = driver("nothing")
    assert {driver.status(line) for line in lines} == {"LMHT_ERR_ARGUMENT"}
    assert len(lines) == 5 * CALLS + 20


def test_probe_reads_what_the_core_is(driver):
    registers = ("ID", "VERSION", "DESIGN_HASH_LOW", "DESIGN_HASH_HIGH", "FRAME_BYTES", "CLASSES")
    statuses = ("NO_CORE", "VERSION", "DESIGN", "DESIGN", "DESIGN", "DESIGN")
    assert driver("probe") == [*driver.reads(*registers), OK]
    for number, (register, status) in enumerate(zip(registers, statuses, strict=True)):
        lines = driver(f"set {driver.numbers['LMHT_REG_' + register]} 12345", "probe")
        assert lines[:-1] == driver.reads(*registers[: number + 1])
        assert driver.status(lines[-1]) == f"LMHT_ERR_{status}"


def test_load_checks_then_writes_every_word(driver):
    assert driver(f"check {driver.build.image_file}") == [OK]
    assert driver(f"load {driver.build.image_file}") == [*load_sequence(driver), OK]


def test_load_stops_where_the_bus_fails(driver):
    path = driver.build.image_file
    wanted = load_sequence(driver)
    for access in (*range(12), len(wanted) // 2, len(wanted) - 1):
        *lines, status = driver(f"fail {access}", f"load {path}")
        assert lines == wanted[: access + 1]
        assert driver.status(status) == "LMHT_ERR_BUS"


def test_a_word_that_is_lost_is_noticed(driver):
    for word in (0, 40, 100):
        assert (
            driver.status(driver(f"lose {word}", f"load {driver.build.image_file}")[-1])
            == "LMHT_ERR_LOAD_FAILED"
        )


def test_truncated_and_overlong_images_are_refused(driver, tmp_path):
    content = driver.build.image_file.read_bytes()
    path = tmp_path / "image.bin"
    for length in (*range(40), len(content) // 2, len(content) - 4, len(content) - 1):
        path.write_bytes(content[:length])
        assert_refused(driver, path, "IMAGE_LENGTH")
    path.write_bytes(content + b"\0")
    assert_refused(driver, path, "IMAGE_LENGTH")
    path.write_bytes(content + bytes(4))
    assert_refused(driver, path, "IMAGE_LENGTH")


def test_corrupted_images_are_refused(driver, tmp_path):
    content = driver.build.image_file.read_bytes()
    rng = random.Random(1)
    path = tmp_path / "image.bin"
    for _ in range(60):
        damaged = bytearray(content)
        damaged[rng.randrange(24, len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        assert_refused(driver, path, "IMAGE_CORRUPTED")


@pytest.mark.parametrize(
    ("word", "value", "status"),
    [
        (0, 0, "IMAGE_FORMAT"),
        (1, 2, "IMAGE_FORMAT"),
        (2, 0, "DESIGN"),
        (3, 0, "DESIGN"),
        (4, 7, "IMAGE_LENGTH"),
        (5, 0, "IMAGE_LAYOUT"),
        (5, 2**32 - 1, "IMAGE_LAYOUT"),
        (6, 1, "IMAGE_LAYOUT"),  # the first section's memory: another one
        (6, 2**32 - 1, "IMAGE_LAYOUT"),
        (7, 0, "IMAGE_LAYOUT"),  # its words in a row
        (8, 2**32 - 1, "IMAGE_LAYOUT"),  # its rows
    ],
)
def test_headers_that_do_not_fit_are_refused(driver, tmp_path, word, value, status):
    content = bytearray(driver.build.image_file.read_bytes())
    content[4 * word : 4 * word + 4] = value.to_bytes(4, "little")
    path = tmp_path / "image.bin"
    path.write_bytes(with_checksum(content))
    assert_refused(driver, path, status)


def test_an_image_of_another_design_is_refused(driver, tmp_path):
    network = random_network(np.random.default_rng(4), input_shape=(1, 4, 4), widths=(12, 4), leak=True)
    compile_network(network, tmp_path / "other", CompileOptions(name="other", lanes=6))
    assert_refused(driver, tmp_path / "other" / "image.bin", "DESIGN")


def test_sections_twice_or_in_another_order_are_refused(driver, tmp_path):
    content = driver.build.image_file.read_bytes()
    words = np.frombuffer(content, "<u4")
    sections, at = [], 6
    for _ in range(words[5]):
        end = at + 3 + int(words[at + 1] * words[at + 2])
        sections.append(words[at:end])
        at = end
    sizes = [len(section) for section in sections]
    first, second = next(
        (a, b) for a in range(len(sizes)) for b in range(a + 1, len(sizes)) if sizes[a] == sizes[b]
    )
    path = tmp_path / "image.bin"
    swapped, twice = list(sections), list(sections)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    twice[second] = twice[first]
    for changed in (swapped, twice):
        path.write_bytes(with_checksum(np.concatenate([words[:6], *changed, words[-1:]]).tobytes()))
        assert_refused(driver, path, "IMAGE_LAYOUT")


def test_random_images_do_no_harm(driver, tmp_path):
    """Under the sanitizers: headers of random words behind a right checksum; only the true image is taken."""
    content = driver.build.image_file.read_bytes()
    rng = random.Random(2)
    commands = []
    for number in range(400):
        damaged = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            word = rng.choice((4, 5, 6, 7, 8, rng.randrange(len(content) // 4 - 1)))
            value = rng.choice((0, 1, 2**31, 2**32 - 1, rng.getrandbits(32), rng.randrange(200)))
            damaged[4 * word : 4 * word + 4] = value.to_bytes(4, "little")
        damaged = damaged[: rng.choice((len(damaged),) * 5 + (4 * rng.randrange(8, len(damaged) // 4),))]
        path = tmp_path / f"{number}.bin"
        path.write_bytes(with_checksum(damaged))
        commands.append(f"check {path}")
    lines = driver(*commands)
    assert len(lines) == len(commands)
    for line, command in zip(lines, commands, strict=True):
        if line == OK:
            # Contents may have changed, with the checksum: that is another image of the same design.
            read_image(command.removeprefix("check "), driver.build.parameters.design_hash)


def test_enable(driver):
    assert driver("enable 1", "enable 0") == [driver.write("CONTROL", 1), OK, driver.write("CONTROL", 0), OK]


def test_soft_reset_takes_what_is_left(driver):
    assert driver("reset 0") == [driver.write("COMMAND", 0b0100), "g 16 0", OK]
    lines = driver("chunk 3", "chunk 20", "reset 1")
    assert lines == [driver.write("COMMAND", 0b1100), "g 16 3", "g 16 16", "g 16 4", "g 16 0", OK]


def test_soft_reset_gives_up_on_a_stream_that_does_not_end(driver):
    lines = driver(*["chunk 5"] * 60, "reset 0")
    assert driver.status(lines[-1]) == "LMHT_ERR_TIMEOUT"
    assert len(lines) == 18


def test_a_frame_of_the_wrong_length_is_not_sent(driver):
    for length in (0, 15, 17):
        lines = driver(f"send {length}", f"run {length} 5")
        assert [driver.status(line) for line in lines] == ["LMHT_ERR_FRAME_LENGTH"] * 2
    assert driver("send 16") == ["s 16 48", OK]


def result_commands(*logits, winner, error=0):
    words = [*(value & 0xFFFFFFFF for value in logits), winner | error << 31]
    return [f"word {index} {word}" for index, word in enumerate(words)]


def test_run_polls_until_the_result_is_complete(driver):
    words = result_commands(-5, 7, -(2**18), 2**18 - 1, winner=3)
    lines = driver(
        *words, "chunk 2", "chunk 0", "chunk 3", "run 16 9", "class", *(f"logit {n}" for n in range(4))
    )
    assert lines[:5] == ["s 16 48", "g 5 2", "g 3 0", "g 3 3", OK]
    assert lines[5:] == ["= 0 3 0", "= 0 -5", "= 0 7", f"= 0 {-(2**18)}", f"= 0 {2**18 - 1}"]


def test_run_ends_after_its_polls(driver):
    lines = driver("chunk 4", "run 16 3", "class", "logit 0")
    assert lines[:4] == ["s 16 48", "g 5 4", "g 1 0", "g 1 0"]
    assert driver.status(lines[4]) == "LMHT_ERR_TIMEOUT"
    assert [driver.status(line) for line in lines[5:]] == ["LMHT_ERR_INCOMPLETE"] * 2
    # A reset and the next frame are right.
    lines = driver(
        "chunk 4", "run 16 3", *result_commands(1, 2, 3, 4, winner=3), "reset 0", "chunk 5", "run 16 3"
    )
    assert lines[-1] == OK


def test_a_flagged_frame_is_told(driver):
    lines = driver(*result_commands(0, 0, 0, 0, winner=0, error=1), "chunk 5", "run 16 1", "class")
    assert lines[-1] == "= 0 0 1"


def test_fetch_does_not_wait(driver):
    lines = driver(
        *result_commands(1, 2, 3, 4, winner=3), "chunk 3", "chunk 9", "begin", *["fetch"] * 3, "class"
    )
    assert lines == [OK, "g 5 3", "= 0 0 3", "g 2 2", "= 0 1 5", "= 0 1 5", "= 0 3 0"]


def test_a_port_that_gives_too_much_is_refused(driver):
    lines = driver("greedy", "begin", "fetch", "reset 0", "run 16 3")
    assert [driver.status(line) for line in lines if line.startswith("=")] == ["LMHT_OK"] + [
        "LMHT_ERR_BUS"
    ] * 3


def test_interrupts(driver):
    cause = driver.numbers["LMHT_REG_INTERRUPT_CAUSE"]
    assert driver("interrupts 3") == [driver.write("INTERRUPT_ENABLE", 3), OK]
    assert driver("take") == [f"r {cause}", "= 0 0"]
    assert driver(f"set {cause} 1", "take") == [f"r {cause}", f"w {cause} 1", "= 0 1"]


def test_counters_and_errors(driver):
    numbers = driver.numbers
    assert driver("snapshot 0", "snapshot 1") == [
        driver.write("COMMAND", 2),
        OK,
        driver.write("COMMAND", 3),
        OK,
    ]
    frames = numbers["LMHT_REG_READOUT_FRAMES"]
    assert driver(f"set {frames} 77", f"register {frames}") == [f"r {frames}", "= 0 77"]
    first = 1 << 31 | 5 << numbers["LMHT_FIRST_ERROR_STAGE_OFFSET"] | 2
    lines = driver(
        f"set {numbers['LMHT_REG_STATUS']} 1",
        f"set {numbers['LMHT_REG_FIRST_ERROR']} {first}",
        f"set {numbers['LMHT_REG_FIRST_ERROR_CYCLE']} 999",
        "errors",
    )
    assert lines == [*driver.reads("STATUS", "FIRST_ERROR", "FIRST_ERROR_CYCLE"), "= 0 1 1 5 2 999"]


@pytest.mark.parametrize("command", ["enable 1", "reset 0", "send 16", "interrupts 1", "snapshot 1"])
def test_a_failing_bus_is_told(driver, command):
    assert driver.status(driver("fail 0", command)[-1]) == "LMHT_ERR_BUS"


@pytest.mark.parametrize(
    ("command", "accesses"), [("take", 2), ("register 0", 1), ("errors", 3), ("run 16 2", 2)]
)
def test_a_failing_bus_leaves_the_values(driver, command, accesses):
    cause = f"set {driver.numbers['LMHT_REG_INTERRUPT_CAUSE']} 2"
    for access in range(accesses):
        line = driver(cause, f"fail {access}", command)[-1]
        assert driver.status(line) == "LMHT_ERR_BUS"
        assert set(line.split()[2:]) <= {"0"}


def test_logits_of_two_words(driver, tmp_path):
    header = (driver.build.folder / "lmht_design.h").read_text()
    header = header.replace("LMHT_WORDS_PER_LOGIT 1u", "LMHT_WORDS_PER_LOGIT 2u")
    (tmp_path / "lmht_design.h").write_text(header.replace("LMHT_RESULT_WORDS 5u", "LMHT_RESULT_WORDS 9u"))
    sources = [FIRMWARE / "lmht.c", *(FIRMWARE.parent / "tests" / "firmware").glob("mock_host.c")]
    compile_c(sources, tmp_path / "driver", *SANITIZERS, f"-I{tmp_path}")
    wide = replace(driver, program=tmp_path / "driver")
    logits = (-1, 2**40 + 5, -(2**63), 2**63 - 1)
    words = [part for value in logits for part in (value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF)]
    commands = [f"word {index} {word}" for index, word in enumerate([*words, 3])]
    lines = wide(*commands, "chunk 9", "run 16 1", *(f"logit {number}" for number in range(4)))
    assert lines[3:] == [f"= 0 {value}" for value in logits]


def test_the_object_has_no_state_and_calls_nobody(driver, tmp_path):
    compile_c([FIRMWARE / "lmht.c"], tmp_path / "lmht.o", "-c", "-O2", f"-I{driver.build.folder}")
    listed = subprocess.run(
        ["nm", str(tmp_path / "lmht.o")], check=True, capture_output=True, text=True
    ).stdout
    symbols = [line.split()[-2:] for line in listed.splitlines()]
    assert [name for kind, name in symbols if kind in "BbDdCc"] == []
    called = {name for kind, name in symbols if kind == "U"} - {"_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
    assert called <= {"memcpy", "memset"}


def test_every_public_function_is_documented():
    text = (FIRMWARE / "lmht.h").read_text()
    declared = re.findall(r"LMHT_MUST_USE lmht_status_t (lmht_\w+)\(", text)
    documented = re.findall(r"\*/\nLMHT_MUST_USE lmht_status_t (lmht_\w+)\(", text)
    assert documented == declared
    assert len(declared) > 10


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("status = lmht_check_image(image, length);", "status = LMHT_OK;"),
        ("if (image_word(image, words - 1) != crc32(image, length - WORD_BYTES)) {", "if (image == NULL) {"),
        ("index < smallest || ", ""),
    ],
)
def test_drivers_that_check_less_are_found(driver, tmp_path, line, instead):
    source = (FIRMWARE / "lmht.c").read_text()
    assert source.count(line) == 1
    (tmp_path / "lmht.c").write_text(source.replace(line, instead))
    mock = FIRMWARE.parent / "tests" / "firmware" / "mock_host.c"
    compile_c([tmp_path / "lmht.c", mock], tmp_path / "driver", "-w", f"-I{driver.build.folder}")
    careless = replace(driver, program=tmp_path / "driver")

    def check():
        test_corrupted_images_are_refused(careless, tmp_path)
        test_sections_twice_or_in_another_order_are_refused(careless, tmp_path)

    with pytest.raises(AssertionError):
        check()
