"""Bench of :class:`~lmht.rtl.config_bus.ConfigBus` alone: loads, reads, counters, sticky errors, refusals.

Parameters (JSON): ``design`` (fields of DesignParameters).
"""

from __future__ import annotations

import random
from typing import Any

import cocotb
from pydantic import TypeAdapter

from lmht.rtl.parameters import DesignParameters
from lmht.rtl.ports import BUS_ADDRESS_BITS
from lmht.rtl.registers import CONTROL_CLEAR, CONTROL_ENABLE, ID_VALUE, VERSION_VALUE, RegisterMap
from lmht.sim.benches.bus import BusInitiator
from lmht.sim.runner import bench_parameters
from lmht.sim.stream import Bench


class LoadWatcher:
    """Collects what is written through one load port."""

    def __init__(self, dut: Any, name: str):
        self._enable = getattr(dut, f"load_{name}__enable")
        self._row = getattr(dut, f"load_{name}__row")
        self._data = getattr(dut, f"load_{name}__data")
        self.rows: list[tuple[int, int]] = []

    def start(self, bench: Bench) -> None:
        pass

    def step(self) -> None:
        if self._enable.value:
            self.rows.append((int(self._row.value), int(self._data.value)))


async def _start(dut: Any) -> tuple[Bench, BusInitiator, RegisterMap, random.Random]:
    parameters = TypeAdapter(DesignParameters).validate_python(bench_parameters()["design"])
    registers = RegisterMap.for_design(parameters)
    bench = Bench(dut)
    bus = BusInitiator(bench, registers)
    for register in registers.registers:
        if register.name.endswith("_errors"):
            stage = register.name.removesuffix("_errors")
            getattr(dut, f"{stage}_pulses").value = 0
            if register.bits:
                getattr(dut, f"{stage}_errors").value = 0
    await bench.reset()
    return bench, bus, registers, random.Random(cocotb.RANDOM_SEED)


@cocotb.test()
async def identification(dut: Any) -> None:
    """The fixed registers say what the design is."""
    _, bus, registers, _ = await _start(dut)
    design_hash = int(registers.parameters.design_hash, 16)
    assert await bus.read("ID") == ID_VALUE
    assert await bus.read("VERSION") == VERSION_VALUE
    assert await bus.read("DESIGN_HASH_LOW") == design_hash & 0xFFFFFFFF
    assert await bus.read("DESIGN_HASH_HIGH") == design_hash >> 32


@cocotb.test()
async def loads_every_memory(dut: Any) -> None:
    """Random rows arrive whole, at the right row of the right memory, and nowhere else."""
    bench, bus, registers, rng = await _start(dut)
    watchers = [bench.add(LoadWatcher(dut, memory.name)) for memory in registers.memories]
    for memory, watcher in zip(registers.memories, watchers, strict=True):
        first = rng.randrange(memory.shape.depth)
        count = min(3, memory.shape.depth - first)
        rows = [rng.getrandbits(memory.shape.width) for _ in range(count)]
        await bus.write("LOAD_SELECT", memory.index)
        await bus.write("LOAD_ROW", first)
        if memory.words > 1:
            # A row begun and given up must leave no trace.
            await bus.write("LOAD_DATA", rng.getrandbits(32))
            await bus.write("LOAD_ROW", first)
        for row in rows:
            for word in range(memory.words):
                await bus.write("LOAD_DATA", (row >> (32 * word)) & 0xFFFFFFFF)
        await bench.run(4)
        expected = [(first + offset, row) for offset, row in enumerate(rows)]
        assert watcher.rows == expected, f"{memory.name}: expected {expected}, found {watcher.rows}"
        watcher.rows.clear()
        for other in watchers:
            assert not other.rows, f"loading {memory.name} wrote elsewhere"
        assert await bus.read("LOAD_SELECT") == memory.index
        assert await bus.read("LOAD_ROW") == first + count


@cocotb.test()
async def refuses_what_does_not_exist(dut: Any) -> None:
    """Unmapped addresses read 0; memories and rows out of range are not written."""
    bench, bus, registers, rng = await _start(dut)
    watchers = [bench.add(LoadWatcher(dut, memory.name)) for memory in registers.memories]
    mapped = {register.address for register in registers.registers}
    for _ in range(20):
        address = rng.randrange(2**BUS_ADDRESS_BITS)
        if address not in mapped:
            await bus.write_address(address, rng.getrandbits(32))
            assert await bus.read_address(address) == 0
    for select in (len(registers.memories), 2**16, 2**32 - 1):
        await bus.write("LOAD_SELECT", select)
        await bus.write("LOAD_ROW", 0)
        for _ in range(4):
            await bus.write("LOAD_DATA", rng.getrandbits(32))
    for memory in registers.memories:
        for row in (memory.shape.depth, memory.shape.depth + 2**16, 2**32 - 1):
            await bus.write("LOAD_SELECT", memory.index)
            await bus.write("LOAD_ROW", row)
            for _ in range(memory.words):
                await bus.write("LOAD_DATA", rng.getrandbits(32))
    await bench.run(4)
    for memory, watcher in zip(registers.memories, watchers, strict=True):
        assert not watcher.rows, f"{memory.name} was written: {watcher.rows}"
    await bus.write("ID", 0)
    assert await bus.read("ID") == ID_VALUE


@cocotb.test()
async def counters_and_errors(dut: Any) -> None:
    """Counters add up their pulses, errors stick, a clear clears both, and enable gates the cycle counter."""
    bench, bus, registers, rng = await _start(dut)
    stages = [
        name.removesuffix("_errors")
        for name in (r.name for r in registers.registers)
        if name.endswith("_errors")
    ]
    assert await bus.read("STATUS") == 0
    for stage in stages:
        pulses = getattr(dut, f"{stage}_pulses")
        errors = getattr(dut, f"{stage}_errors", None)
        names = [
            register.name
            for register in registers.registers
            if register.name.startswith(f"{stage}_") and register.name != f"{stage}_errors"
        ]
        for times in (rng.randrange(1, 20), rng.randrange(1, 20)):
            pulses.value = (1 << len(pulses)) - 1
            if errors is not None:
                errors.value = 1 << rng.randrange(len(errors))
            await bench.run(times)
            pulses.value = 0
            if errors is not None:
                flagged = int(errors.value)
                errors.value = 0
            found = [await bus.read(name) for name in names]
            assert all(value and value % times == 0 for value in found), (
                stage,
                times,
                dict(zip(names, found, strict=True)),
            )
            if errors is not None:
                assert await bus.read(f"{stage}_errors") == flagged
                assert await bus.read("STATUS") == 1
            await bus.write("CONTROL", 1 << CONTROL_CLEAR)
            assert [await bus.read(name) for name in names] == [0] * len(names)
            assert await bus.read(f"{stage}_errors") == 0
            assert await bus.read("STATUS") == 0
    assert await bus.read("CYCLES") == 0
    await bus.write("CONTROL", 1 << CONTROL_ENABLE)
    assert await bus.read("CONTROL") == 1
    before = await bus.read("CYCLES")
    await bench.run(100)
    assert await bus.read("CYCLES") - before >= 100
    await bus.write("CONTROL", 0)
    still = await bus.read("CYCLES")
    await bench.run(50)
    assert await bus.read("CYCLES") == still
