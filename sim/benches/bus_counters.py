"""Bench of :class:`~lmht.rtl.config_bus.ConfigBus` alone: counters, sticky errors, and the cycles of accesses.

Parameters (JSON): ``design`` (fields of DesignParameters).
"""

from __future__ import annotations

from typing import Any

import cocotb

from lmht.rtl.registers import FIRST_STAGE_ADDRESS, RegisterMap
from lmht.rtl.stages import design_stages
from lmht.sim.benches.bus import answer_cycles
from lmht.sim.benches.config_bus import error_registers, stage_of, start_bus
from lmht.sim.codecs import StructCodec, layout_fields


@cocotb.test()
async def accesses_take_their_cycles(dut: Any) -> None:
    """5 or 6; a command up to a sweep of the counters more, and the access behind a snapshot as well."""
    bench, bus, registers, rng = await start_bus(dut)
    sweep = 2 * (registers.registers[-1].address - FIRST_STAGE_ADDRESS + 1)

    async def cycles(register: str, value: int | None = None) -> int:
        begun = bench.cycle
        await bus.access(registers.address(register), value)
        return bench.cycle - begun

    await bus.read("ID")  # behind the reset
    names = [register.name for register in registers.registers if register.readable]
    for _ in range(60):
        await bench.run(rng.randrange(8))
        assert await cycles(rng.choice(names)) in (5, 6)
        await bench.run(rng.randrange(8))
        assert await cycles("LOAD_ROW", 0) in (5, 6)
    for _ in range(20):
        await bench.run(rng.randrange(sweep))
        assert 5 <= await cycles("COMMAND", registers["COMMAND"].pack(clear=1)) <= 6 + sweep
        assert await cycles("ID") in (5, 6)
        await bus.write("COMMAND", snapshot=1)
        assert sweep <= await cycles(rng.choice(names)) <= 6 + sweep
        assert await cycles("ID") in (5, 6)


@cocotb.test()
async def counters_and_errors(dut: Any) -> None:
    """Counters add up their pulses, errors stick, a clear clears both, and enable gates the cycle counter."""
    bench, bus, registers, rng = await start_bus(dut)
    stages = design_stages(registers.parameters)
    assert (await bus.read_fields("STATUS"))["error"] == 0
    for register in error_registers(registers):
        stage = stage_of(register)
        pulses = getattr(dut, f"{stage}_pulses")
        for times in (rng.randrange(1, 20), rng.randrange(1, 20)):
            amounts = {
                name: rng.randint(0, stages[stage].most(name)) for name in stages[stage].pulses.members
            }
            pulses.value = StructCodec(stages[stage].pulses).pack(amounts)
            expected = {f"{stage}_{name}": times * amount for name, amount in amounts.items()}
            flagged = 0
            if register.fields:
                flagged = getattr(dut, register.name).value = 1 << rng.randrange(len(register.fields))
            await bench.run(times)
            pulses.value = 0
            if register.fields:
                getattr(dut, register.name).value = 0
            await bus.write("COMMAND", snapshot=1)
            found = {name: await bus.read(name) for name in expected}
            assert found == expected, f"{found}, not {expected}"
            assert await bus.read(register.name) == flagged
            assert (await bus.read_fields("STATUS"))["error"] == bool(flagged)
            await bus.write("COMMAND", clear=1)
            again = {name: await bus.read(name) for name in expected}
            assert again == found, "a clear changed the snapshot"
            await bus.write("COMMAND", snapshot=1)
            assert not any([await bus.read(name) for name in expected])
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
    assert 100 <= seen[0] <= 120
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
    bench, bus, registers, rng = await start_bus(dut)
    stages = [stage_of(register) for register in error_registers(registers)]
    ones = {
        stage: sum(1 << offset for offset, _ in layout_fields(declared.pulses).values())
        for stage, declared in design_stages(registers.parameters).items()
    }
    names = [name for stage in stages for name in _counters(registers, stage)]
    await bus.write("CONTROL", enable=1)
    start = bench.cycle
    for stage in stages:
        getattr(dut, f"{stage}_pulses").value = ones[stage]
    totals = dict.fromkeys(names, 0)
    for number in range(4):
        await bench.run(rng.randrange(1, 30))
        await bus.write("COMMAND", snapshot=1, clear=1)
        found = {name: await bus.read(name) for name in names}
        assert len(set(found.values())) == 1, f"counters of one snapshot differ: {found}"
        # From the first clear on the core was enabled whenever pulses came.
        assert not number or await bus.read("CYCLES") == found[names[0]], "CYCLES are those of another moment"
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
    bench, bus, registers, rng = await start_bus(dut)
    await bus.write("CONTROL", enable=1)
    reporting = [
        (number, register) for number, register in enumerate(error_registers(registers)) if register.fields
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
        # The snapshot was made in the access before.
        assert 0 <= time - base - (seen - since) <= answer_cycles(registers), (time, base, seen, since)
