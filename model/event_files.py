"""Strict readers of recordings of event cameras: N-MNIST's ``.bin`` files and AEDAT 2.0 of a DVS128.

tonic reads the first (its ``read_mnist_file``, from the memory of a file that was checked here). Of AEDAT 2.0 it has
only a reader whose call fails and which takes column and row for each other, so that the second is read with NumPy.
"""

from __future__ import annotations

import importlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .idx import DataError

__all__ = ["DVS128_SIZE", "NMNIST_SIZE", "Events", "read_aedat2", "read_nmnist"]

NMNIST_SIZE = 34
"""Rows and columns of N-MNIST's sensor."""

DVS128_SIZE = 128
"""Rows and columns of a DVS128, with which DVS-CIFAR10 was recorded."""

NMNIST_RECORD = 5
OVERFLOW_ROW = 240
_NMNIST_TYPE = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])

AEDAT2_VERSION = b"#!AER-DAT2.0"
_AEDAT2_TYPE = np.dtype([("address", ">u4"), ("time", ">i4")])
EXTERNAL_EVENT = 1 << 15


@dataclass(frozen=True, eq=False)
class Events:
    """Events of one recording, in the order in which they came.

    Attributes
    ----------
    column, row : numpy.ndarray of int64, shape (N,)
        Pixel, from the upper left corner.
    time : numpy.ndarray of int64, shape (N,)
        Microseconds, from any start.
    polarity : numpy.ndarray of int64, shape (N,)
        0 or 1, as the file has it.
    """

    column: NDArray[np.int64]
    row: NDArray[np.int64]
    time: NDArray[np.int64]
    polarity: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)


def read_nmnist(path: Path) -> Events:
    """Read a recording of N-MNIST, which needs the package tonic.

    An event has 40 bits, big-endian: column (8), row (8), polarity (1, 1 is brighter) and microseconds (23). Row 240
    is no event: from there on the time is 2^13 µs later.

    Raises
    ------
    DataError
        If the file cannot be read, does not hold whole events, none at all, or one outside the 34 x 34 pixels; or tonic
        is not installed.
    """
    content = _read_bytes(path)
    if len(content) % NMNIST_RECORD:
        raise DataError(
            f"{path}: {len(content)} bytes, expected a multiple of {NMNIST_RECORD}; the file is truncated or of "
            "another format"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, NMNIST_RECORD)
    outside = (records[:, :2] >= NMNIST_SIZE).any(axis=1) & (records[:, 1] != OVERFLOW_ROW)
    if outside.any():
        first = int(np.argmax(outside))
        column, row = records[first, :2]
        raise DataError(
            f"{path}: the event at byte {first * NMNIST_RECORD} is at column {column}, row {row}, expected 0 to "
            f"{NMNIST_SIZE - 1}"
        )
    found = _read_with_tonic(content)
    if len(found) == 0:
        raise DataError(f"{path}: no events in it")
    return Events(column=found["x"], row=found["y"], time=found["t"], polarity=found["p"])


def _read_with_tonic(content: bytes) -> NDArray[np.void]:
    try:
        # Here, since it is optional and brings SciPy's and HDF5's readers along.
        tonic_io = importlib.import_module("tonic.io")
    except ImportError:
        raise DataError("n-mnist is read with tonic, which is not installed: pip install tonic") from None
    return tonic_io.read_mnist_file(io.BytesIO(content), _NMNIST_TYPE, is_stream=True)


def read_aedat2(path: Path) -> Events:
    """Read an AEDAT 2.0 file of a DVS128 camera.

    Header lines begin with ``#``, the first with the version. An event has two big-endian words of 32 bits: the
    address, with Y in bits 14 to 8, X in bits 7 to 1 and the polarity in bit 0, and microseconds, signed. Events of
    the external input, bit 15, are left aside. DVS-CIFAR10 was recorded with the camera on its side: in the upright
    picture the column is ``127 - Y`` and the row ``127 - X``.

    Raises
    ------
    DataError
        If the file cannot be read, is of another version, does not hold whole events, none at all, or one whose address
        is none of this camera.
    """
    content = _read_bytes(path)
    start = _skip_header(path, content)
    record = _AEDAT2_TYPE.itemsize
    if (len(content) - start) % record:
        raise DataError(
            f"{path}: {len(content) - start} bytes behind the header of {start}, expected a multiple of {record}; the "
            "file is truncated"
        )
    records = np.frombuffer(content, dtype=_AEDAT2_TYPE, offset=start)
    address = records["address"].astype(np.int64)
    outside = address >= 2 * EXTERNAL_EVENT
    if outside.any():
        first = int(np.argmax(outside))
        raise DataError(
            f"{path}: the event at byte {start + first * record} has address 0x{address[first]:08x}, expected at most "
            f"0x{2 * EXTERNAL_EVENT - 1:08x}, the addresses of a DVS128"
        )
    inside = address < EXTERNAL_EVENT
    address = address[inside]
    if len(address) == 0:
        raise DataError(f"{path}: no events in it")
    last = DVS128_SIZE - 1
    return Events(
        column=last - (address >> 8),
        row=last - (address >> 1 & last),
        time=records["time"][inside].astype(np.int64),
        polarity=address & 1,
    )


def _skip_header(path: Path, content: bytes) -> int:
    """Where the events begin: behind the lines that begin with ``#``."""
    version = content.partition(b"\n")[0].rstrip()
    if version != AEDAT2_VERSION:
        shown = version[:20].decode("ascii", "backslashreplace")
        raise DataError(f"{path}: begins with {shown!r}, expected {AEDAT2_VERSION.decode()!r}")
    start = 0
    # No address of this camera begins with this byte.
    while content[start : start + 1] == b"#":
        end = content.find(b"\n", start)
        if end < 0:
            raise DataError(f"{path}: the header line at byte {start} has no end; the file is truncated")
        start = end + 1
    return start


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
