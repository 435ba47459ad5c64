"""The planner's cycle estimate against the cycles of the Verilated design."""

import numpy as np
import pytest

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.encoder_work import measure_encoder
from lmht.gen.estimate import estimate
from lmht.sim.golden import GoldenModel
from lmht.sim.harness import Harness
from lmht.sim.random_networks import random_images, random_network


@pytest.mark.slow
def test_estimate_is_within_two_percent(tmp_path):
    network = random_network(np.random.default_rng(0), widths=(48, 10))
    compile_network(network, tmp_path / "build", CompileOptions(name="estimated", lanes=8, split={0: 2}))
    build = Build.open(tmp_path / "build")
    images = random_images(np.random.default_rng(1), 100, network.input_shape)
    run = Harness.for_build(build).run(images)
    golden = GoldenModel(network).run(images)
    np.testing.assert_array_equal(run.logits, golden.logits.numpy())
    work = measure_encoder(build.parameters.frame, images)
    expected = estimate(build.parameters, work, golden.events.numpy())
    results = run.result - run.first_beat[0]
    assert expected.total_cycles == pytest.approx(results[-1], rel=0.02)
    per_frame = (results[-1] - results[0]) / (len(images) - 1)
    assert expected.cycles_per_frame == pytest.approx(per_frame, rel=0.02)
