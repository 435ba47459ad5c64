"""Bench of :class:`~lmht.rtl.memory.Ram`: random rows written and read, with pauses of the read pipeline.

Parameters: ``width``, ``depth``.
"""

from __future__ import annotations

from typing import Any

import cocotb

from lmht.sim.benches.support import bench_rng
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench


@cocotb.test()
async def rows(dut: Any) -> None:
    """Two cycles with ``read_enable`` after its address every row is what was written to it last."""
    rng = bench_rng()
    width, depth = int(bench_parameters()["width"]), int(bench_parameters()["depth"])
    bench = Bench(dut)
    await bench.reset()
    places = sorted({0, 1, depth - 1, *(rng.randrange(depth) for _ in range(60))})
    content: dict[int, int] = {}
    pipeline: list[tuple[int, int] | None] = [None, None]
    for step in range(1200):
        shown = pipeline[-1]
        if shown is not None:
            place, wanted = shown
            found = int(dut.read_data.value)
            assert found == wanted, f"row {place}: found {found:#x}, expected {wanted:#x} (step {step})"
        enable = rng.random() < 0.7
        read = rng.choice(places)
        write = rng.choice(places)
        writes = write != read and rng.random() < 0.6
        data = rng.getrandbits(width)
        dut.read_enable.value, dut.read_row.value = int(enable), read
        dut.write_enable.value, dut.write_row.value, dut.write_data.value = int(writes), write, data
        if enable:
            pipeline = [(read, content[read]) if read in content else None, pipeline[0]]
        if writes:
            content[write] = data
        # Driven behind this edge, seen at the next one, shown behind that.
        await bench.run(1)
        dut.read_enable.value = dut.write_enable.value = 0
        await bench.run(1)
