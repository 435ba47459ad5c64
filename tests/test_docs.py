"""Documentation: links lead somewhere, commands and options exist, pages named in docstrings are there."""

import re
import shlex
from pathlib import Path

import pytest

from lmht.gen.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def names(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [link for link in links if "://" not in link and link and not (page.parent / link).exists()]
    assert missing == []


def commands():
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"```(?:sh)?\n(.*?)```", text, flags=re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", text)
        found |= {
            line.partition("  #")[0].strip() for line in lines if re.match(r"lmht [a-z]+\b", line.strip())
        }
    return sorted(command for command in found if "|" not in command)


@pytest.mark.parametrize("command", commands())
def test_commands_exist_with_their_options(command, capsys):
    _, name, *arguments = shlex.split(command)
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    unknown = [part for part in arguments if part.startswith("--") and part not in text.split()]
    assert unknown == []


def test_commands_were_found():
    assert len(commands()) >= 6


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z.]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        assert re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE), target


def test_scripts_named_exist():
    for page in PAGES:
        for script in re.findall(r"python (scripts/\w+\.py)", page.read_text(encoding="utf-8")):
            assert (ROOT / script).exists()


@pytest.mark.parametrize("folder", ["model", "gen", "rtl", "sim", "tests", "scripts"])
def test_pages_named_in_the_code_exist(folder):
    """``NUMERICS.md`` in a docstring is ``docs/NUMERICS.md``."""
    for path in (ROOT / folder).rglob("*.py"):
        for page in re.findall(r"[\w/.-]+\.md\b", path.read_text(encoding="utf-8")):
            if path == Path(__file__) or path.parent.name == "scripts":
                continue
            assert (ROOT / "docs" / Path(page).name).exists() or (ROOT / page).exists(), f"{path}: {page}"


def test_architecture_page_lists_every_component():
    """Every component of the data path has its section."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for component in ("FrameEncoder", "EventRouter", "Tile", "SpikeEncoder", "Readout"):
        assert re.search(rf"^## {component}\(", text, flags=re.MULTILINE)
