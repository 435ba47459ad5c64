"""The C driver runs the Verilated design through its AXI ports: every logit, flag and counter, also when disturbed."""

import shutil

import numpy as np
import pytest

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.images import encode_image, read_image
from lmht.sim.driver_engine import DriverEngine
from lmht.sim.random_networks import random_images, random_network
from lmht.sim.simulation import SimulationError
from lmht.sim.toolchain import ToolchainError
from lmht.sim.verify import verify

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
def images(network):
    return random_images(np.random.default_rng(6), IMAGES, network.input_shape, density=0.5)


@pytest.fixture
def copied(build, tmp_path):
    """A copy of the build in which faults may be planted."""
    return Build.open(shutil.copytree(build.folder, tmp_path / "copied"))


def plant(build, name, old, new):
    """Replace the one place in a file of the build."""
    path = build.folder / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"idle": 0.4, "back_pressure": 0.7, "seed": 3},
        {"disturb": 1},
        {"disturb": 7, "back_pressure": 0.9},
    ],
    ids=str,
)
def test_build_is_equal(build, images, options):
    report = verify(build, images, engine="driver", optimize=False, **options)
    assert report.ok, report.message
    assert report.logits == 6 * IMAGES
    assert report.layer_images == 8
    assert report.registers["readout_frames"] == report.registers["frame_encoder_frames"] == IMAGES
    assert report.speed.harness_images == IMAGES
    assert report.speed.ratio > 0
    assert (report.cycles is None) == ("disturb" in options)
    assert "all 720 logits equal" in report.message
    assert ("a soft reset and a malformed packet" in report.message) == ("disturb" in options)


def test_words_and_cycles_are_those_of_the_stream(build, images):
    done = []
    run = DriverEngine(build, optimize=False).run(
        images, observe=range(3, 5), progress=lambda count, total: done.append((count, total))
    )
    assert done[-1] == (IMAGES, IMAGES)
    assert (np.diff(run.first_beat) > 0).all()
    assert (run.result > run.first_beat).all()
    assert run.cycles > run.result[-1]
    assert run.surplus == 0
    assert not run.stalled
    assert set(run.events["readout.i"].image) == {3, 4}


def test_flipped_weight_bit_is_named(copied, images):
    """The checksum is that of the changed image, which the driver loads."""
    parameters = copied.parameters
    image = read_image(copied.image_file, parameters.design_hash)
    contents = {name: rows.copy() for name, rows in image.by_name(parameters).items()}
    tile = parameters.tiles[1]
    source, group, lane = 13, 0, 1
    row = source * tile.groups + group
    contents["layer0_tile1_weights"][row, 0] ^= 1 << (lane * tile.projections[0].weight_bits + 2)
    copied.image_file.write_bytes(encode_image(parameters, contents))

    report = verify(copied, images, engine="driver", disturb=9, optimize=False)
    assert not report.ok
    place, memory = report.differences[:2]
    channel = tile.channel_offset + group * tile.lanes + lane
    assert (place.kind, place.stage, place.layer, place.channel) == ("spike", "layer0_tile1", 0, channel)
    assert f"layer0_tile1 weights row {row} lane {lane}" in place.message
    assert memory.kind == "memory"


@pytest.mark.slow
def test_wrong_driver_is_named(copied, images):
    """A wrong logit, though every word inside the design is right: the fault is found to lie outside. Flags that the
    driver hides are missed when a packet is malformed."""
    plant(
        copied, "lmht.c", "*flagged = (trailer >> LMHT_TRAILER_ERROR_OFFSET & 1u) != 0;", "*flagged = false;"
    )
    plant(
        copied,
        "lmht.c",
        "*logit = bits >> 63",
        "if (winner == 4u) {\n        bits ^= 2u;\n    }\n    *logit = bits >> 63",
    )
    report = verify(copied, images[:20], engine="driver", optimize=False)
    place = report.differences[0]
    assert (place.kind, place.stage, place.image, place.neuron) == ("ports", "ports or driver", 0, 4)
    assert "image 0: logit 4 is" in place.message
    assert place.message.endswith("the fault lies in the ports or in the driver")
    assert sum(item.kind == "logit" for item in report.differences) == 20
    with pytest.raises(SimulationError, match=r"^the result of a packet too short is not flagged$"):
        DriverEngine(copied, optimize=False).run(images, disturb=5)


@pytest.mark.slow
def test_design_that_hangs_is_reported(copied, images):
    """A design that is never enabled takes no frame: what came, and what waits, is told."""
    plant(copied, "lmht.c", "enable ? LMHT_CONTROL_ENABLE_MASK : 0", "enable ? 0 : 0")
    report = verify(copied, images[:3], engine="driver", optimize=False)
    assert not report.ok
    assert report.speed is None
    assert any(item.kind == "missing" for item in report.differences)


def test_image_of_another_design_is_refused(copied):
    other = random_network(np.random.default_rng(5), input_shape=(1, 5, 5), widths=(14, 6))
    compile_network(other, copied.folder.parent / "other", CompileOptions(name="other", lanes=4))
    shutil.copy(copied.folder.parent / "other" / "image.bin", copied.image_file)
    with pytest.raises(SimulationError, match=r"^lmht_load_image returned LMHT_ERR_DESIGN$"):
        DriverEngine(copied, optimize=False).run(np.ones((1, 1, 5, 5), np.uint8))


def test_driver_that_does_not_compile_is_refused(copied):
    plant(copied, "lmht.c", "static bool is_port(", "static book is_port(")
    with pytest.raises(
        ToolchainError, match=r"^the driver of driven_axi does not build: lmht.c:.*error: .*book"
    ):
        DriverEngine(copied).prepare()


@pytest.mark.parametrize(
    ("bus", "message"),
    [("plain", "it has no AXI ports"), ("wishbone", "its registers are on Wishbone, not on AXI")],
)
def test_build_without_axi_ports_is_refused(bus, message, network, images, tmp_path):
    compile_network(network, tmp_path / "build", CompileOptions(name="other", lanes=4, bus=bus))
    with pytest.raises(ValueError, match=rf"{message}: for the engine driver, compile it with --bus axi$"):
        verify(Build.open(tmp_path / "build"), images, engine="driver")


def test_build_without_its_driver_is_refused(build):
    files = {name: digest for name, digest in build.manifest.files.items() if name != "lmht.h"}
    older = Build(build.folder, build.manifest.model_copy(update={"files": files}), build.network)
    with pytest.raises(ValueError, match=r"has no lmht.h: compile it again$"):
        DriverEngine(older)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"disturb": -2}, "disturb must be at least 0, not -2"),
        ({"idle": 1.0}, r"idle must be at least 0 and below 1, not 1\.0"),
    ],
    ids=str,
)
def test_wrong_option_is_refused(options, message, build, images):
    with pytest.raises(ValueError, match=f"^{message}$"):
        DriverEngine(build).run(images, **options)


@pytest.mark.parametrize("engine", ["harness", "cocotb"])
def test_only_the_driver_is_disturbed(engine, build, images):
    message = f"^disturb must be 0 with the engine {engine}: only the driver can be disturbed$"
    with pytest.raises(ValueError, match=message):
        verify(build, images, engine=engine, disturb=3)
