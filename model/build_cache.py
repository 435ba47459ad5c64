"""Builds by content: what was built from the same bytes with the same flags and tools is not built again."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["build_cache_dir", "build_key", "cached_build", "cached_folder"]


def build_cache_dir() -> Path:
    """Folder of the cache: ``LMHT_CACHE`` if set, else ``~/.cache/lmht``. It may be deleted at any time."""
    chosen = os.environ.get("LMHT_CACHE")
    return Path(chosen).absolute() if chosen else Path.home() / ".cache" / "lmht"


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


def cached_folder(kind: str, key: str) -> Path:
    """Folder that holds the result for `key`, there or not."""
    return build_cache_dir() / kind / key[:32]


def cached_build(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Folder with the result of `build`, which is called only if the cache has none for `key`.

    Parameters
    ----------
    kind : str
        Subfolder of the cache, such as ``cocotb``.
    key : str
        See :func:`build_key`.
    build : callable
        Fills the empty folder it is given. It works in a temporary folder, which is renamed into place
        afterwards: a build that fails leaves nothing behind, and two processes may build the same at once.
    """
    final = cached_folder(kind, key)
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix="building-", dir=final.parent))
    try:
        build(temporary)
        try:
            temporary.rename(final)
        except OSError:
            # Another process was faster; its result is the same.
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final
