"""Depths of FIFOs against a simulation of whole rows that does not know about times."""

from dataclasses import replace

import numpy as np
import pytest

from lmht.gen.fifo_depth import fifo_depths, safe_rows
from lmht.rtl.events import EventLayout
from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.projection import IMAGE, Pooling, ProjectionParameters
from lmht.rtl.tile_parameters import TileParameters

NEURON = NeuronParameters(
    input_steps=1,
    steps=1,
    levels=1,
    accumulator_bits=16,
    multiplier_bits=8,
    shift=4,
    mix_bits=24,
    bias_bits=12,
    current_bits=20,
    membrane_bits=20,
)


def image(height):
    return EventLayout.for_levels(height=height, width=2, channels=3, steps=1, max_level=1)


def layer(layers, *inputs, height, pooling=None):
    """A layer with `inputs` of (source, rows of kernel, stride, padding[, pool])."""
    projections = []
    for source, kernel, stride, padding, *pool in inputs:
        link = image(height) if source == IMAGE else layers[source].output
        projections.append(
            ProjectionParameters(
                source=source,
                input=link,
                kernel=(kernel, 1),
                stride=(stride, 1),
                padding=(padding, 0),
                pool=(pool[0] if pool else 1, 1),
                weight_bits=4,
            )
        )
    return TileParameters(
        name=f"layer{len(layers)}_tile0",
        layer=len(layers),
        projections=tuple(projections),
        layer_channels=3,
        channel_offset=0,
        channels=3,
        lanes=1,
        neuron=NEURON,
        pooling=pooling,
    )


def network(*specifications, height=16):
    layers = []
    for inputs, *pooling in specifications:
        layers.append(layer(layers, *inputs, height=height, pooling=pooling[0] if pooling else None))
    return layers


class Port:
    """An input with a FIFO that holds so many rows; without one, only what can be taken at once gets in."""

    def __init__(self, tile, projection, capacity):
        self.tile, self.projection, self.capacity = tile, projection, capacity
        self.waiting = []
        self.received = self.taken = 0

    def outputs(self, row):
        """Output rows that a row on the link reaches."""
        p = self.projection
        y = row // p.pool[0] + p.padding[0]
        if row // p.pool[0] >= p.pooled[0]:
            return []
        return [o for o in range(self.tile.height) if 0 <= y - o * p.stride[0] < p.kernel[0]]

    def is_open(self, row, base):
        """Whether all outputs of a row lie in the window."""
        return all(base <= output < base + self.tile.banks - 1 for output in self.outputs(row))

    def has_room(self, base):
        """Whether the next row can be taken, or waits in the FIFO."""
        if self.waiting or not self.is_open(self.received, base):
            return len(self.waiting) < self.capacity
        return True

    def receive(self, base):
        """Take in the next row."""
        if self.waiting or not self.is_open(self.received, base):
            self.waiting.append(self.received)
        else:
            self.taken += 1
        self.received += 1

    def take(self, base):
        """Take a row out of the FIFO; whether there was one in the window."""
        if not self.waiting or not self.is_open(self.waiting[0], base):
            return False
        self.waiting.pop(0)
        self.taken += 1
        return True

    def is_past(self, base):
        """Whether no row still to come reaches output row `base`; the last one waits for the frame's end."""
        left = range(self.taken, self.projection.input.height)
        if base == self.tile.height - 1:
            return not left
        return not any(output <= base for row in left for output in self.outputs(row))


