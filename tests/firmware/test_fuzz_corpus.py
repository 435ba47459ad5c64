"""The fuzzer's seeds and corpus replayed with gcc: no finding with the driver, one with every planted fault."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import FIRMWARE, SANITIZERS, STRICT_FLAGS, compile_c

FUZZ = FIRMWARE / "fuzz"
REFRESH = "no longer fit the driver: renew them with `python scripts/fuzz_driver.py`"
CHECKED = ("OK", "IMAGE_LENGTH", "IMAGE_FORMAT", "IMAGE_CORRUPTED", "DESIGN", "IMAGE_LAYOUT")
LOADED = (*CHECKED, "BUS", "NO_CORE", "VERSION", "LOAD_FAILED", "TIMEOUT")


def load_inputs_module():
    path = FIRMWARE.parent / "scripts" / "fuzz_inputs.py"
    spec = importlib.util.spec_from_file_location("fuzz_inputs", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


@dataclass
class Replay:
    """Target and main function, compiled for one design but not linked with a driver, and the inputs."""

    folder: Path
    module: object
    seeds: list[Path]
    corpus: list[Path]

    def link(self, driver: Path, name: str) -> Path:
        """The program with this driver."""
        program = self.folder / name
        # A planted fault may leave a variable unused.
        flags = ("-w", *SANITIZERS, f"-I{self.folder}", f"-I{FUZZ}")
        objects = [self.folder / "fuzz_image.o", self.folder / "replay.o"]
        compile_c([driver, *objects], program, *flags)
        return program


def compile_target(folder: Path) -> None:
    for source in ("fuzz_image", "replay"):
        flags = (*SANITIZERS, "-O1", "-c", f"-I{folder}", f"-I{FUZZ}")
        compile_c([FUZZ / f"{source}.c"], folder / f"{source}.o", *flags)


def run(program: Path, inputs: list[Path]) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, inputs)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    module = load_inputs_module()
    inputs = module.seed_inputs(module.write_design_header(folder))
    (folder / "seeds").mkdir()
    for name, content in inputs.items():
        (folder / "seeds" / name).write_bytes(content)
    compile_target(folder)
    return Replay(folder, module, sorted((folder / "seeds").iterdir()), sorted((FUZZ / "corpus").iterdir()))


@pytest.fixture(scope="module")
def program(replay):
    return replay.link(FIRMWARE / "lmht.c", "replay")


def statuses(driver, lines: list[str]) -> tuple[Counter[str], Counter[str]]:
    """How often check and load said what."""
    names = {
        number: name.removeprefix("LMHT_").removeprefix("ERR_") for name, number in driver.statuses.items()
    }
    pairs = [line.split()[:2] for line in lines]
    return tuple(Counter(names[int(pair[place])] for pair in pairs) for place in (0, 1))


def test_seeds_reach_every_answer_without_a_finding(driver, replay, program):
    done = run(program, replay.seeds)
    assert done.returncode == 0, done.stderr
    checked, loaded = statuses(driver, done.stdout.splitlines())
    assert set(checked) == set(CHECKED)
    assert set(loaded) == set(LOADED)
    accepted = {line.split("/")[-1] for line in done.stdout.splitlines() if line.startswith("0 ")}
    assert {"seed-good", "seed-good-other-memory"} < accepted
    assert not any(name.split("-")[1] in ("wrong", "layout", "length", "bytes") for name in accepted)


def test_corpus_has_no_finding(driver, replay, program):
    done = run(program, replay.corpus)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(replay.corpus) > 0
    checked, _ = statuses(driver, lines)
    missing = {"OK", "IMAGE_LENGTH", "IMAGE_LAYOUT"} - set(checked)
    assert not missing, f"no file of firmware/fuzz/corpus gives {', '.join(missing)}: they {REFRESH}"


def test_corpus_is_small(replay):
    assert len(replay.corpus) <= 200
    assert sum(path.stat().st_size for path in replay.corpus) <= 200 << 10


def test_target_fits_any_design(driver, tmp_path):
    """Built for a compiled design, it accepts that design's image, and no other than the rules allow."""
    header = tmp_path / "lmht_design.h"
    header.write_bytes((driver.build.folder / header.name).read_bytes())
    compile_target(tmp_path)
    module = load_inputs_module()
    good = module.image_input(driver.build.image_file, driver.build.parameters.design_hash)
    inputs = {"good": good, "longer": good + bytes(4), "changed": good[:40] + b"\xff" + good[41:]}
    for name, content in inputs.items():
        (tmp_path / name).write_bytes(content)
    other = Replay(tmp_path, module, [], [])
    done = run(other.link(FIRMWARE / "lmht.c", "replay"), [tmp_path / name for name in inputs])
    assert done.returncode == 0, done.stderr
    checked, _ = statuses(driver, done.stdout.splitlines())
    assert checked["OK"] in (1, 2)
    assert done.stdout.startswith("0 ")


