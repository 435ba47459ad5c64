"""Choosing the first of several requests, and its data, without an index in between."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from functools import reduce

from amaranth.hdl import Cat, Const, Value

__all__ = ["any_of", "first_of", "lane_index", "one_hot_mux"]


def first_of(requests: Value) -> Value:
    """`requests` with only its lowest 1 left."""
    return Cat(
        request & ~requests[:index].any() if index else request for index, request in enumerate(requests)
    )


def one_hot_mux(select: Iterable[Value], values: Sequence[Value]) -> Value:
    """The value whose select bit is 1; 0 if none is. At most one may be."""
    return reduce(
        operator.or_, (bit.replicate(len(value)) & value for bit, value in zip(select, values, strict=True))
    )


def lane_index(select: Value) -> Value:
    """Position of the 1 in a one-hot value, 0 bits wide for a single lane."""
    bits = (len(select) - 1).bit_length()
    return Cat(any_of(bit for lane, bit in enumerate(select) if lane >> place & 1) for place in range(bits))


def any_of(bits: Iterable[Value]) -> Value:
    """1 if one of the bits is; 0 if there are none."""
    return reduce(operator.or_, bits, Const(0, 1))
