"""Small helpers for fixed-latency pipelines: delays, products with and quotients by constants, made of shifts and
adders."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module, Signal, Value, signed
from amaranth.utils import bits_for

__all__ = [
    "ShiftAddTree",
    "constant_terms",
    "delay",
    "divide",
    "quotient_constants",
    "rounding_constant",
    "times",
]


def delay(
    m: Module, value: Any, cycles: int, *, name: str, reset_less: bool = True, enable: Value | None = None
) -> Any:
    """`value` as it was `cycles` clock cycles ago (itself for 0), counting cycles with `enable`.

    Structured values keep their shape.
    """
    for index in range(cycles):
        stage_name = name if cycles == 1 else f"{name}_{index + 1}"
        stage = Signal.like(value, name=stage_name, reset_less=reset_less)
        with m.If(Const(1) if enable is None else enable):
            m.d.sync += stage.eq(value)
        value = stage
    return value


def constant_terms(factor: int) -> list[tuple[int, bool]]:
    """Canonical signed digits of `factor` >= 0 as ``(shift, negative)``: the fewest shifted terms that add up to it."""
    terms = []
    shift = 0
    while factor:
        if factor & 1:
            digit = 2 - (factor & 3)
            terms.append((shift, digit < 0))
            factor -= digit
        factor >>= 1
        shift += 1
    return terms


def times(value: Value, factor: int) -> Value:
    """``value * factor`` by shifts, in the same cycle: few and narrow, so that no multiplier is spent on it."""
    total: Value = Const(0, 1)
    for shift, negative in constant_terms(factor):
        term = value << shift
        total = total - term if negative else total + term
    return total


class ShiftAddTree:
    """Pipelined ``sum_i factor_i * value_i`` of unsigned values with constant factors, one adder a stage.

    Parameters
    ----------
    products : list of (Value, int)
        Values and their constant factors, factors >= 0.
    width : int
        Bits of the result, which is exact modulo ``2**width``.

    ``latency`` is the number of register stages; :meth:`build` adds them, advancing in cycles with `enable`.
    """

    def __init__(self, products: list[tuple[Value, int]], width: int):
        self.width = width
        self.terms = [
            (value, shift, negative)
            for value, factor in products
            if len(value)
            for shift, negative in constant_terms(factor)
        ]
        # Positive terms first, so that the first operand of a subtraction is never missing.
        self.terms.sort(key=lambda term: term[2])
        self.latency = max(1, (len(self.terms) - 1).bit_length()) if self.terms else 1

    def build(self, m: Module, enable: Value, name: str) -> Signal:
        level: list[Value] = []
        negative_level: list[Value] = []
        for value, shift, negative in self.terms:
            (negative_level if negative else level).append((value << shift)[: self.width])
        for stage in range(self.latency):
            operands = [(value, False) for value in level] + [(value, True) for value in negative_level]
            level, negative_level = [], []
            # Pair opposite signs first, so that the sum of a stage keeps a sign of its own only when it must.
            operands.sort(key=lambda operand: operand[1])
            while operands:
                first, first_negative = operands.pop(0)
                result = Signal(
                    self.width, name=f"{name}_{stage}_{len(level) + len(negative_level)}", reset_less=True
                )
                if not operands:
                    total: Value = first
                else:
                    second, second_negative = operands.pop()
                    if first_negative == second_negative:
                        total = first + second
                    else:
                        total = first - second  # only the second can be negative after the sort
                with m.If(enable):
                    m.d.sync += result.eq(total)
                (negative_level if first_negative else level).append(result)
        if not level:
            return Signal(self.width, name=name)
        (result_value,) = level
        assert isinstance(result_value, Signal)
        return result_value


def quotient_constants(divisor: int, largest: int) -> tuple[int, int]:
    """``(factor, shift)`` with ``value // divisor == value * factor >> shift`` for ``0 <= value <= largest``."""
    shift = 0
    while True:
        factor = -(-(1 << shift) // divisor)
        # The product exceeds the quotient by value * excess / (divisor << shift): less than 1 / divisor is harmless.
        if largest * (factor * divisor - (1 << shift)) < 1 << shift:
            return factor, shift
        shift += 1


def divide(
    m: Module, enable: Value, value: Value, divisor: int, *, largest: int, name: str
) -> tuple[Value, int]:
    """``value // divisor`` of an unsigned value up to `largest`, and its latency in cycles with `enable`.

    Powers of two are slices and take no cycle.
    """
    factor, shift = quotient_constants(divisor, largest)
    if factor == 1:
        return value[shift:], 0
    tree = ShiftAddTree([(value, factor)], bits_for(largest * factor))
    product = tree.build(m, enable, name)
    return product[shift:], tree.latency


def rounding_constant(shift: int) -> Const:
    """The half that ``round_shift`` of NUMERICS.md adds before an arithmetic shift by `shift` >= 1."""
    return Const(1 << (shift - 1), signed(shift + 1))
