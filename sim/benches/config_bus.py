"""Bench of :class:`~lmht.rtl.config_bus.ConfigBus` alone: loads, reads, counters, errors, interrupts, refusals.

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
from lmht.rtl.stages import design_stages
from lmht.sim.benches.bus import ANSWER_CYCLES, BusInitiator
from lmht.sim.codecs import layout_fields
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


def _error_registers(registers: RegisterMap) -> list[Register]:
    """Of the stages, in their order."""
    return [register for register in registers.registers if register.name.endswith("_errors")]


def _stage(register: Register) -> str:
    return register.name.removesuffix("_errors")


async def _start(dut: Any) -> tuple[Bench, BusInitiator, RegisterMap, random.Random]:
    parameters = TypeAdapter(DesignParameters).validate_python(bench_parameters()["design"])
    registers = RegisterMap.for_design(parameters)
    bench = Bench(dut)
    bus = BusInitiator(bench, registers)
    dut.frame_done.value = 0
    dut.swallowing.value = 0
    for register in _error_registers(registers):
        getattr(dut, f"{_stage(register)}_pulses").value = 0
        if register.fields:
            getattr(dut, register.name).value = 0
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
    assert await bus.read("FRAME_BYTES") == registers.parameters.frame.frame_bytes
    assert await bus.read("CLASSES") == registers.parameters.classes


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
async def answers_errors(dut: Any) -> None:
    """Every address: reads and writes that no register allows are answered with an error and change nothing."""
    _, bus, registers, rng = await _start(dut)
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
    bench, bus, registers, rng = await _start(dut)
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
async def counters_and_errors(dut: Any) -> None:
    """Counters add up their pulses, errors stick, a clear clears both, and enable gates the cycle counter."""
    bench, bus, registers, rng = await _start(dut)
    assert (await bus.read_fields("STATUS"))["error"] == 0
    for register in _error_registers(registers):
        stage = _stage(register)
        pulses = getattr(dut, f"{stage}_pulses")
        names = _counters(registers, stage)
        for times in (rng.randrange(1, 20), rng.randrange(1, 20)):
            pulses.value = (1 << len(pulses)) - 1
            flagged = 0
            if register.fields:
                flagged = getattr(dut, register.name).value = 1 << rng.randrange(len(register.fields))
            await bench.run(times)
            pulses.value = 0
            if register.fields:
                getattr(dut, register.name).value = 0
            await bus.write("COMMAND", snapshot=1)
            found = {name: await bus.read(name) for name in names}
            assert all(value and value % times == 0 for value in found.values()), (stage, times, found)
            assert await bus.read(register.name) == flagged
            assert (await bus.read_fields("STATUS"))["error"] == bool(flagged)
            await bus.write("COMMAND", clear=1)
            assert {name: await bus.read(name) for name in names} == found, "a clear changed the snapshot"
            await bus.write("COMMAND", snapshot=1)
            assert [await bus.read(name) for name in names] == [0] * len(names)
            assert await bus.read(register.name) == 0
            assert (await bus.read_fields("STATUS"))["error"] == 0
    assert await bus.read("CYCLES") == 0
    await bus.write("CONTROL", enable=1)
    assert await bus.read_fields("CONTROL") == {"enable": 1}
    await bench.run(100)
    await bus.write("CONTROL", enable=0)
    seen = []
    for _ in range(2):
        await bus.write("COMMAND", snapshot=1)
        seen.append(await bus.read("CYCLES"))
        await bench.run(50)
    assert 100 <= seen[0] <= 110
    assert seen[1] == seen[0], "CYCLES went on without enable"


def _counters(registers: RegisterMap, stage: str) -> list[str]:
    return [
        register.name
        for register in registers.registers
        if register.name.startswith(f"{stage}_") and register.name != f"{stage}_errors"
    ]


@cocotb.test()
async def snapshots_are_coherent(dut: Any) -> None:
    """Counters that always count together are equal in every snapshot, and none is lost to a clear."""
    bench, bus, registers, rng = await _start(dut)
    stages = [_stage(register) for register in _error_registers(registers)]
    ones = {
        stage: sum(1 << offset for offset, _ in layout_fields(declared.pulses).values())
        for stage, declared in design_stages(registers.parameters).items()
    }
    names = [name for stage in stages for name in _counters(registers, stage)]
    start = bench.cycle
    for stage in stages:
        getattr(dut, f"{stage}_pulses").value = ones[stage]
    totals = dict.fromkeys(names, 0)
    for _ in range(4):
        await bench.run(rng.randrange(1, 30))
        await bus.write("COMMAND", snapshot=1, clear=1)
        found = {name: await bus.read(name) for name in names}
        assert len(set(found.values())) == 1, f"counters of one snapshot differ: {found}"
        for name, value in found.items():
            totals[name] += value
    for stage in stages:
        getattr(dut, f"{stage}_pulses").value = 0
    cycles = bench.cycle - start
    await bus.write("COMMAND", snapshot=1)
    total = totals[names[0]] + await bus.read(names[0])
    assert total == cycles, f"{total} pulses counted in {cycles} cycles"


@cocotb.test()
async def first_error_is_kept(dut: Any) -> None:
    """Stage, bits and time of the first error stay until they are cleared; of several stages the first counts."""
    bench, bus, registers, rng = await _start(dut)
    await bus.write("CONTROL", enable=1)
    reporting = [
        (number, register) for number, register in enumerate(_error_registers(registers)) if register.fields
    ]
    assert (await bus.read_fields("FIRST_ERROR"))["valid"] == 0
    for _ in range(12):
        together = sorted(rng.sample(reporting, rng.randrange(1, len(reporting))), key=lambda entry: entry[0])
        bits = {}
        for number, register in together:
            bits[number] = rng.randrange(1, 1 << len(register.fields))
            getattr(dut, register.name).value = bits[number]
        await bus.write("COMMAND", clear=1, snapshot=1)  # CYCLES restart here, errors go on
        for _, register in together:
            getattr(dut, register.name).value = 0
        await bench.run(4)
        cleared = await bus.read_fields("FIRST_ERROR")
        assert cleared["valid"] == 1, "an error in the cycle of the clear is lost"
        # Without errors the clear leaves nothing.
        await bus.write("COMMAND", clear=1)
        assert (await bus.read_fields("FIRST_ERROR"))["valid"] == 0
        await bench.run(rng.randrange(1, 40))
        await bus.write("COMMAND", snapshot=1)
        base, since = await bus.read("CYCLES"), bench.cycle
        for number, register in together:
            getattr(dut, register.name).value = bits[number]
        await bench.run(1)
        seen = bench.cycle
        for _, register in together:
            getattr(dut, register.name).value = rng.randrange(1 << len(register.fields))
        await bench.run(3)
        for _, register in together:
            getattr(dut, register.name).value = 0
        first, _ = together[0]
        found = await bus.read_fields("FIRST_ERROR")
        assert found == {"valid": 1, "stage": first, "errors": bits[first]}, (found, first, bits)
        time = await bus.read("FIRST_ERROR_CYCLE")
        # The snapshot was made and read in two accesses before.
        assert 0 <= time - base - (seen - since) <= 2 * ANSWER_CYCLES, (time, base, seen, since)


@cocotb.test()
async def interrupts(dut: Any) -> None:
    """A cause is set by its event, cleared by a written 1 only, and raises the output while it is enabled."""
    bench, bus, registers, _ = await _start(dut)
    reporting = next(register for register in _error_registers(registers) if register.fields)
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
    bench, bus, registers, _ = await _start(dut)
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
