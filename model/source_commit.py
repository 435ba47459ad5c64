"""Commit of the sources that are running, for the record of a run."""

from __future__ import annotations

import functools
import subprocess
import tomllib
from pathlib import Path

from .environment import own_environment

__all__ = ["source_commit"]


@functools.cache
def source_commit() -> str | None:
    """Commit of the git checkout that the package lies in, with ``-dirty`` behind it if tracked files were changed.

    None for an installed package: a checkout around it is not that of lmht, which is told by its ``pyproject.toml``.
    """
    folder = Path(__file__).resolve().parent
    try:
        root = Path(_git(folder, "rev-parse", "--show-toplevel"))
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
        return (
            _git(root, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
            if project == "lmht"
            else None
        )
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(
        command, env=own_environment(), check=True, capture_output=True, text=True, timeout=20
    )
    return done.stdout.strip()
