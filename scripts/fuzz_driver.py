"""Fuzz the C driver's image parser with libFuzzer, under the address and undefined-behaviour sanitizers.

    python scripts/fuzz_driver.py --seconds 600

Needs clang (Debian packages: clang, libclang-rt-dev). The inputs that reach more than those before are kept in
``firmware/fuzz/corpus``, which the tests replay; ``docs/fuzzing.md`` and ``.json`` have the figures. A finding ends it
with status 1 and leaves the input and the sanitizer's report in ``build/fuzz``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fuzz_inputs import IMAGE_BYTES, PREFIX, seed_inputs, write_design_header
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lmht.gen.files import write_file

ROOT = Path(__file__).parent.parent
FIRMWARE = ROOT / "firmware"
FUZZ = FIRMWARE / "fuzz"
LONGEST = PREFIX + 4 * IMAGE_BYTES
MOST_FILES, MOST_BYTES = 200, 200 << 10
PARSER = ("image_word", "crc32", "check_sections", "lmht_check_image", "load_section", "lmht_load_image")
SANITIZERS = "-fsanitize=fuzzer,address,undefined"


@dataclass(frozen=True)
class FuzzResult:
    """What one run did. `covered` and `lines` are of the parser's functions, by the corpus alone."""

    seconds: int
    seed: int
    executions: int
    executions_per_second: int
    edges: int
    features: int
    covered: int
    lines: int
    corpus_files: int
    corpus_bytes: int
    findings: int
    compiler: str


