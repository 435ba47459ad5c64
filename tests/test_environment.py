"""The page of variables names what the code reads and passes on; the Makefile in a folder with an odd name."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lmht.model.environment import PASSED_ON

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "environment-variables.md"
READ = re.compile(
    r"""(?:environ(?:\.get)?[\[(]|getenv\(|envvar=)\s*["'](\w+)["']|["'](\w+)["'] in os\.environ"""
)


def variables_read(texts: list[str]) -> set[str]:
    """Names of the variables that the code reads."""
    return {first or second for text in texts for first, second in READ.findall(text)}


def variables_of(section: str) -> set[str]:
    """Names in the first column of the table of that section of the page."""
    text = PAGE.read_text(encoding="utf-8").partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_page_names_every_variable_that_is_read():
    folders = ("model", "gen", "rtl", "sim", "firmware")
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")]
    read, named = variables_read(texts), variables_of("Variables that are read")
    assert read - set(PASSED_ON) == named - set(PASSED_ON)
    assert named <= read


def test_every_way_of_reading_is_seen():
    text = """os.environ["A"] os.environ.get('B', "x") os.getenv("C") envvar="D" "E" in os.environ"""
    assert variables_read([text]) == set("ABCDE")


def test_page_names_every_variable_that_is_passed_on():
    assert variables_of("Variables that are passed on") == set(PASSED_ON)


def test_page_is_linked():
    assert f"({PAGE.name})" in (ROOT / "docs" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("odd", ["a space", "an'apostrophe", "hash#", "dollar$HOME", "ö umlaut"])
def test_makefile_works_in_a_folder_with_an_odd_name(odd: str, tmp_path: Path):
    """With a Python that only says what it was called with; folders of builds and data are as odd."""
    checkout = tmp_path / odd
    (checkout / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    python = checkout / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nfor part; do printf "[%s]" "$part"; done; echo "$LMHT_DATA"\n')
    python.chmod(0o755)
    (checkout / ".venv" / ".ready").touch()
    build = checkout / "builds" / odd
    build.mkdir(parents=True)
    (build / "manifest.json").touch()

    def make(*arguments: str) -> list[str]:
        command = ["make", "--no-print-directory", "-s", *arguments]
        # The variables of the make that runs the tests, and its DATA, are not this one's.
        environment = {"PATH": os.environ["PATH"]}
        return subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()

    lmht = "[-P][-m][lmht.gen.cli]"
    assert make("demo", "DATA=") == [f"{lmht}[demo]"]
    assert make("bench", f"BUILD={build}", f"DATA={build}") == [f"{lmht}[bench][{build}]{build}"]
    assert make("bench", "DATA=") == [f"{lmht}[demo]", f"{lmht}[bench][build/demo/design]"]
    assert make("test", "DATA=") == ["[-m][pytest][-n][auto][--dist][worksteal]"]
