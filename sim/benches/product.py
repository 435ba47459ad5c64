"""Bench of :func:`~lmht.rtl.product.wide_product`.

Parameters: ``a_bits``, ``b_bits``.
"""

from __future__ import annotations

from typing import Any

import cocotb

from lmht.rtl.product import product_latency
from lmht.sim.benches.support import bench_rng
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench


@cocotb.test()
async def products(dut: Any) -> None:
    """Extreme and any operands, another pair every cycle, each product after the latency that is promised."""
    rng = bench_rng()
    a_bits, b_bits = int(bench_parameters()["a_bits"]), int(bench_parameters()["b_bits"])
    half, top = 1 << a_bits - 1, (1 << b_bits) - 1
    pairs = [(a, b) for a in (-half, -1, 0, 1, half - 1) for b in (0, 1, top)]
    pairs += [(rng.randrange(-half, half), rng.randint(0, top)) for _ in range(500)]
    rng.shuffle(pairs)

    bench = Bench(dut)
    await bench.reset()
    found = []
    for a, b in pairs + [(0, 0)] * (product_latency(a_bits) + 1):
        dut.a.value, dut.b.value = a % (2 * half), b
        await bench.run(1)
        found.append(dut.product.value)
    late = product_latency(a_bits)
    for (a, b), product in zip(pairs, found[late:], strict=False):
        assert product.is_resolvable, f"{a} times {b} is {product}"
        assert product.to_signed() == a * b, f"{a} times {b} is {product.to_signed()}"
