"""The cocotb bench of the top level compares by itself, logits and every layer, when it is given what to expect."""

import numpy as np
import pytest

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.sim.cocotb_engine import CocotbEngine
from lmht.sim.golden import GoldenModel
from lmht.sim.random_networks import random_images, random_network
from lmht.sim.runner import BenchFailure

IMAGES = 4


@pytest.fixture(scope="module")
def network():
    return random_network(np.random.default_rng(12), input_shape=(2, 3, 4), widths=(10, 4), steps=2, levels=3)


@pytest.fixture(scope="module")
def engine(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cocotb") / "build"
    compile_network(network, folder, CompileOptions(name="dut", lanes=3, split={0: 2}))
    return CocotbEngine.for_build(Build.open(folder))


@pytest.fixture(scope="module")
def images(network):
    return random_images(np.random.default_rng(13), IMAGES, network.input_shape, density=0.6)


@pytest.fixture
def expected(network, images):
    golden = GoldenModel(network).run(images, keep_levels=True)
    return {
        "logits": golden.logits.numpy().copy(),
        "levels0": golden.levels[0].numpy().astype(np.int64),
    }


@pytest.mark.slow
def test_expected_logits_and_levels_pass(engine, images, expected):
    run = engine.run(images, expected=expected, observe=range(IMAGES), idle=0.3, back_pressure=0.3, seed=1)
    np.testing.assert_array_equal(run.logits, expected["logits"])
    assert run.registers["readout_frames"] == IMAGES
    assert run.events["layer0_tile1.o"].frame_ends == IMAGES


@pytest.mark.slow
def test_wrong_logit_is_named(engine, images, expected):
    expected["logits"][2, 3] += 1
    found, wanted = expected["logits"][2, 3] - 1, expected["logits"][2, 3]
    with pytest.raises(BenchFailure, match=rf"image 2: logit 3 is {found}, not {wanted}"):
        engine.run(images, expected=expected)


@pytest.mark.slow
def test_wrong_level_is_named(engine, images, expected):
    expected["levels0"][1, 3, 7] += 1
    with pytest.raises(BenchFailure, match=r"image 3, layer 0, neuron 7, step 1: level \d, not \d"):
        engine.run(images, expected=expected, observe=range(2, IMAGES))


def test_init_wrong_probability(engine, images):
    with pytest.raises(ValueError, match=r"^idle must be at least 0 and below 1, not 1.5$"):
        engine.run(images, idle=1.5)
