"""Fields of any width to memory rows of 32-bit words and back, for whole memories at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack_rows", "unpack_rows"]

# Bits expanded to bytes at a time: bounds the working memory, whatever the number of weights.
_CHUNK_BITS = 1 << 24


def pack_rows(*blocks: tuple[NDArray[np.int64], int]) -> NDArray[np.uint32]:
    """Put integers side by side into rows.

    Parameters
    ----------
    *blocks : (numpy.ndarray of int64 and shape (rows, count), bits)
        The first field of the first block takes the lowest `bits` bits of its row, and so on. Negative
        numbers are stored in two's complement.

    Returns
    -------
    numpy.ndarray of uint32, shape (rows, words)
        Least significant word first, zeros above the last field.

    Raises
    ------
    ValueError
        If a number does not fit its field, signed or unsigned.
    """
    for values, bits in blocks:
        if bits < 63 and values.size and not -(1 << bits - 1) <= values.min() <= values.max() < 1 << bits:
            raise ValueError(f"field must fit {bits} bits, not {values.min()} to {values.max()}")
    rows = blocks[0][0].shape[0]
    width = sum(values.shape[1] * bits for values, bits in blocks)
    words = -(-width // 32)
    packed = np.empty((rows, words), dtype=np.uint32)
    step = max(1, _CHUNK_BITS // max(width, 1))
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        fields = [_bits(values[part], bits).reshape(part.stop - start, -1) for values, bits in blocks]
        padding = np.zeros((part.stop - start, words * 32 - width), dtype=np.uint8)
        rows_of_bits = np.concatenate([*fields, padding], axis=1)
        packed[part] = np.packbits(rows_of_bits, axis=1, bitorder="little").view("<u4")
    return packed


def _bits(values: NDArray[np.int64], bits: int) -> NDArray[np.uint8]:
    """Lowest `bits` bits of integers of shape (rows, count) in two's complement; shape (rows, count, bits)."""
    stored = min(-(-bits // 8), 8)
    octets = np.ascontiguousarray(values).astype("<i8", copy=False).view(np.uint8)
    octets = octets.reshape(*values.shape, 8)[:, :, :stored]
    planes = np.unpackbits(octets, axis=2, count=min(bits, 64), bitorder="little")
    if bits <= 64:
        return planes
    # Bit 63 of an int64 is its sign, which fills wider fields.
    return np.concatenate([planes, np.repeat(planes[:, :, -1:], bits - 64, axis=2)], axis=2)


def unpack_rows(
    rows: NDArray[np.uint32], *, offset: int = 0, count: int, bits: int, signed: bool
) -> NDArray[np.int64]:
    """`count` fields of `bits` bits that begin at bit `offset` of every row; shape (rows, count).

    The inverse of :func:`pack_rows`. Of a field wider than 64 bits the lowest 64 are taken.
    """
    fields = np.empty((len(rows), count), dtype=np.int64)
    step = max(1, _CHUNK_BITS // max(rows.shape[1] * 32, 1))
    used = min(bits, 64)
    for start in range(0, len(rows), step):
        part = np.ascontiguousarray(rows[start : start + step]).astype("<u4")
        all_bits = np.unpackbits(part.view(np.uint8), axis=1, bitorder="little")
        chosen = all_bits[:, offset : offset + count * bits].reshape(len(part), count, bits)[:, :, :used]
        octets = np.zeros((len(part), count, 8), dtype=np.uint8)
        octets[:, :, : -(-used // 8)] = np.packbits(chosen, axis=2, bitorder="little")
        fields[start : start + step] = octets.view("<i8")[:, :, 0]
    if signed and bits < 64:
        # The field's own sign fills the bits above it.
        fields = (fields << 64 - bits) >> 64 - bits
    return fields
