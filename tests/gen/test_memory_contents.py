import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmht.gen.memory_contents import pack_memories, tile_memories, unpack_layers
from lmht.gen.plan import PlanOptions
from lmht.rtl.registers import RegisterMap
from lmht.sim.random_networks import random_design


def field(row, offset, bits, signed=False):
    """Bits of a row, straight from the words."""
    number = sum(int(word) << 32 * index for index, word in enumerate(row))
    value = number >> offset & (1 << bits) - 1
    return value - (1 << bits) if signed and value >> bits - 1 else value


def draw_design(data):
    steps = data.draw(st.integers(1, 4))
    lanes = data.draw(st.sampled_from([1, 3, 4, 7, 12, 128]))
    options = PlanOptions(
        lanes=(lanes, data.draw(st.integers(1, 8))),
        split={0: data.draw(st.integers(1, 3))},
        update_lanes=data.draw(st.sampled_from([None, 1, 2, 4])),
        mix_multipliers=data.draw(st.sampled_from([None, 1, 64])),
    )
    return random_design(
        np.random.default_rng(data.draw(st.integers(0, 2**31))),
        plan_options=options,
        input_shape=(2, 2, 3),
        widths=(13, 5),
        steps=steps,
        leak=data.draw(st.booleans()),
        weight_bits=data.draw(st.integers(2, 8)),
    )


@settings(max_examples=30)
@given(st.data())
def test_every_field_is_where_the_parameters_say(data):
    network, design = draw_design(data)
    contents = pack_memories(design, network)
    for tile in design.tiles:
        layer, neuron = network.layers[tile.layer], tile.neuron
        weights, biases, multipliers = (
            contents[f"{tile.name}_{memory}"] for memory in ("weights", "biases", "multipliers")
        )
        for local in range(tile.channels):
            n = tile.channel_offset + local
            group, lane = divmod(local, tile.lanes)
            for j in range(layer.inputs):
                row = weights[j * tile.groups + group]
                assert field(row, lane * tile.weight_bits, tile.weight_bits, True) == layer.weights[n, j]
            r, k = divmod(local, tile.update_lanes)
            bits = neuron.accumulator_bits
            assert field(biases[r], k * bits, bits, True) == layer.bias[n]
            bits = neuron.multiplier_bits
            for t in range(neuron.steps):
                for u in range(neuron.input_steps):
                    p, i = divmod(t * neuron.input_steps + u, tile.mix_multipliers)
                    row = multipliers[r * tile.mix_phases + p]
                    found = field(row, (k * tile.mix_multipliers + i) * bits, bits)
                    assert found == layer.multipliers[t, u, n]
        if not neuron.is_classifier:
            (row,) = contents[f"{tile.name}_constants"]
            offset, width = neuron.constants_fields["v0"]
            assert field(row, offset, width, True) == layer.initial_membrane
            for t in range(neuron.steps if neuron.leak else 0):
                assert field(row, *neuron.constants_fields[f"q{t}"]) == layer.leak[t]


@settings(max_examples=30)
@given(st.data())
def test_layers_come_back(data):
    network, design = draw_design(data)
    for found, expected in zip(
        unpack_layers(design, pack_memories(design, network)), network.layers, strict=True
    ):
        for name in expected.__dataclass_fields__:
            if name not in ("fraction_bits", "leak_bits") or not expected.is_classifier:
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_numbers_are_those_of_the_configuration_bus():
    _, design = random_design(
        np.random.default_rng(0), plan_options=PlanOptions(split={0: 2}), widths=(24, 10)
    )
    owned = RegisterMap.for_design(design).memories
    listed = tile_memories(design)
    found = [(memory.index, memory.name, memory.shape, memory.words) for memory in listed]
    expected = [(memory.index, memory.name, memory.shape, memory.words) for memory in owned]
    assert found == expected[: len(found)]
    assert all(memory.memory == "routes" for memory in owned[len(found) :])


def test_rows_of_1024_bits_are_packed_at_once():
    network, design = random_design(
        np.random.default_rng(0),
        plan_options=PlanOptions(lanes=128),
        input_shape=(1, 28, 28),
        widths=(128, 10),
        weight_bits=8,
    )
    start = time.perf_counter()
    contents = pack_memories(design, network)
    assert time.perf_counter() - start < 0.5
    assert contents["layer0_tile0_weights"].shape == (784, 32)


def test_wrong_network_and_contents():
    network, design = random_design(np.random.default_rng(0), widths=(24, 10))
    other, _ = random_design(np.random.default_rng(0), widths=(25, 10))
    with pytest.raises(ValueError, match=r"^layer 0 must be 64-24 as designed, not 64-25$"):
        pack_memories(design, other)
    contents = pack_memories(design, network)
    short = contents | {"layer0_tile0_biases": contents["layer0_tile0_biases"][1:]}
    with pytest.raises(
        ValueError, match=r"^memory layer0_tile0_biases must have shape \(24, 1\), not \(23, 1\)$"
    ):
        unpack_layers(design, short)
    del contents["layer1_tile0_weights"]
    with pytest.raises(ValueError, match=r"^memory layer1_tile0_weights is missing$"):
        unpack_layers(design, contents)
