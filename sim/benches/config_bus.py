"""Bench of :class:`~lmht.rtl.config_bus.ConfigBus` alone: loads, reads, refusals, interrupts, soft reset.

Parameters (JSON): ``design`` (fields of DesignParameters).
"""

from __future__ import annotations

import random
from typing import Any

import cocotb
from pydantic import TypeAdapter

from lmht.rtl.parameters import DesignParameters
from lmht.rtl.ports import BUS_ADDRESS_BITS
from lmht.rtl.registers import ID_VALUE, VERSION_VALUE, Register, RegisterMap
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


def error_registers(registers: RegisterMap) -> list[Register]:
    """Of the stages, in their order."""
    return [register for register in registers.registers if register.name.endswith("_errors")]


def stage_of(register: Register) -> str:
    return register.name.removesuffix("_errors")


async def start_bus(dut: Any) -> tuple[Bench, BusInitiator, RegisterMap, random.Random]:
    parameters = TypeAdapter(DesignParameters).validate_python(bench_parameters()["design"])
    registers = RegisterMap.for_design(parameters)
    bench = Bench(dut)
    bus = BusInitiator(bench, registers)
    dut.frame_done.value = 0
    dut.swallowing.value = 0
    for register in error_registers(registers):
        getattr(dut, f"{stage_of(register)}_pulses").value = 0
        if register.fields:
            getattr(dut, register.name).value = 0
    await bench.reset()
    return bench, bus, registers, random.Random(cocotb.RANDOM_SEED)


@cocotb.test()
async def identification(dut: Any) -> None:
    """The fixed registers say what the design is."""
    _, bus, registers, _ = await start_bus(dut)
    design_hash = int(registers.parameters.design_hash, 16)
    assert await bus.read("ID") == ID_VALUE
    assert await bus.read("VERSION") == VERSION_VALUE
    assert await bus.read("DESIGN_HASH_LOW") == design_hash & 0xFFFFFFFF
    assert await bus.read("DESIGN_HASH_HIGH") == design_hash >> 32
    assert await bus.read("FRAME_BYTES") == registers.parameters.frame.frame_bytes
    assert await bus.read("CLASSES") == registers.parameters.classes


@cocotb.test()
async def loads_every_memory(dut: Any) -> None:
    """Random rows arrive whole, at the right row of the right memory, and nowhere else."""
    bench, bus, registers, rng = await start_bus(dut)
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
async def answers_errors(dut: Any) -> None:
    """Every address: reads and writes that no register allows are answered with an error and change nothing."""
    _, bus, registers, rng = await start_bus(dut)
    by_address = {register.address: register for register in registers.registers}
    addresses = list(range(max(by_address) + 40)) + rng.sample(range(2**BUS_ADDRESS_BITS), 40)
    before = {name: await bus.read(name) for name in by_name(registers, "ro")}
    for address in addresses:
        register = by_address.get(address)
        value, error = await bus.access(address)
        assert error == (register is None or not register.readable), f"reading {address}: error is {error}"
        assert not error or value == 0
        if register is None or not register.writable:
            _, error = await bus.access(address, rng.getrandbits(32))
            assert error, f"writing {address} was not answered with an error"
        else:
            # Zeros do no harm, whatever the register.
            _, error = await bus.access(address, 0)
            assert not error, f"writing {address} was answered with an error"
    assert {name: await bus.read(name) for name in by_name(registers, "ro")} == before


def by_name(registers: RegisterMap, access: str) -> list[str]:
    return [register.name for register in registers.registers if register.access == access]


@cocotb.test()
async def refuses_to_load_what_does_not_exist(dut: Any) -> None:
    """Memories and rows out of range are not written."""
    bench, bus, registers, rng = await start_bus(dut)
    watchers = [bench.add(LoadWatcher(dut, memory.name)) for memory in registers.memories]
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


@cocotb.test()
async def interrupts(dut: Any) -> None:
    """A cause is set by its event, cleared by a written 1 only, and raises the output while it is enabled."""
    bench, bus, registers, _ = await start_bus(dut)
    reporting = next(register for register in error_registers(registers) if register.fields)
    signals = {"frame_done": dut.frame_done, "error": getattr(dut, reporting.name)}
    for enabled in ({}, {"frame_done": 1}, {"error": 1}, {"frame_done": 1, "error": 1}):
        await bus.write("INTERRUPT_ENABLE", **enabled)
        read = await bus.read_fields("INTERRUPT_ENABLE")
        assert {name for name, value in read.items() if value} == set(enabled)
        for name, signal in signals.items():
            other = next(cause for cause in signals if cause != name)
            assert not dut.interrupt_request.value
            signal.value = 1
            await bench.run(1)
            signal.value = 0
            await bench.run(4)
            assert bool(dut.interrupt_request.value) == (name in enabled)
            assert await bus.read_fields("INTERRUPT_CAUSE") == {name: 1, other: 0}
            await bus.write("INTERRUPT_CAUSE", **{other: 1})
            assert await bus.read_fields("INTERRUPT_CAUSE") == {name: 1, other: 0}
            await bus.write("INTERRUPT_CAUSE", **{name: 1})
            assert await bus.read_fields("INTERRUPT_CAUSE") == {name: 0, other: 0}
            await bench.run(2)
    # A cause whose event lasts over its clear is set again.
    signals["frame_done"].value = 1
    await bus.write("INTERRUPT_CAUSE", frame_done=1)
    signals["frame_done"].value = 0
    assert (await bus.read_fields("INTERRUPT_CAUSE"))["frame_done"] == 1


class PulseWatcher:
    """The cycles in which a single-bit output is 1."""

    def __init__(self, handle: Any):
        self._handle = handle
        self.cycles: list[int] = []

    def start(self, bench: Bench) -> None:
        self._bench = bench

    def step(self) -> None:
        if self._handle.value:
            self.cycles.append(self._bench.cycle)


@cocotb.test()
async def soft_reset_is_one_cycle_and_keeps_the_registers(dut: Any) -> None:
    """The command gives one pulse, with `new_frame` as written; every readable register but the state stays."""
    bench, bus, registers, _ = await start_bus(dut)
    reset = bench.add(PulseWatcher(dut.soft_reset))
    restart = bench.add(PulseWatcher(dut.new_frame))
    await bus.write("CONTROL", enable=0)
    await bus.write("INTERRUPT_ENABLE", error=1)
    await bus.write("LOAD_SELECT", 1)
    await bus.write("LOAD_ROW", 1)
    dut.swallowing.value = 1
    names = [register.name for register in registers.registers if register.readable]
    before = {name: await bus.read(name) for name in names}
    assert registers["STATUS"].unpack(before["STATUS"])["swallowing"] == 1
    await bus.write("COMMAND", soft_reset=1)
    assert (len(reset.cycles), len(restart.cycles)) == (1, 0)
    await bus.write("COMMAND", soft_reset=1, new_frame=1)
    assert len(reset.cycles) == 2
    assert restart.cycles == reset.cycles[1:]
    assert {name: await bus.read(name) for name in names} == before
