"""Strict reader of IDX files, the format in which MNIST and Fashion-MNIST are distributed.

A file is a magic number (two zero bytes, the type 0x08 of unsigned bytes, the number of dimensions), one
big-endian 32-bit size per dimension, and the values. It may be compressed with gzip.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["DataError", "read_idx"]

UNSIGNED_BYTE = 0x08
# Larger than any file of the supported data sets; refuses a header that asks for absurd amounts of memory.
MAX_VALUES = 1 << 30


class DataError(ValueError):
    """A data set is missing or damaged; the message names file, field, what was found and expected."""


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, decompressing it if its name ends in ``.gz``.

    Parameters
    ----------
    path : Path
        File to read.
    dimensions : int
        Number of dimensions that the file must have: 3 for images, 1 for labels.

    Returns
    -------
    numpy.ndarray of uint8
        The values in the shape that the header gives.

    Raises
    ------
    DataError
        If the file cannot be read, is no IDX file of this kind, or is shorter or longer than its header says.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return _read(path, file, dimensions)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except gzip.BadGzipFile as error:
        raise DataError(f"{path}: not a valid gzip file ({error})") from None
    except EOFError:
        raise DataError(f"{path}: truncated gzip file, it ends before its end marker") from None
    except zlib.error as error:
        raise DataError(f"{path}: corrupt gzip file ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read(path: Path, file: BinaryIO | gzip.GzipFile, dimensions: int) -> NDArray[np.uint8]:
    header_size = 4 + 4 * dimensions
    header = file.read(4)
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if len(header) == 4 and header != magic:
        raise DataError(f"{path}: magic number is 0x{header.hex()}, expected 0x{magic.hex()}")
    header += file.read(header_size - 4)
    if len(header) < header_size:
        raise DataError(f"{path}: header has {len(header)} bytes, expected {header_size}")
    shape = tuple(int(size) for size in np.frombuffer(header, dtype=">u4", offset=4))
    count = math.prod(shape)
    if not 1 <= count <= MAX_VALUES:
        sizes = " x ".join(str(size) for size in shape)
        raise DataError(f"{path}: dimensions are {sizes}, expected between 1 and {MAX_VALUES} values")
    # One byte more than announced shows that the file is too long without reading all of it.
    values = file.read(count + 1)
    if len(values) < count:
        raise DataError(f"{path}: {len(values)} values, expected {count}; the file is truncated")
    if len(values) > count:
        raise DataError(f"{path}: more than the {count} values that its header announces")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)
