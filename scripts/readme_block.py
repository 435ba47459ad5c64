"""Lines between two marks of a page, replaced by what a script measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lmht.gen.files import write_file

__all__ = ["fill_block"]


def fill_block(path: Path, name: str, lines: Iterable[str]) -> None:
    """Put `lines` between ``<!-- name:begin -->`` and ``<!-- name:end -->``.

    Raises
    ------
    ValueError
        If the page lacks one of the marks.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(f"<!-- {name}:begin -->\n")
    _, end, after = rest.partition(f"<!-- {name}:end -->")
    if not begin or not end:
        raise ValueError(f"{path} must hold the marks {name}:begin and {name}:end")
    text = "\n".join(lines)
    write_file(path, f"{before}{begin}{text}\n{end}{after}".encode())
