"""The planner's cycle estimate against the cycles of the Verilated design."""

import numpy as np
import pytest

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.estimate import estimate
from lmht.gen.frame_work import measure_frames
from lmht.gen.integer import IntegerNetwork
from lmht.gen.integer_projection import IntegerProjection
from lmht.rtl.checks import STEPS_LIMIT
from lmht.rtl.projection import IMAGE, Pooling
from lmht.sim.golden import GoldenModel
from lmht.sim.harness import Harness
from lmht.sim.random_networks import random_images, random_network, random_neurons, random_projection


def convolution(rng, channels, source, shape, **others):
    if source != IMAGE:
        others = {"input_steps": 2, "input_max_level": 2} | others
    return random_projection(
        rng, channels=channels, source=source, input_shape=shape, kernel=(3, 3), padding=(1, 1), **others
    )


def pooled_network():
    """1x16x16-8C3-P2-16C3-P2-10."""
    rng, pooling = np.random.default_rng(1), Pooling(kind="sum", size=(2, 2))
    steps = {"steps": 2, "levels": 2}
    dense = random_projection(
        rng,
        channels=10,
        source=1,
        input_shape=(16, 8, 8),
        pooling=pooling,
        input_steps=2,
        input_max_level=2,
    )
    layers = (
        random_neurons(rng, convolution(rng, 8, IMAGE, (1, 16, 16)), quiet=True, **steps),
        random_neurons(rng, convolution(rng, 16, 0, (8, 16, 16), pooling=pooling), quiet=True, **steps),
        random_neurons(rng, dense, steps=1, levels=None),
    )
    return IntegerNetwork(name="pooled", input_shape=(1, 16, 16), layers=layers)


def residual_network():
    """1x12x12-8C3-8C3-8C3+0-10, its layers about equally busy."""
    rng, maps = np.random.default_rng(2), (8, 12, 12)
    steps = {"steps": 2, "levels": 2}
    identity = IntegerProjection(
        source=0,
        input_shape=maps,
        weights=np.full((8, 1, 1, 1), 700),
        weight_bits=11,
        groups=8,
        input_steps=2,
        input_max_level=2,
    )
    dense = random_projection(rng, channels=10, source=2, input_shape=maps, input_steps=2, input_max_level=2)
    layers = (
        random_neurons(rng, convolution(rng, 8, IMAGE, (1, 12, 12)), **steps),
        random_neurons(rng, convolution(rng, 8, 0, maps), **steps),
        random_neurons(rng, convolution(rng, 8, 1, maps, shift=6), identity, **steps),
        random_neurons(rng, dense, steps=1, levels=None),
    )
    return IntegerNetwork(name="residual", input_shape=(1, 12, 12), layers=layers)


CASES = {
    "linear": (
        lambda: random_network(np.random.default_rng(0), widths=(48, 10)),
        CompileOptions(lanes=8, split={0: 2}),
    ),
    "pooled": (pooled_network, CompileOptions(lanes=8)),
    "residual": (residual_network, CompileOptions(lane_budget=24)),
    "many steps": (
        lambda: random_network(np.random.default_rng(0), widths=(16, 10), steps=STEPS_LIMIT, leak=True),
        CompileOptions(lanes=4),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_estimate_is_within_two_percent(tmp_path, name):
    make, options = CASES[name]
    network = make()
    compile_network(network, tmp_path / "build", options.model_copy(update={"name": "estimated"}))
    build = Build.open(tmp_path / "build")
    images = random_images(np.random.default_rng(1), 60, network.input_shape)
    run = Harness.for_build(build).run(images)
    golden = GoldenModel(network).run(images, keep_levels=True)
    np.testing.assert_array_equal(run.logits, golden.logits.numpy())
    work = measure_frames(build.parameters, network, images, [levels.numpy() for levels in golden.levels])
    expected = estimate(build.parameters, work)
    results = run.result - run.first_beat[0]
    assert expected.total_cycles == pytest.approx(results[-1], rel=0.02)
    per_frame = (results[-1] - results[0]) / (len(images) - 1)
    assert expected.cycles_per_frame == pytest.approx(per_frame, rel=0.02)
    # The first frame crosses an empty design, whose latencies are known to a few cycles.
    assert expected.latency_cycles == pytest.approx(results[0], rel=0.1)
