"""The page of registers: as the declarations have it."""

from pathlib import Path

import pytest

from lmht.gen import register_page as module
from lmht.gen.register_page import register_page
from lmht.rtl.registers import Field, Register

PAGE = Path(__file__).parents[2] / "docs" / "registers.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == register_page(), (
        "run: python -m lmht.gen.register_page docs/registers.md"
    )


@pytest.mark.parametrize(
    "register",
    [
        Register("SPARE", 31, "ro", "nothing"),
        Register("ID", 0, "ro", "the letters LMHT, 0x4C4D4854", {"letter": Field(24, 8, "the first one")}),
    ],
    ids=["register", "field"],
)
def test_a_new_declaration_changes_it(register, monkeypatch):
    monkeypatch.setattr(module, "FIXED_REGISTERS", (*module.FIXED_REGISTERS, register))
    assert register_page() != PAGE.read_text(encoding="utf-8")


def test_bits_are_named_from_the_top():
    page = register_page()
    assert "| 23:8 | `stage` |" in page
    assert "| 31 | `valid` |" in page
