"""Writing files and folders so that a reader never sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replaced_folder", "wrapper_name", "write_file"]


def wrapper_name(design: str, bus: str) -> str:
    """Module, and file without its ending, of a design behind a bus."""
    return f"{design}_{bus}"


def write_file(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, then rename it over `path`; the folder is made if needed."""
    # Imported here because lmht.model imports torch, which a reader of a finished build does not need.
    from lmht.model.files import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


@contextmanager
def replaced_folder(target: Path, may_replace: Callable[[Path], bool]) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` if the body succeeds and vanishes if it fails.

    An older `target` stays complete until the new one is, and is removed afterwards.

    Parameters
    ----------
    target : pathlib.Path
        Folder to make or replace.
    may_replace : callable
        Says of an existing, non-empty `target` whether it may be replaced.

    Raises
    ------
    ValueError
        If `target` is no folder, or must not be replaced.
    """
    if target.exists():
        if not target.is_dir():
            raise ValueError(f"{target} is not a folder")
        if any(target.iterdir()) and not may_replace(target):
            raise ValueError(
                f"{target} is not an earlier build and is not replaced: choose another folder or empty it"
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    # mkdtemp is private to the user; a build is an ordinary folder.
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o777 & ~umask)
    try:
        yield temporary
        if target.exists():
            # A folder cannot be renamed over a non-empty one: step the old one aside first.
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
            target.replace(old)
            try:
                temporary.replace(target)
            except OSError:
                old.replace(target)
                raise
            shutil.rmtree(old)
        else:
            temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
