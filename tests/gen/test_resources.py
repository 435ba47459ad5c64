"""The model of a tile's size against Yosys (`synth_ecp5`); the figures were measured when the model was fitted."""

import pytest

from lmht.gen.resources import DEVICES, design_resources, memory_blocks, tile_resources
from lmht.rtl.events import EventLayout
from lmht.rtl.memory_shape import MemoryShape
from lmht.rtl.neuron_parameters import NeuronParameters
from lmht.rtl.projection import Pooling, ProjectionParameters
from lmht.rtl.tile_parameters import TileParameters

ECP5 = DEVICES["ecp5-85k"]


def tile(*, inputs, kernel, channels, lanes, update=(1, 1), bits=16, pooling=None, taps=False):
    """A tile of two steps and levels with 4-bit weights; `inputs` are channels, height, width, steps and levels."""
    count, height, width, steps, levels = inputs
    neuron = NeuronParameters(
        input_steps=steps,
        steps=2,
        levels=2,
        accumulator_bits=bits,
        multiplier_bits=12,
        shift=10,
        mix_bits=bits + 13,
        bias_bits=bits + 1,
        current_bits=bits + 4,
        membrane_bits=bits + 5,
    )
    dense = kernel == height
    padding = 0 if dense else kernel // 2
    projection = ProjectionParameters(
        source=0,
        input=EventLayout.for_levels(
            height=height, width=width, channels=count, steps=steps, max_level=levels
        ),
        kernel=(kernel, kernel),
        padding=(padding, padding),
        weight_bits=4,
    )
    return TileParameters(
        name="t",
        layer=1,
        projections=(projection,),
        layer_channels=channels,
        channel_offset=0,
        channels=channels,
        lanes=lanes,
        neuron=neuron,
        update_lanes=update[0],
        mix_multipliers=update[1],
        pooling=pooling,
        tap_unroll=taps,
    )


MEASURED = {
    # look-up tables (distributed memories included), flip-flops, block RAMs, multipliers
    "linear": (
        tile(inputs=(1, 28, 28, 1, 255), kernel=28, channels=128, lanes=16, bits=17),
        (1308, 1947, 34, 17),
    ),
    "convolution": (tile(inputs=(8, 16, 16, 2, 2), kernel=3, channels=16, lanes=8), (1685, 2306, 9, 1)),
    "wide update": (
        tile(inputs=(8, 16, 16, 2, 2), kernel=3, channels=16, lanes=8, update=(2, 4)),
        (2203, 2629, 9, 8),
    ),
    "32 lanes": (
        tile(inputs=(16, 16, 16, 2, 2), kernel=3, channels=32, lanes=32, update=(1, 2)),
        (4816, 7886, 34, 2),
    ),
    "pooling": (
        tile(
            inputs=(1, 28, 28, 1, 255),
            kernel=3,
            channels=16,
            lanes=8,
            update=(4, 2),
            bits=17,
            pooling=Pooling(kind="sum", size=(2, 2)),
        ),
        (2938, 3184, 6, 16),
    ),
    "all taps": (
        tile(inputs=(4, 8, 8, 2, 2), kernel=3, channels=4, lanes=4, bits=14, taps=True),
        (8967, 6847, 0, 1),
    ),
}


@pytest.mark.parametrize("name", MEASURED)
def test_model_is_close_to_synthesis(name):
    parameters, (lut4, flip_flops, block_rams, multipliers) = MEASURED[name]
    found = tile_resources(parameters, ECP5)
    assert found.lut4 == pytest.approx(lut4, rel=0.2)
    assert found.flip_flops == pytest.approx(flip_flops, rel=0.1)
    assert found.multipliers == multipliers
    assert found.block_rams == pytest.approx(block_rams, abs=4)


def test_memories_take_the_shape_that_needs_the_fewest_blocks():
    assert memory_blocks(MemoryShape(width=36, depth=512), ECP5) == 1
    assert memory_blocks(MemoryShape(width=37, depth=512), ECP5) == 2
    assert memory_blocks(MemoryShape(width=8, depth=4096), ECP5) == 2
    assert memory_blocks(MemoryShape(width=512, depth=32), ECP5) == 0
    assert memory_blocks(MemoryShape(width=16, depth=512), DEVICES["ice40up5k"]) == 2


def test_a_design_takes_more_than_its_tiles():
    tiles = [parameters for parameters, _ in MEASURED.values()]
    alone = sum(tile_resources(parameters, ECP5).lut4 for parameters in tiles)
    assert design_resources(tiles, ECP5).lut4 > alone


def test_counters_take_memory_of_their_own():
    tiles = [MEASURED["linear"][0]]
    for device, blocks in (("ecp5-85k", 1), ("ice40up5k", 2)):
        alone = tile_resources(tiles[0], DEVICES[device]).block_rams
        assert design_resources(tiles, DEVICES[device]).block_rams == alone + blocks
