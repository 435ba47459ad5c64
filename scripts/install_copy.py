"""Install the project, without its dependencies, from a copy of its sources into a folder.

A copy, because a build inside the source tree leaves a ``build/lib`` behind whose stale files end up in later wheels.
The result is what users get from the wheel; ``make lint`` lets mypy read it, since the mapped folders of an editable
install are invisible to mypy.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "firmware", "model", "gen", "rtl", "sim")


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the sources.

    Parameters
    ----------
    folder : Path
        Where the wheel goes.

    Returns
    -------
    Path
        The wheel.
    """
    with tempfile.TemporaryDirectory(prefix="lmht-sources-") as name:
        copy = Path(name)
        for source in SOURCES:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, copy / source, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(path, copy / source)
        _pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(copy))
    return next(folder.glob("lmht-*.whl"))


def install_wheel(wheel: Path, target: Path) -> None:
    """Unpack a wheel into `target`, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    _pip("install", "--target", str(target), str(wheel))


def _pip(command: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", command, "--quiet", "--no-deps", *arguments], check=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", type=Path, help="folder to install into; it is replaced")
    target = parser.parse_args().target
    with tempfile.TemporaryDirectory(prefix="lmht-wheel-") as folder:
        install_wheel(build_wheel(Path(folder)), target)


if __name__ == "__main__":
    main()
