"""Faults planted in convolutions, pooling and residual branches: ``verify`` must fail and name the place."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.images import encode_image, read_image
from lmht.gen.integer import IntegerNetwork
from lmht.rtl.accelerator import Accelerator
from lmht.rtl.projection import Pooling
from lmht.rtl.router import EventRouter
from lmht.sim.faults import Fault, Saboteur, build_wrongly
from lmht.sim.golden import GoldenModel
from lmht.sim.random_conv_networks import random_residual
from lmht.sim.random_networks import random_images, random_neurons, random_projection
from lmht.sim.taps import design_fifos
from lmht.sim.verify import verify

IMAGES = 12
STEPS, LEVELS = 2, 3


def make_network(rng, *, size, first=None, pooling=None, residual=False):
    """A convolution, one that sees it through `pooling`, with `residual` a third one beside the identity of the first,
    and a classifier."""
    links = {"input_steps": STEPS, "input_max_level": LEVELS}

    def neurons(*projections):
        return random_neurons(rng, *projections, steps=STEPS, levels=LEVELS, quiet=True)

    def convolution(source, pooling=None):
        shape = layers[source].shape
        size = shape[1:] if pooling is None else pooling.pooled(*shape[1:])
        same = {"kernel": (3, 3), "padding": (1, 1)} if min(size) > 1 else {"kernel": (1, 1)}
        return random_projection(
            rng, channels=4, input_shape=shape, source=source, pooling=pooling, **same, **links
        )

    geometry = {"kernel": (3, 3), "padding": (1, 1), **(first or {})}
    layers = [neurons(random_projection(rng, channels=4, input_shape=(2, size, size), **geometry))]
    layers.append(neurons(convolution(0, pooling)))
    if residual:
        branch = random_residual(rng, channels=4, input_shape=layers[0].shape, source=0, **links)
        layers.append(neurons(replace(convolution(1), shift=8), branch))
    last = random_projection(rng, channels=3, input_shape=layers[-1].shape, source=len(layers) - 1, **links)
    layers.append(random_neurons(rng, last, steps=1, levels=None))
    return IntegerNetwork(name="maps", input_shape=(2, size, size), layers=tuple(layers))


@pytest.fixture
def rng():
    return np.random.default_rng(31)


@pytest.fixture
def make_build(tmp_path):
    """Function that compiles a network; what was planted in the components before is in its Verilog."""

    def make(network):
        compile_network(network, tmp_path / "build", CompileOptions(name="dut", lanes=3))
        return Build.open(tmp_path / "build")

    return make


@pytest.fixture
def plant(monkeypatch):
    """Function that lets the hardware of a layer be made from other parameters."""

    def plant(layer, **changes):
        def make(*, parameters):
            return Accelerator(parameters=build_wrongly(parameters, layer, **changes))

        monkeypatch.setattr("lmht.gen.write.Accelerator", make)

    return plant


def check(build, network, rng, *, layer, stage=None):
    """Verify some images; the first difference, which is wrong levels of a layer at a place that the golden model
    confirms."""
    images = random_images(rng, IMAGES, network.input_shape, density=0.5)
    report = verify(build, images, optimize=False)
    assert not report.ok
    place = report.differences[0]
    assert place.kind == "spike"
    assert (place.stage, place.layer) == (stage or f"layer{layer}_tile0", layer)
    tile = build.parameters.layers[layer][0]
    levels = GoldenModel(network).run(images, keep_levels=True).levels[layer][:, place.image]
    if tile.pooling is None:
        maps = levels.reshape(STEPS, tile.height, tile.width, -1)
        assert maps[place.step, place.y, place.x, place.channel] == place.expected
    assert f"y {place.y}, x {place.x}, channel {place.channel}" in place.message
    return report


@pytest.mark.slow
def test_sound_builds_are_equal(make_build, rng):
    network = make_network(rng, size=8, residual=True)
    images = random_images(rng, IMAGES, network.input_shape, density=0.5)
    build = make_build(network)
    report = verify(build, images, layer_images=IMAGES, optimize=False)
    assert report.ok, report.message
    assert report.layer_images == IMAGES
    assert report.levels == IMAGES * STEPS * 3 * 4 * 64
    assert f"all {report.levels} levels of the hidden layers in {IMAGES} of the images" in report.message
    assert report.busiest.utilization <= 1
    depths = {fifo.name: fifo.depth for fifo in design_fifos(build.parameters)}
    assert "layer2_tile0.residual" in depths
    assert report.fifo_words.keys() == depths.keys()
    assert all(0 < report.fifo_words[name] <= depth for name, depth in depths.items())


@pytest.mark.slow
def test_flipped_tap_is_named(make_build, rng):
    network = make_network(rng, size=6)
    build = make_build(network)
    tile = build.parameters.tiles[0]
    ky, kx, channel, lane = 2, 0, 1, 1
    row = ((ky * 3 + kx) * 2 + channel) * tile.groups
    change_memory(build, "layer0_tile0_weights", row, lane * tile.projections[0].weight_bits + 2)
    report = check(build, network, rng, layer=0)
    assert f"(tap y {ky}, x {kx} from channel {channel} to channel {lane})" in report.differences[0].message


@pytest.mark.slow
def test_wrong_residual_gain_is_named(make_build, rng):
    network = make_network(rng, size=6, residual=True)
    build = make_build(network)
    bits = build.parameters.layers[2][0].projections[1].weight_bits
    change_memory(build, "layer2_tile0_residual_weights", 2, 2 * bits + 10)
    report = check(build, network, rng, layer=2)
    place = "layer2_tile0 residual_weights row 2 lane 2 (tap y 0, x 0 from channel 2 to channel 2)"
    assert place in report.differences[0].message
    assert report.differences[0].channel == 2


def change_memory(build, name, row, bit):
    """Flip a bit of the build's memory image."""
    image = read_image(build.image_file, build.parameters.design_hash)
    contents = {key: rows.copy() for key, rows in image.by_name(build.parameters).items()}
    contents[name][row, bit // 32] ^= 1 << bit % 32
    build.image_file.write_bytes(encode_image(build.parameters, contents))


@pytest.mark.slow
def test_wrong_stride_is_named(make_build, plant, rng):
    network = make_network(rng, size=5, first={"kernel": (5, 5), "padding": (2, 2)})
    plant(0, projection={"stride": (2, 2), "padding": (4, 4)})
    check(make_build(network), network, rng, layer=0)


@pytest.mark.slow
def test_wrong_padding_is_named(make_build, plant, rng):
    network = make_network(rng, size=8, first={"stride": (4, 4), "padding": (1, 1)})
    plant(0, projection={"padding": (0, 0)})
    check(make_build(network), network, rng, layer=0)


@pytest.mark.slow
def test_wrong_pooling_window_is_named(make_build, plant, rng):
    network = make_network(rng, size=8, pooling=Pooling(kind="max", size=(3, 3)))
    plant(0, tile={"pooling": Pooling(kind="max", size=(4, 4))})
    check(make_build(network), network, rng, layer=0)


@pytest.mark.slow
def test_lost_row_token_between_layers_is_named(make_build, monkeypatch, rng):
    network = make_network(rng, size=6)

    class Sabotaged(EventRouter):
        """Loses the third row token of a map of 4 channels."""

        def elaborate(self, platform):
            if self.layout.channels != 4:
                return super().elaborate(platform)
            m = Module()
            inner = EventRouter(layout=self.layout, sources=self.sources, destinations=self.destinations)
            m.submodules.saboteur = saboteur = Saboteur(inner=inner, port="o", nth=2)
            wiring.connect(m, wiring.flipped(self.load_routes), saboteur.load_routes)
            for outside, inside in (
                *zip(self.i, saboteur.i, strict=True),
                *zip(self.o, saboteur.o, strict=True),
            ):
                wiring.connect(m, wiring.flipped(outside), inside)
            m.d.comb += [
                saboteur.fault.eq(Fault.DROP_TOKEN),
                self.pulses.eq(saboteur.pulses),
                self.errors.eq(saboteur.errors),
            ]
            return m

    monkeypatch.setattr("lmht.rtl.stages.EventRouter", Sabotaged)
    images = random_images(rng, IMAGES, network.input_shape, density=0.5)
    report = verify(make_build(network), images, optimize=False)
    assert not report.ok
    place = report.differences[0]
    assert (place.stage, place.image) == ("router1", 0)
    assert "4 row tokens instead of 5 at layer1_tile0.i" in place.message
    assert any(item.message == "layer1_tile0 reports the error 'rows'" for item in report.differences)
    assert any(item.kind == "flag" and item.image == 0 for item in report.differences)


def test_memories_must_keep_their_shapes(rng):
    from lmht.gen.choose_widths import choose_widths
    from lmht.gen.plan import PlanOptions, expected_events, plan

    network = make_network(rng, size=6)
    events = expected_events(network)
    design = plan(network, choose_widths(network), name="dut", events=events, options=PlanOptions())
    with pytest.raises(ValueError, match=r"^the memories of layer 0 must keep their shapes$"):
        build_wrongly(design, 0, projection={"weight_bits": 5})
