"""Builds by content: what was built from the same bytes with the same flags and tools is not built again."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without them builds twice now and then
    fcntl = None  # type: ignore[assignment]

__all__ = ["build_cache_dir", "build_key", "cached_build", "keep_log"]

_SEAL = "contents.sha256"
_log = logging.getLogger(__name__)


def build_cache_dir() -> Path:
    """Folder of the cache, which may be deleted at any time.

    ``LMHT_CACHE`` if set, else ``lmht`` in ``XDG_CACHE_HOME``, else ``~/.cache/lmht``. Where that cannot be written, or
    there is no home, it is a folder of the user's own among the temporary ones, which is said once.
    """
    try:
        wanted = _wanted_dir()
        wanted.mkdir(parents=True, exist_ok=True)
        if os.access(wanted, os.W_OK | os.X_OK):
            return wanted
        reason = f"{wanted} cannot be written"
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
    except RuntimeError:
        reason = "there is no home folder"
    return _stand_in(reason)


def _wanted_dir() -> Path:
    chosen = os.environ.get("LMHT_CACHE")
    if chosen:
        return Path(chosen).absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # Its specification wants relative paths to be ignored.
    return (Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache") / "lmht"


@functools.cache
def _stand_in(reason: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"lmht-cache-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700)
    found = folder.lstat() if folder.exists() else None
    # Programs out of a folder that others may write are not ours to run.
    if (
        found is None
        or not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.getuid()
        or found.st_mode & 0o022
    ):
        folder = Path(tempfile.mkdtemp(prefix="lmht-cache-"))
    _log.warning("builds are kept in %s: %s (LMHT_CACHE names another folder)", folder, reason)
    return folder


def build_key(sources: Iterable[Path | bytes], flags: Iterable[str], version: str) -> str:
    """SHA-256 (hexadecimal) over the sources' bytes (not their paths), the flags and the version."""
    digest = hashlib.sha256()
    for source in sources:
        _add(digest, b"source", source if isinstance(source, bytes) else source.read_bytes())
    for flag in flags:
        _add(digest, b"flag", flag.encode())
    _add(digest, b"version", version.encode())
    return digest.hexdigest()


def _add(digest: hashlib._Hash, tag: bytes, data: bytes) -> None:
    # With the length in front no two lists of parts give the same bytes.
    digest.update(tag + len(data).to_bytes(8, "little") + data)


def cached_build(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Folder with the result of `build`, which is called only if the cache has no whole one for `key`.

    Parameters
    ----------
    kind : str
        Subfolder of the cache, such as ``cocotb``.
    key : str
        See :func:`build_key`. It has to name everything that the result depends on: it is used by other
        processes, when the files that it was made from may be gone.
    build : callable
        Fills the empty folder it is given. That is a temporary one, which is renamed into place together with checksums
        of its files: a build that fails leaves nothing behind, and one that was damaged is made anew. Of several
        processes one builds, while the others wait for it.
    """
    final = build_cache_dir() / kind / key[:32]
    if _is_whole(final):
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with _locked(final.with_suffix(".lock")) as alone:
        if _is_whole(final):
            return final
        if alone:  # what is there is left from processes that were killed
            for left in final.parent.glob(f"{final.name}.building-*"):
                shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{final.name}.building-", dir=final.parent))
        try:
            build(temporary)
            (temporary / _SEAL).write_text(_checksums(temporary))
            if _is_whole(final):  # without a lock another process may have been faster
                return final
            shutil.rmtree(final, ignore_errors=True)
            try:
                temporary.rename(final)
            except OSError:
                if not _is_whole(final):
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return final


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Keep other processes out; False where the file system has no locks."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except (AttributeError, OSError):
            alone = False
        yield alone


def _checksums(folder: Path) -> str:
    """A line for every file, and one for the lines above it, which are not all there without."""
    lines = ""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _SEAL:
            with path.open("rb") as file:
                lines += f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder)}\n"
    return f"{lines}{hashlib.sha256(lines.encode()).hexdigest()}\n"


def _is_whole(folder: Path) -> bool:
    """Whether the folder holds exactly the files that its checksums were made of."""
    try:
        return (folder / _SEAL).read_text() == _checksums(folder)
    except (OSError, UnicodeError):
        return False


def keep_log(name: str, text: str) -> Path:
    """File in the folder ``logs`` of the cache with what was said by a build that failed, the latest of that name."""
    path = build_cache_dir() / "logs" / (re.sub(r"[^A-Za-z0-9]+", "-", name) + ".log")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
