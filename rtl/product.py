"""Products of two values: multipliers with registers on both sides, which an FPGA has inside its own."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed

__all__ = ["MULTIPLIER_CYCLES", "multiplied", "product_latency", "wide_product"]

MULTIPLIER_CYCLES = 2
"""Latency of one multiplier: registers on the inputs and on the product."""
PART_BITS = 17
"""Unsigned part of a split operand: with its sign bit it fills one 18-bit multiplier input."""


def multiplied(m: Module, a: Value, b: Value, *, name: str) -> Signal:
    """Exact product of signed `a` and unsigned `b`, :data:`MULTIPLIER_CYCLES` later, one a cycle.

    It comes from an ``lmht_multiplier``, added to module `m` as submodule `name`.
    """
    product = Signal(signed(len(a) + len(b)), name=name)
    m.submodules[name] = Instance(
        "lmht_multiplier",
        p_A_WIDTH=len(a),
        p_B_WIDTH=len(b),
        i_clk=ClockSignal(),
        i_a=a,
        i_b=b,
        o_product=product,
    )
    return product


def product_latency(width: int) -> int:
    """Latency of :func:`wide_product` for a signed operand of `width` bits."""
    return MULTIPLIER_CYCLES + int(width > PART_BITS + 1)


def wide_product(m: Module, a: Value, b: Value, *, name: str) -> Signal:
    """Exact product of signed `a` and unsigned `b`, :func:`product_latency` later, one a cycle.

    An operand `a` that exceeds a multiplier's input is split, and the products of its parts are added in a cycle more.
    """
    if len(a) <= PART_BITS + 1:
        return multiplied(m, a, b, name=name)
    product = Signal(signed(len(a) + len(b)), name=name, reset_less=True)
    low = multiplied(m, Cat(a[:PART_BITS], Const(0, 1)).as_signed(), b, name=f"{name}_low")
    high = multiplied(m, a[PART_BITS:].as_signed(), b, name=f"{name}_high")
    m.d.sync += product.eq((high << PART_BITS) + low)
    return product
