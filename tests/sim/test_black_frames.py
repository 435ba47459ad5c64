"""What a frame without any event costs: its tokens, where neurons are silent without input; no arithmetic otherwise."""

import numpy as np
import pytest

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.integer import IntegerNetwork
from lmht.sim.random_networks import random_layer
from lmht.sim.verify import verify

SIZE, CHANNELS, STEPS, LEVELS = 12, 6, 2, 2
FRAMES = 12
ROW_CYCLES = 4
"""Of a row without any pixel to visit, with four banks: three rows share the way from closing to freeing a bank, which
is as many cycles longer as it takes to know ahead that a bank is free."""


def two_convolutions(*, quiet):
    """Two 3x3 convolutions over 12 x 12 pixels, and a classifier."""
    rng = np.random.default_rng(11)
    link = {"input_steps": STEPS, "input_max_level": LEVELS}
    hidden = {"neurons": CHANNELS, "steps": STEPS, "levels": LEVELS, "quiet": quiet, "kernel": (3, 3)}
    maps = (CHANNELS, SIZE, SIZE)
    layers = (
        random_layer(rng, inputs=(1, SIZE, SIZE), padding=(1, 1), **hidden),
        random_layer(rng, inputs=maps, source=0, padding=(1, 1), **hidden, **link),
        random_layer(rng, inputs=maps, source=1, neurons=4, steps=1, levels=None, **link),
    )
    return IntegerNetwork(name="black", input_shape=(1, SIZE, SIZE), layers=layers)


def run_black(network, folder, **options):
    """Black frames and, between them, one that is not, through the design; the report and the parameters."""
    chosen = {"lanes": 3, "update_lanes": 1, "mix_multipliers": 1, **options}
    compile_network(network, folder, CompileOptions(name="dut", **chosen))
    build = Build.open(folder)
    images = np.zeros((FRAMES, *network.input_shape), np.uint8)
    report = verify(build, images, layer_images=FRAMES, optimize=False)
    assert report.ok, report.message
    return report, build.parameters


@pytest.mark.parametrize("skip_quiet", [True, False])
def test_black_frames_of_silent_neurons_cost_their_tokens(skip_quiet, tmp_path):
    report, design = run_black(two_convolutions(quiet=True), tmp_path / "build", skip_quiet=skip_quiet)
    rows = sum(tile.height for tile in design.tiles[:2])
    every_pixel = SIZE * SIZE * design.tiles[0].update_cycles
    taken = report.cycles.steady_mean
    if skip_quiet:
        assert taken <= ROW_CYCLES * rows / 2 + design.classes
    else:
        assert taken >= every_pixel > 20 * ROW_CYCLES * SIZE


def test_black_frames_of_other_neurons_cost_no_product(tmp_path):
    report, design = run_black(two_convolutions(quiet=False), tmp_path / "build")
    assert [tile.constant_events for tile in design.tiles] == [True, True, False]
    # Verify compares the counters with the golden work: none of the multipliers of the first layer has worked.
    first = design.tiles[0]
    (stage,) = [row for row in report.stages if row.stage == first.name]
    assert stage.events_in == 0
    assert stage.work <= SIZE * SIZE * max(first.update_rows, first.channels)
    assert stage.work < SIZE * SIZE * first.update_cycles
