from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmht.gen.choose_widths import choose_widths
from lmht.gen.integer import IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.gen.memory_contents import pack_memories, tile_memories, unpack_layers
from lmht.gen.plan import PlanOptions, expected_events, plan
from lmht.gen.quiet import quiet_levels
from lmht.rtl.registers import RegisterMap
from lmht.rtl.tile_parameters import WEIGHT_MEMORIES
from lmht.sim.random_conv_networks import random_conv_network, random_residual
from lmht.sim.random_networks import (
    random_design,
    random_layer,
    random_network,
    random_neurons,
    random_projection,
)


def field(row, offset, bits, signed=False):
    """Bits of a row, straight from the words."""
    number = sum(int(word) << 32 * index for index, word in enumerate(row))
    value = number >> offset & (1 << bits) - 1
    return value - (1 << bits) if signed and value >> bits - 1 else value


def planned(network, **options):
    return plan(
        network,
        choose_widths(network),
        name="design",
        options=PlanOptions(**options),
        events=expected_events(network),
    )


def with_unrolled_taps(design):
    layers = tuple(tuple(replace(tile, tap_unroll=True) for tile in tiles) for tiles in design.layers)
    return replace(design, layers=layers)


@st.composite
def designs(draw):
    """A network, fully connected or not, and hardware for it with any number of lanes and tiles."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    if draw(st.booleans()):
        network = random_conv_network(rng, max_size=6)
    else:
        network = random_network(
            rng,
            input_shape=(2, 2, 3),
            widths=(13, 5),
            steps=draw(st.integers(1, 4)),
            leak=draw(st.booleans()),
            diagonal=draw(st.booleans()),
            weight_bits=draw(st.integers(2, 8)),
        )
    lanes = st.sampled_from([1, 2, 3, 4, 7, 12, 128])
    design = planned(
        network,
        lanes=[draw(lanes) for _ in network.layers],
        split={0: draw(st.integers(1, min(3, network.layers[0].channels)))},
        update_lanes=draw(st.sampled_from([None, 1, 2, 4])),
        mix_multipliers=draw(st.sampled_from([None, 1, 64])),
    )
    return network, with_unrolled_taps(design) if draw(st.booleans()) else design


def check_fields(network, design, contents):
    """Every number of the network is where the parameters say, and every other bit of a weight memory is 0."""
    for tile in design.tiles:
        layer = network.layers[tile.layer]
        for number in range(len(tile.projections)):
            check_weights(tile, number, layer.projections[number], contents)
        check_neurons(tile, layer, contents)


def check_weights(tile, number, projection, contents):
    rows = contents[f"{tile.name}_{WEIGHT_MEMORIES[number]}"]
    bits, (rows_of_kernel, columns) = projection.weight_bits, projection.kernel
    channels, span, set_bits = projection.input_shape[0], tile.span(number), 0
    outputs = tile.layer_channels // projection.groups
    for local in range(tile.channels):
        n = tile.channel_offset + local
        group, lane = divmod(local, tile.lanes)
        for j in range(projection.weights.shape[1]):
            c = n // outputs * projection.weights.shape[1] + j
            for tap in range(rows_of_kernel * columns):
                weight = int(projection.weights[n, j, tap // columns, tap % columns])
                row, at = (0, tap * tile.lanes + lane) if tile.tap_unroll else (tap * channels, lane)
                row += c
                found = field(
                    rows[row * span + group - tile.first_group(number, c)], at * bits, bits, signed=True
                )
                assert found == weight
                set_bits += (weight & (1 << bits) - 1).bit_count()
    assert np.unpackbits(rows.view(np.uint8)).sum() == set_bits


def check_neurons(tile, layer, contents):
    neuron = tile.neuron
    biases, multipliers = (contents[f"{tile.name}_{memory}"] for memory in ("biases", "multipliers"))
    for local in range(tile.channels):
        n = tile.channel_offset + local
        r, k = divmod(local, tile.update_lanes)
        terms = 1 if layer.diagonal else neuron.input_steps
        currents = max(1, tile.mix_multipliers // terms)
        bits = neuron.bias_bits
        for t in range(neuron.steps):
            p, i = divmod(t, currents)
            row = biases[r * (neuron.steps // currents) + p]
            assert field(row, (k * currents + i) * bits, bits, signed=True) == layer.bias[t, n]
        bits = neuron.multiplier_bits
        for t in range(neuron.steps):
            for u in range(terms):
                p, i = divmod(t * terms + u, tile.mix_multipliers)
                row = multipliers[r * tile.mix_phases + p]
                assert field(row, (k * tile.mix_multipliers + i) * bits, bits) == layer.multipliers[t, u, n]
    if neuron.is_classifier:
        return
    (row,) = contents[f"{tile.name}_constants"]
    fields = tile.constants_fields
    assert field(row, *fields["v0"], signed=True) == layer.initial_membrane
    for t in range(neuron.steps if neuron.leak else 0):
        assert field(row, *fields[f"q{t}"]) == layer.leak[t]
    levels = quiet_levels(layer)[:, tile.channel_offset : tile.channel_offset + tile.channels]
    assert field(row, *fields["silent"]) == (levels.max() == 0)
    if tile.constant_events:
        bits = neuron.levels.bit_length()
        table = contents[f"{tile.name}_quiet_levels"]
        for n in range(tile.channels):
            r, k = divmod(n, tile.update_lanes)
            for t in range(neuron.steps):
                assert field(table[r], (k * neuron.steps + t) * bits, bits) == levels[t, n]


def assert_same(layers, network):
    for found, expected in zip(layers, network.layers, strict=True):
        unused = ("projections", *(("fraction_bits", "leak_bits") if expected.is_classifier else ()))
        for name in expected.__dataclass_fields__:
            if name not in unused:
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        for one, other in zip(found.projections, expected.projections, strict=True):
            for name in IntegerProjection.__dataclass_fields__:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@settings(max_examples=40)
@given(designs())
def test_every_field_is_where_the_parameters_say(drawn):
    network, design = drawn
    check_fields(network, design, pack_memories(design, network))


@settings(max_examples=40)
@given(designs())
def test_layers_come_back(drawn):
    network, design = drawn
    assert_same(unpack_layers(design, pack_memories(design, network)), network)


@pytest.fixture
def grouped():
    """A network with two groups and a residual branch of two groups in layers that take three rows of lanes each."""
    rng = np.random.default_rng(0)
    links = {"input_steps": 2, "input_max_level": 2}
    first = random_layer(rng, inputs=(1, 4, 4), neurons=6, steps=2, levels=2, kernel=(3, 3), padding=(1, 1))
    main = random_projection(
        rng, source=0, channels=6, input_shape=(6, 4, 4), kernel=(3, 3), padding=(1, 1), groups=2, **links
    )
    branch = random_residual(rng, source=0, channels=6, input_shape=(6, 4, 4), **links)
    second = random_neurons(rng, main, branch, steps=2, levels=2, quiet=True)
    classifier = random_layer(
        rng, source=1, inputs=(6, 4, 4), neurons=4, steps=1, levels=None, **links, weight_bits=3
    )
    network = IntegerNetwork(name="grouped", input_shape=(1, 4, 4), layers=(first, second, classifier))
    design = planned(network, lanes=[2, 2, 3])
    return network, design, pack_memories(design, network)


def flip(name):
    """Change the lowest bit of a field of the constants."""
    return lambda rows, tile: rows ^ np.uint32(1 << tile.constants_fields[name][0])


@pytest.mark.parametrize(
    ("memory", "fault"),
    [
        # Every weight one lane to the left.
        ("weights", lambda rows, tile: rows << tile.projections[0].weight_bits & 0xFF),
        # Rows of an input channel of the other group.
        ("weights", lambda rows, tile: np.roll(rows, 3 * tile.span(0), axis=0)),
        # The rows of an input channel's groups of lanes exchanged.
        ("weights", lambda rows, tile: rows.reshape(-1, tile.span(0))[:, ::-1].reshape(-1, 1)),
        # Rows of another tap.
        ("weights", lambda rows, tile: np.roll(rows, 6 * tile.span(0), axis=0)),
        ("residual_weights", lambda rows, tile: np.roll(rows, 1, axis=0)),
        ("biases", lambda rows, tile: np.roll(rows, 1, axis=0)),
        ("multipliers", lambda rows, tile: np.roll(rows, 1, axis=0)),
        ("constants", flip("v0")),
        ("constants", flip("silent")),
    ],
)
def test_faults_are_found(grouped, memory, fault):
    network, design, contents = grouped
    tile = design.layers[1][0]
    name = f"{tile.name}_{memory}"
    check_fields(network, design, contents)
    changed = fault(contents[name], tile)
    assert changed.shape == contents[name].shape
    wrong = contents | {name: changed}
    with pytest.raises(AssertionError):
        check_fields(network, design, wrong)
    with pytest.raises((AssertionError, ValueError)):
        assert_same(unpack_layers(design, wrong), network)


def test_what_no_layer_holds_is_refused(grouped):
    _, design, contents = grouped
    rolled = np.roll(contents["layer1_tile0_weights"], 6, axis=0)
    with pytest.raises(
        ValueError, match=r"^memory layer1_tile0_weights must be 0 in lanes without a synapse$"
    ):
        unpack_layers(design, contents | {"layer1_tile0_weights": rolled})
    silent, _ = design.layers[1][0].constants_fields["silent"]
    constants = contents["layer1_tile0_constants"] ^ np.uint32(1 << silent)
    with pytest.raises(ValueError, match=r"^silent in memory layer1_tile0_constants must be 1, not 0$"):
        unpack_layers(design, contents | {"layer1_tile0_constants": constants})


def test_silent_is_of_the_slice():
    rng = np.random.default_rng(0)
    network = random_network(rng, input_shape=(1, 2, 2), widths=(4, 2))
    # The last two neurons fire without input.
    biases = np.broadcast_to([-9, -9, 10**6, 10**6], (2, 4))
    first = replace(network.layers[0], bias=biases, initial_membrane=0)
    network = replace(network, layers=(first, network.layers[1]))
    design = planned(network, split={0: 2})
    contents = pack_memories(design, network)
    silent, _ = design.layers[0][0].constants_fields["silent"]
    assert [field(contents[f"layer0_tile{tile}_constants"][0], silent, 1) for tile in (0, 1)] == [1, 0]


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


def test_wrong_network_and_contents(grouped):
    network, design = random_design(np.random.default_rng(0), widths=(24, 10))
    other, _ = random_design(np.random.default_rng(0), widths=(25, 10))
    with pytest.raises(ValueError, match=r"^layer 0: channels must be 24 as designed, not 25$"):
        pack_memories(design, other)
    other, _ = random_design(np.random.default_rng(0), widths=(24, 10), input_shape=(1, 4, 16))
    with pytest.raises(ValueError, match=r"^layer 0: kernel must be \(8, 8\) as designed, not \(4, 16\)$"):
        pack_memories(design, other)
    with pytest.raises(ValueError, match=r"^network must have 2 layers, not 3$"):
        pack_memories(design, grouped[0])
    main, branch = grouped[0].layers[1].projections
    stronger = replace(grouped[0].layers[1], projections=(replace(main, shift=3), branch))
    with pytest.raises(ValueError, match=r"^layer 1: shift must be 0 as designed, not 3$"):
        pack_memories(
            grouped[1], replace(grouped[0], layers=(grouped[0].layers[0], stronger, grouped[0].layers[2]))
        )
    contents = pack_memories(design, network)
    short = contents | {"layer0_tile0_biases": contents["layer0_tile0_biases"][1:]}
    with pytest.raises(
        ValueError, match=r"^memory layer0_tile0_biases must have shape \(24, 1\), not \(23, 1\)$"
    ):
        unpack_layers(design, short)
    del contents["layer1_tile0_weights"]
    with pytest.raises(ValueError, match=r"^memory layer1_tile0_weights is missing$"):
        unpack_layers(design, contents)