def run(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    """What a tool prints; ends the script with its last line if it fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()
        sys.exit(f"error: {command[0]} failed: {lines[-1] if lines else f'status {done.returncode}'}")
    return done.stdout


def build_fuzzer(folder: Path) -> Path:
    """The fuzzer for the design whose header is in `folder`."""
    sources = [FIRMWARE / "lmht.c", FUZZ / "fuzz_image.c", FUZZ / "mutate_image.c"]
    includes = [f"-I{path}" for path in (folder, FIRMWARE, FUZZ)]
    program = folder / "fuzz_image"
    flags = ("-std=c99", "-g", "-O1", SANITIZERS, "-fno-sanitize-recover=all")
    run(["clang", *flags, *includes, *sources, "-o", program])
    return program


def last_status(log: Path) -> dict[str, int]:
    """Executions, edges and features in the last line of libFuzzer's log that has them."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        text = file.read().decode(errors="replace")
    found = re.findall(r"#(\d+)\s.*?cov: (\d+) ft: (\d+)", text)
    executions, edges, features = found[-1] if found else (0, 0, 0)
    done = re.findall(r"stat::number_of_executed_units: (\d+)", text)
    return {
        "executions": int(done[-1] if done else executions),
        "edges": int(edges),
        "features": int(features),
    }


def fuzz(program: Path, work: Path, inputs: Path, *, seconds: int, seed: int) -> tuple[dict[str, int], int]:
    """Run the fuzzer for `seconds`, new inputs going to `inputs`; returns its last status and its exit status."""
    log = work / "fuzz.log"
    command = [
        str(program),
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-max_len={LONGEST}",
        "-print_final_stats=1",
        f"-artifact_prefix={work}/",
        str(inputs),
    ]
    columns = (TextColumn("fuzzing"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    # Freed images need not be remembered for long: none outlives its input.
    environment = {**os.environ, "ASAN_OPTIONS": "quarantine_size_mb=16"}
    start = time.monotonic()
    with log.open("wb") as file, Progress(*columns) as progress:
        task = progress.add_task("", total=seconds)
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        try:
            while process.poll() is None:
                time.sleep(0.5)
                status = last_status(log)
                text = f"{status['executions']:,}+ inputs, {status['edges']} edges, {status['features']} features"
                progress.update(task, completed=min(seconds, time.monotonic() - start), description=text)
        finally:
            process.kill()
            process.wait()
    return last_status(log), process.returncode


def merge(program: Path, inputs: Path, corpus: Path, seeds: Path) -> None:
    """Replace the corpus by the inputs that reach something that no smaller one, and no seed, does."""
    with tempfile.TemporaryDirectory(prefix="lmht-merge-") as folder:
        merged = Path(folder)
        known = {path.read_bytes() for path in seeds.iterdir()}
        for path in seeds.iterdir():
            shutil.copy(path, merged)
        run([program, "-merge=1", f"-max_len={LONGEST}", merged, inputs])
        kept = {path.name: path.read_bytes() for path in merged.iterdir()}
    kept = {name: content for name, content in kept.items() if content not in known}
    total = sum(map(len, kept.values()))
    if len(kept) > MOST_FILES or total > MOST_BYTES:
        sys.exit(
            f"error: the corpus must hold at most {MOST_FILES} files of {MOST_BYTES} bytes, not {len(kept)} of {total}"
        )
    for path in corpus.glob("*"):
        if path.name not in kept:
            path.unlink()
    for name, content in kept.items():
        write_file(corpus / name, content)


def covered_lines(folder: Path, files: Iterable[Path]) -> tuple[int, int]:
    """Lines of the parser that these inputs execute, and all of its lines, by gcov."""
    includes = [f"-I{path}" for path in (folder, FIRMWARE, FUZZ)]
    sources = [FIRMWARE / "lmht.c", FUZZ / "fuzz_image.c", FUZZ / "replay.c"]
    run(["gcc", "-std=c99", "-O0", "--coverage", *includes, *sources, "-o", "replay"], cwd=folder)
    run(["./replay", *files], cwd=folder)
    counts = next(folder.glob("*lmht.gcda"))
    report = json.loads(run(["gcov", "--json-format", "--stdout", counts.name], cwd=folder))
    lines = [
        line
        for file in report["files"]
        if file["file"].endswith("lmht.c")
        for line in file["lines"]
        if line.get("function_name") in PARSER
    ]
    return sum(line["count"] > 0 for line in lines), len(lines)


PAGE = """\
# Fuzzing the driver's image parser

libFuzzer runs `lmht_check_image()` and `lmht_load_image()` on images that it makes up, under the address and
undefined-behaviour sanitizers. `python scripts/fuzz_driver.py --seconds 600` does it again and writes this page.

A finding is also

* an image that is accepted or refused against the rules of the format (length, magic, format, checksum, design hash,
  number, order and shapes of the sections), or refused for a reason that it gives no cause for. The rules are read by
  a second parser in `firmware/fuzz/fuzz_image.c`, which shares no code with the driver;
* an access to the core for an image that is refused, or a write before the core is identified;
* a memory loaded before the core is stopped and reset; a word of a memory that is not written exactly once, or with
  another value; a memory written that the image does not hold;
* a fault of the core (an access that fails, another core, a lost word, results without end) that is not reported as
  what it is, or an access after one that failed.

Header and checksum of an input are differences to the right words, so that the fuzzer is not held up by them, and some
mutations lay out sections of other memories. `tests/firmware/test_fuzz_corpus.py` replays the seeds
(`scripts/fuzz_inputs.py`) and the corpus (`firmware/fuzz/corpus`) with gcc, and shows that they find planted faults of
the parser.

| what | figure |
| --- | --- |
"""


def page(result: FuzzResult) -> str:
    """The page with all figures."""
    figures = {
        "time": f"{result.seconds:,} s on one core, {result.compiler}, seed {result.seed}",
        "inputs": f"{result.executions:,}, {result.executions_per_second:,} a second",
        "findings": f"{result.findings}",
        "edges and features reached, target included": f"{result.edges}, {result.features}",
        "lines of the parser that seeds and corpus execute": f"{result.covered} of {result.lines}",
        "corpus": f"{result.corpus_files} files, {result.corpus_bytes:,} bytes",
    }
    return PAGE + "".join(f"| {name} | {figure} |\n" for name, figure in figures.items())


def main() -> None:
    """Read the command line, fuzz, keep what is new."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31))
    parser.add_argument("--corpus", type=Path, default=FUZZ / "corpus")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    if not 1 <= options.seconds <= 10**6:
        parser.error(f"--seconds must be between 1 and 1000000, not {options.seconds}")
    if not 1 <= options.seed < 2**32:
        parser.error(f"--seed must be between 1 and 2^32 - 1, not {options.seed}")
    for tool, package in (("clang", "clang"), ("gcc", "gcc"), ("gcov", "gcc")):
        if shutil.which(tool) is None:
            sys.exit(f"error: {tool} is not on PATH (Debian package: {package})")

    work = ROOT / "build" / "fuzz"
    shutil.rmtree(work, ignore_errors=True)
    seeds, inputs = work / "seeds", work / "inputs"
    seeds.mkdir(parents=True)
    for name, content in seed_inputs(write_design_header(work)).items():
        (seeds / name).write_bytes(content)
    shutil.copytree(seeds, inputs)
    if options.corpus.is_dir():
        shutil.copytree(options.corpus, inputs, dirs_exist_ok=True)
    program = build_fuzzer(work)
    status, returned = fuzz(program, work, inputs, seconds=options.seconds, seed=options.seed)
    findings = [path for path in work.glob("*-*") if path.is_file()]
    if returned and not findings:
        sys.exit(f"error: the fuzzer ended with status {returned}: {work / 'fuzz.log'}")
    if not findings:
        merge(program, inputs, options.corpus, seeds)
    kept = sorted(options.corpus.glob("*"))
    covered, lines = covered_lines(work, [*seeds.iterdir(), *kept])
    result = FuzzResult(
        seconds=options.seconds,
        seed=options.seed,
        executions_per_second=status["executions"] // options.seconds,
        covered=covered,
        lines=lines,
        corpus_files=len(kept),
        corpus_bytes=sum(path.stat().st_size for path in kept),
        findings=len(findings),
        compiler=run(["clang", "--version"]).splitlines()[0],
        **status,
    )
    write_file(options.docs / "fuzzing.json", (json.dumps(asdict(result), indent=1) + "\n").encode())
    write_file(options.docs / "fuzzing.md", page(result).encode())
    print(
        f"{result.executions:,} inputs, {covered} of {lines} lines, {len(kept)} files kept: {len(findings)} findings"
    )
    if findings:
        sys.exit(
            f"error: {', '.join(os.path.relpath(path) for path in findings)}; report in {work / 'fuzz.log'}"
        )


if __name__ == "__main__":
    main()