FAULTS = {
    "no shortest length": (" || words <= HEADER_WORDS", ""),
    "shortest length off by one": ("words <= HEADER_WORDS", "words < HEADER_WORDS"),
    "length not in words": ("length % WORD_BYTES != 0 || ", ""),
    "format not compared": (" || image_word(image, 1) != LMHT_IMAGE_FORMAT", ""),
    "length in the header not compared": ("if (image_word(image, 4) != words) {", "if (words == 0) {"),
    "checksum not compared": ("!= crc32(image, length - WORD_BYTES)", "== 1u && image == NULL"),
    "checksum without the first byte": ("for (i = 0; i < length; i++)", "for (i = 1; i < length; i++)"),
    "checksum of the whole image": ("crc32(image, length - WORD_BYTES)", "crc32(image, length)"),
    "half of the hash": (" || image_word(image, 3) != LMHT_DESIGN_HASH_HIGH", ""),
    "length of another image": ("length != LMHT_IMAGE_BYTES || ", ""),
    "number of sections": (" || image_word(image, 5) != LMHT_IMAGE_SECTIONS", ""),
    "no end to the headers": ("if (end - at < SECTION_WORDS) {", "if (at == 0) {"),
    "headers may begin at the end": ("end - at < SECTION_WORDS", "end - at + SECTION_WORDS < SECTION_WORDS"),
    "sections in any order": ("index < smallest || ", ""),
    "sections twice": ("smallest = index + 1", "smallest = index"),
    "one memory too many": ("index >= LMHT_MEMORY_COUNT", "index > LMHT_MEMORY_COUNT"),
    "rows not compared": ("image_word(image, at + 2) != memories[index].rows", "memories[index].rows == 0"),
    "words not compared": ("image_word(image, at + 1) != memories[index].words ||", ""),
    "data beyond the end": (
        "(end - at) / memories[index].words < memories[index].rows",
        "memories[index].rows == 0",
    ),
    "data beyond the end by one": ("(end - at) / memories", "(end - at + 1) / memories"),
    "words left over": ("at == end ? LMHT_OK", "at <= end ? LMHT_OK"),
    "loads what it refuses": (
        "if (status == LMHT_OK) {\n        status = lmht_probe",
        "{\n        status = lmht_probe",
    ),
    "does not identify the core": ("status = lmht_probe(port);", "status = LMHT_OK;"),
    "does not stop the core": ("status = lmht_enable(port, false);", "status = LMHT_OK;"),
    "does not reset the core": ("status = lmht_soft_reset(port, true);", "status = LMHT_OK;"),
    "loads one word less": ("for (i = 0; i < words && status", "for (i = 1; i < words && status"),
    "loads one word more": ("for (i = 0; i < words && status", "for (i = 0; i <= words && status"),
    "loads from the header": ("image_word(image, *at + i)", "image_word(image, *at + i - 1)"),
    "does not see lost words": (
        "expect(port, LMHT_REG_LOAD_ROW, memories[index].rows, LMHT_ERR_LOAD_FAILED)",
        "LMHT_OK",
    ),
    "goes on after a failure": ("i < words && status == LMHT_OK", "i < words"),
    "bytes in another order": (
        "bytes[1] << 8 | (uint32_t)bytes[2] << 16",
        "bytes[2] << 8 | (uint32_t)bytes[1] << 16",
    ),
    "reads words at once": (
        "return (uint32_t)bytes[0] |",
        "return *(const uint32_t *)bytes; return (uint32_t)bytes[0] |",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(replay, tmp_path, name):
    line, instead = FAULTS[name]
    source = (FIRMWARE / "lmht.c").read_text()
    assert source.count(line) == 1, f"{line!r} is not once in lmht.c: bring FAULTS up to date"
    (tmp_path / "lmht.c").write_text(source.replace(line, instead))
    program = replay.link(tmp_path / "lmht.c", "planted")
    done = run(program, [*replay.seeds, *replay.corpus])
    assert done.returncode != 0, f"seeds and corpus do not find it, so they {REFRESH}"
    assert "fuzz_image: " in done.stderr or "Sanitizer" in done.stderr or "runtime error" in done.stderr


def test_libfuzzer_parts_compile_without_warnings(replay, tmp_path):
    """The mutator needs libFuzzer to run, but no clang to be checked."""
    assert "-Werror" in STRICT_FLAGS
    flags = ("-c", f"-I{replay.folder}", f"-I{FUZZ}")
    compile_c([FUZZ / "mutate_image.c"], tmp_path / "mutate_image.o", *flags)
