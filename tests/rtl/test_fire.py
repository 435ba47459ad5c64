"""Firing: levels and membranes of every input of small neurons, whatever their widths."""

from __future__ import annotations

import pytest
from amaranth.sim import Simulator

from lmht.rtl.fire import Fire
from lmht.rtl.neuron_parameters import NeuronParameters


@pytest.mark.parametrize(
    ("membrane_bits", "fraction_bits", "levels"), [(7, 2, 3), (7, 2, 4), (7, 0, 15), (5, 3, 15), (4, 4, 1)]
)
def test_every_membrane(membrane_bits: int, fraction_bits: int, levels: int) -> None:
    """The second step, without a current, shows what the first one has left."""
    neuron = NeuronParameters(
        input_steps=1,
        steps=2,
        levels=levels,
        accumulator_bits=8,
        multiplier_bits=1,
        shift=0,
        mix_bits=8,
        bias_bits=1,
        current_bits=8,
        membrane_bits=membrane_bits,
        fraction_bits=fraction_bits,
    )
    fire = Fire(neuron=neuron)
    membranes = range(-(1 << fire.membrane_bits - 1), 1 << fire.membrane_bits - 1)

    async def check(context) -> None:  # type: ignore[no-untyped-def]
        for cycle, membrane in enumerate([*membranes, *[0] * fire.latency]):
            context.set(fire.currents, [membrane, 0])
            if cycle >= fire.latency:
                first, left = fired(membranes[cycle - fire.latency], fraction_bits, levels)
                second, _ = fired(left, fraction_bits, levels)
                found = [context.get(level) for level in fire.levels]
                assert found == [first, second], f"membrane {membranes[cycle - fire.latency]}"
            await context.tick()

    simulator = Simulator(fire)
    simulator.add_clock(1e-6)
    simulator.add_testbench(check)
    simulator.run()


def fired(membrane: int, fraction_bits: int, levels: int) -> tuple[int, int]:
    """Level, and the membrane behind it (NUMERICS.md)."""
    level = min(max(membrane >> fraction_bits, 0), levels)
    return level, membrane - (level << fraction_bits)
