"""The cache of builds: where it is, what its keys cover, and what becomes of an entry that is not whole."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmht.model import build_cache
from lmht.model.build_cache import build_cache_dir, build_key, cached_build

KEY = "k" * 64


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Function that builds an entry of two files, or finds it; its attribute `count` says how often it was built."""
    monkeypatch.setenv("LMHT_CACHE", str(tmp_path))

    def build(folder: Path) -> None:
        request.count += 1
        (folder / "program").write_bytes(bytes(range(256)) * 8)
        (folder / "part").mkdir()
        (folder / "part" / "other").write_text("other")

    def request() -> Path:
        return cached_build("kind", KEY, build)

    request.count = 0
    return request


def test_cache_folder_follows_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert build_cache_dir() == tmp_path / "own"
    monkeypatch.delenv("LMHT_CACHE")
    assert build_cache_dir() == tmp_path / "shared" / "lmht"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert build_cache_dir() == tmp_path / "home" / ".cache" / "lmht"


@pytest.mark.parametrize("home", ["/proc/nobody", None])
def test_without_a_home_a_temporary_folder_serves(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LMHT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home is None:
        monkeypatch.setattr(build_cache.Path, "home", no_home)
    else:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(build_cache.tempfile, "tempdir", str(tmp_path))
    build_cache._stand_in.cache_clear()
    with caplog.at_level(logging.WARNING):
        folders = {build_cache_dir() for _ in range(3)}
    expected = tmp_path / f"lmht-cache-{os.getuid()}"
    assert folders == {expected}
    (record,) = caplog.records
    assert record.getMessage().startswith(f"builds are kept in {expected}: ")
    assert "\n" not in record.getMessage()
    # Somebody else could put programs into one that others may write.
    expected.chmod(0o777)
    build_cache._stand_in.cache_clear()
    assert build_cache_dir() != expected
    assert build_cache_dir().parent == tmp_path
    build_cache._stand_in.cache_clear()


def test_key_depends_on_bytes_flags_and_version_only(tmp_path: Path) -> None:
    one, other = tmp_path / "one.v", tmp_path / "other.v"
    one.write_text("module a; endmodule")
    other.write_text("module a; endmodule")
    key = build_key([one], ["-O3"], "5")
    assert key == build_key([other], ["-O3"], "5") == build_key([one.read_bytes()], ["-O3"], "5")
    different = [
        build_key([one, one], ["-O3"], "5"),
        build_key([b"module b; endmodule"], ["-O3"], "5"),
        build_key([one], ["-O", "3"], "5"),
        build_key([one], ["-O3"], "6"),
    ]
    assert len({key, *different}) == 5


def test_build_runs_once(builds) -> None:
    folders = {builds() for _ in range(3)}
    assert builds.count == len(folders) == 1
    assert (folders.pop() / "part" / "other").read_text() == "other"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("name", ["program", "part/other", build_cache._SEAL])
@pytest.mark.parametrize("damage", [flip, halve, empty, Path.unlink])
def test_damaged_entry_is_made_anew(builds, name: str, damage) -> None:
    path = builds() / name
    sound = path.read_bytes()
    damage(path)
    assert builds() / name == path
    assert path.read_bytes() == sound
    assert builds.count == 2
    builds()
    assert builds.count == 2


def test_what_a_killed_process_left_is_neither_used_nor_kept(builds, tmp_path: Path) -> None:
    half = tmp_path / "kind" / f"{KEY[:32]}.building-abc"
    half.mkdir(parents=True)
    (half / "program").write_text("half")
    (builds() / "program").stat()
    assert builds.count == 1
    assert not half.exists()


def test_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_CACHE", str(tmp_path))

    def build(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match=r"^no$"):
        cached_build("kind", KEY, build)
    assert [path.name for path in (tmp_path / "kind").iterdir()] == [f"{KEY[:32]}.lock"]


SEVERAL = """
import os, sys, time
from pathlib import Path
from lmht.model import build_cache

if sys.argv[1] == "unlocked":
    build_cache.fcntl = None

def build(folder):
    with open(sys.argv[2], "a") as calls:
        calls.write(f"{os.getpid()}\\n")
    (folder / "first").write_text("1")
    time.sleep(1)
    (folder / "second").write_text("2")

folder = build_cache.cached_build("kind", "k" * 64, build)
assert sorted(path.name for path in folder.iterdir()) == ["contents.sha256", "first", "second"]
"""


@pytest.mark.parametrize("locks", ["locked", "unlocked"])
def test_several_processes_at_once(locks: str, tmp_path: Path) -> None:
    """All get a whole entry; with locks only one builds it."""
    calls = tmp_path / "calls"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SEVERAL, locks, str(calls)],
            env=os.environ | {"LMHT_CACHE": str(tmp_path / "cache")},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    count = len(calls.read_text().splitlines())
    assert count == 1 if locks == "locked" else 1 <= count <= 3
    left = sorted(path.name for path in (tmp_path / "cache" / "kind").iterdir())
    assert left == ["k" * 32, "k" * 32 + ".lock"]
