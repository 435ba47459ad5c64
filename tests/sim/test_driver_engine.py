"""The C driver runs the Verilated design through its AXI ports: every logit, also after resets and malformed frames."""

from pathlib import Path

import numpy as np
import pytest

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.sim.driver_engine import DriverEngine, DriverError
from lmht.sim.golden import GoldenModel
from lmht.sim.random_networks import random_images, random_network

FIRMWARE = Path(__file__).parents[2] / "firmware"
IMAGES = 120


@pytest.fixture(scope="module")
def network():
    return random_network(np.random.default_rng(5), input_shape=(1, 5, 5), widths=(12, 6), leak=True)


@pytest.fixture(scope="module")
def build(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("driver") / "build"
    compile_network(network, folder, CompileOptions(name="driven", lanes=4, split={0: 2}, bus="axi"))
    return Build.open(folder)


@pytest.fixture(scope="module")
def engine(build):
    return DriverEngine(build, FIRMWARE)


@pytest.fixture(scope="module")
def images(network):
    return random_images(np.random.default_rng(6), IMAGES, network.input_shape, density=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"idle": 0.4, "back_pressure": 0.7, "seed": 3}, {"disturb_every": 3}], ids=str
)
def test_every_logit_is_equal(engine, network, images, options):
    run = engine.run(images, **options)
    logits = GoldenModel(network).run(images).logits.numpy()
    np.testing.assert_array_equal(run.logits, logits)
    np.testing.assert_array_equal(run.classes, logits.argmax(1))
    assert not run.flagged.any()
    # The packet that is too short gives a result, and an error, of its own; a frame given up may have given one, too.
    assert run.frames >= IMAGES + (IMAGES // 3 if "disturb_every" in options else 0)
    assert run.errors == ("disturb_every" in options)


@pytest.mark.slow
def test_a_design_that_is_another_one_is_refused(build, engine, tmp_path):
    """The driver was compiled for the design; the image is another's."""
    other = random_network(np.random.default_rng(5), input_shape=(1, 5, 5), widths=(14, 6))
    compile_network(other, tmp_path / "other", CompileOptions(name="other", lanes=4))
    wrong = Build(tmp_path / "other", build.manifest, build.network)
    refused = DriverEngine.__new__(DriverEngine)
    refused.build, refused.program = wrong, engine.program
    with pytest.raises(DriverError, match=r"^error lmht_load_image returned 5$"):
        refused.run(np.ones((1, 1, 5, 5), np.uint8))


def test_a_build_without_axi_ports_is_refused(network, tmp_path):
    compile_network(network, tmp_path / "plain", CompileOptions(name="plain", lanes=4))
    with pytest.raises(ValueError, match=r"has no AXI ports: compile it with the bus axi$"):
        DriverEngine(Build.open(tmp_path / "plain"), FIRMWARE)
