"""Figures of `results.py` in ``docs/results.json``: one record a training, kept by its name."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from lmht.gen.files import write_file

__all__ = ["read_records", "write_record"]

_FILE = "results.json"


def read_records(docs: Path) -> dict[str, dict[str, Any]]:
    """All records by name."""
    path = docs / _FILE
    records: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    return records


def write_record(docs: Path, name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Put fields into a record, also while other processes write theirs; returns the whole record."""
    with (docs / f".{_FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        records = read_records(docs)
        record = records.setdefault(name, {})
        record |= fields
        write_file(docs / _FILE, (json.dumps(dict(sorted(records.items())), indent=1) + "\n").encode())
    return record
