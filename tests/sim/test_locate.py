"""What the words at the taps of a design say about the place of a fault, without any simulation."""

from dataclasses import replace

import numpy as np
import pytest

from lmht.gen.plan import PlanOptions
from lmht.sim.golden import GoldenModel
from lmht.sim.locate import locate
from lmht.sim.random_conv_networks import random_conv_network
from lmht.sim.random_networks import random_design, random_images
from lmht.sim.simulation import SimulationRun
from lmht.sim.taps import KIND_CODES, TapWords, design_taps

EVENT, ROW_END, FRAME_END = (KIND_CODES[name] for name in ("EVENT", "ROW_END", "FRAME_END"))


@pytest.fixture(scope="module")
def design():
    """A network of two convolutions without pooling, the first one on two tiles; a model of it and one image."""
    rng = np.random.default_rng(3)
    options = PlanOptions(lanes=2, split={0: 2})
    while True:
        network, parameters = random_design(
            rng, make=random_conv_network, hidden_layers=(2, 2), pooling=False, plan_options=options
        )
        first = network.layers[0]
        if min(first.shape[1:]) > 2:
            break
    return parameters, GoldenModel(network), random_images(rng, 1, network.input_shape, density=0.6)[0]


def words_of(tap, values, own):
    """The words of one frame at a tap: events of the positions in `own` row by row, tokens between."""
    rows = []
    width = tap.layout.width * tap.layout.channels
    for y in range(tap.layout.height):
        for position in range(y * width, (y + 1) * width):
            if own(position) and (values[position].any() or tap.layout.signed):
                rows.append((EVENT, position, values[position]))
        last = y == tap.layout.height - 1
        rows.append((FRAME_END if last else ROW_END, 0, np.zeros(tap.layout.steps, int)))
    kind, position, levels = zip(*rows, strict=True)
    return TapWords(
        cycle=np.arange(len(rows)),
        image=np.zeros(len(rows), int),
        kind=np.array(kind),
        error=np.zeros(len(rows), bool),
        position=np.array(position),
        levels=np.array(levels),
    )


@pytest.fixture(scope="module")
def words(design):
    """Sound words at every tap."""
    parameters, model, pixels = design
    result = model.run(pixels[None], keep_levels=True)
    values = {-1: pixels.transpose(1, 2, 0).reshape(-1, 1).astype(int)}
    values |= {layer: levels[:, 0].numpy().T.astype(int) for layer, levels in enumerate(result.levels)}
    values[len(parameters.layers) - 1] = result.logits.numpy().T
    tiles = {tile.name: tile for tile in parameters.tiles}

    def owner(tap):
        if not tap.sends or tap.stage not in tiles:
            return lambda position: True
        tile = tiles[tap.stage]
        last = tile.channel_offset + tile.channels
        return lambda position: tile.channel_offset <= position % tap.layout.channels < last

    return {tap.name: words_of(tap, values[tap.source], owner(tap)) for tap in design_taps(parameters)}


def find(design, words):
    parameters, model, pixels = design
    none = np.zeros(0, int)
    run = SimulationRun(
        logits=np.zeros((0, parameters.classes), int),
        classes=none,
        errors=none.astype(bool),
        words=none,
        first_beat=none,
        result=none,
        expected_images=1,
        surplus=0,
        stalled=False,
        registers={},
        cycles=0,
        simulation_seconds=0.0,
        wall_seconds=0.0,
        events=words,
    )
    return locate(parameters, model, pixels, 0, run)


def edit(words, **columns):
    """The words with some entries changed: name of the column to {index: value}."""
    changed = {}
    for name, entries in columns.items():
        column = getattr(words, name).copy()
        for index, value in entries.items():
            column[index] = value
        changed[name] = column
    return replace(words, **changed)


def take(words, indices):
    return TapWords(*(getattr(words, name)[indices] for name in words.__dataclass_fields__))


def test_sound_words_have_no_fault(design, words):
    assert find(design, words) is None


def test_a_wrong_level_is_placed_in_the_map(design, words):
    tap = words["layer0_tile1.o"]
    event = int(np.flatnonzero(tap.events)[3])
    levels = tap.levels[event].copy()
    levels[-1] += 1
    fault = find(design, {**words, "layer0_tile1.o": edit(tap, levels={event: levels})})
    parameters = design[0]
    layout = parameters.link(0)
    y, x, channel = fault.y, fault.x, fault.channel
    assert (y * layout.width + x) * layout.channels + channel == tap.position[event] == fault.neuron
    assert (fault.stage, fault.layer, fault.step) == ("layer0_tile1", 0, layout.steps - 1)
    assert fault.found == fault.expected + 1
    assert f"layer 0, y {y}, x {x}, channel {channel} has level {fault.found} instead of" in fault.what


def test_the_first_component_on_the_way_is_named(design, words):
    """An event that is lost in front of a layer is its router's fault, whatever follows from it."""
    lost = {name: take(part, slice(1, None)) for name, part in words.items() if name.startswith("layer1")}
    fault = find(design, {**words, **lost})
    assert fault.stage == "router1"
    assert "is missing at layer1_tile0.i" in fault.what


def test_an_event_of_another_tile_is_no_event_of_this_one(design, words):
    both = {**words, "layer0_tile0.o": words["layer1_tile0.i"]}
    assert find(design, both).stage == "layer0_tile0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("twice", "came 2 times at layer1_tile0.i"),
        ("late", "came between the wrong row tokens at layer1_tile0.i"),
        ("token", "row tokens instead of"),
        ("end", "the frame token is missing at layer1_tile0.i"),
        ("flag", "the frame is flagged as damaged at layer1_tile0.i"),
        ("outside", "sent an event outside the layer at layer1_tile0.i"),
    ],
)
def test_every_other_fault_of_a_stream_is_seen(design, words, change, message):
    name = "layer1_tile0.i"
    tap = words[name]
    events, tokens = np.flatnonzero(tap.events), np.flatnonzero(~tap.events)
    first, count = int(events[0]), len(tap.kind)
    order = list(range(count))
    if change == "twice":
        order.insert(first, first)
    elif change == "late":
        # Behind the token of its row.
        token = int(tokens[tokens > first][0])
        order.remove(first)
        order.insert(token, first)
    elif change == "token":
        order.remove(int(tokens[0]))
    elif change == "end":
        order.pop()
    changed = take(tap, np.array(order))
    if change == "flag":
        changed = edit(changed, error={count - 1: True})
    elif change == "outside":
        changed = edit(changed, position={first: design[0].link(0).positions})
    fault = find(design, {**words, name: changed})
    assert fault.stage == "router1"
    assert message in fault.what