def streams_through(layers, capacities, height):
    """Pass a frame through, whole rows at a time, until nothing moves; whether all rows have closed."""
    ports = [
        [Port(tile, p, rows) for p, rows in zip(tile.projections, words, strict=True)]
        for tile, words in zip(layers, capacities, strict=True)
    ]
    closed = [0] * len(layers)

    def ready(source):
        """Rows that a source can send."""
        if source == IMAGE:
            return height
        tile = layers[source]
        if closed[source] == tile.height:
            return tile.output.height
        # The last row of a frame ends with the frame.
        return min(closed[source] // (tile.pooling.size[0] if tile.pooling else 1), tile.output.height - 1)

    moved = True
    while moved:
        moved = False
        for tile, inputs in zip(layers, ports, strict=True):
            base = closed[tile.layer]
            for port in inputs:
                moved |= port.take(base)
            if base < tile.height and all(port.is_past(base) for port in inputs):
                closed[tile.layer] += 1
                moved = True
        for source in range(IMAGE, len(layers)):
            fed = [port for inputs in ports for port in inputs if port.projection.source == source]
            # No word leaves before all have taken the one before it.
            while (
                fed
                and fed[0].received < ready(source)
                and all(port.has_room(closed[port.tile.layer]) for port in fed)
            ):
                for port in fed:
                    port.receive(closed[port.tile.layer])
                moved = True
    return all(count == tile.height for count, tile in zip(closed, layers, strict=True))


def rows_of(layers, missing=0):
    """Capacities as computed, without the rows for throughput, less `missing` where there are any."""
    return [
        tuple(
            max(safe_rows(layers, tile.layer, number) - missing, 0) if len(tile.projections) > 1 else 0
            for number in range(len(tile.projections))
        )
        for tile in layers
    ]


PLAIN = (IMAGE, 3, 1, 1)
BRANCHES = {
    # name: layers, and rows that the residual's FIFO must hold
    "basic block": ([[PLAIN], [(0, 3, 1, 1)], [(1, 3, 1, 1), (0, 1, 1, 0)]], 0),
    "downsampling block": ([[PLAIN], [(0, 3, 2, 1)], [(1, 3, 1, 1), (0, 1, 2, 0)]], 0),
    "three convolutions": ([[PLAIN], [(0, 3, 1, 1)], [(1, 3, 1, 1)], [(2, 3, 1, 1), (0, 1, 1, 0)]], 1),
    "large kernels": ([[PLAIN], [(0, 7, 1, 3)], [(1, 7, 1, 3)], [(2, 1, 1, 0), (0, 1, 1, 0)]], 6),
    "strides behind": ([[PLAIN], [(0, 3, 1, 1)], [(1, 5, 2, 2)], [(2, 3, 1, 1), (0, 1, 2, 0)]], 0),
    "from the image": ([[PLAIN], [(0, 3, 1, 1)], [(1, 5, 1, 2)], [(2, 1, 1, 0), (IMAGE, 1, 1, 0)]], 4),
    "pooled sums": ([[PLAIN], [(0, 3, 1, 1)], [(1, 3, 1, 1, 2)], [(2, 3, 1, 1), (0, 1, 1, 0, 2)]], 1),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_depth_is_enough_and_less_locks(name):
    specification, rows = BRANCHES[name]
    layers = network(*([inputs] for inputs in specification))
    assert safe_rows(layers, len(layers) - 1, 1) == rows
    assert streams_through(layers, rows_of(layers), 16)
    if rows:
        assert not streams_through(layers, rows_of(layers, missing=1), 16)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_never_lock(seed):
    rng = np.random.default_rng(seed)
    height = int(rng.integers(5, 20))
    layers = []
    for index in range(int(rng.integers(3, 8))):
        kernel = int(rng.choice([1, 3, 5]))
        main = layer(layers, (index - 1, kernel, 1, kernel // 2), height=height)
        inputs = [(index - 1, kernel, 1, kernel // 2)]
        same = [
            source
            for source in range(IMAGE, index - 1)
            if (height if source == IMAGE else layers[source].output.height) == main.height
        ]
        if same and rng.random() < 0.7:
            branch_kernel = int(rng.choice([1, 3]))
            inputs.append((int(rng.choice(same)), branch_kernel, 1, branch_kernel // 2))
        pool = None
        if rng.random() < 0.2 and main.height >= 4:
            pool = Pooling(kind="max", size=(2, 1))
        layers.append(layer(layers, *inputs, height=height, pooling=pool))
    assert streams_through(layers, rows_of(layers), height)


def test_words_hold_rows_without_a_single_zero_and_more_for_throughput():
    layers = network(*([inputs] for inputs in BRANCHES["three convolutions"][0]))
    words = 2 * 3 + 1  # of a row: two columns of three channels, and the token
    # One row to be safe, and two for each of the two layers between.
    assert fifo_depths(layers) == [(0,), (0,), (0,), (0, 5 * words)]


def test_depth_does_not_depend_on_fifos_that_are_there():
    layers = network(*([inputs] for inputs in BRANCHES["from the image"][0]))
    last = layers[-1]
    deep = [replace(projection, fifo=1000) for projection in last.projections]
    assert fifo_depths([*layers[:-1], replace(last, projections=tuple(deep))]) == fifo_depths(layers)
