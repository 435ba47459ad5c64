"""Faults planted in memory image, neurons and streams: ``verify`` must fail and name the place."""

import numpy as np
import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.images import encode_image, read_image
from lmht.rtl.fire import Fire
from lmht.rtl.router import EventRouter
from lmht.sim.faults import Fault, Saboteur
from lmht.sim.golden import GoldenModel
from lmht.sim.random_networks import random_images, random_network
from lmht.sim.verify import verify

IMAGES = 40
WIDTHS = (12, 10)


@pytest.fixture(scope="module")
def network():
    return random_network(np.random.default_rng(3), input_shape=(1, 6, 6), widths=WIDTHS, steps=2, levels=2)


@pytest.fixture(scope="module")
def images(network):
    return random_images(np.random.default_rng(4), IMAGES, network.input_shape, density=0.5)


@pytest.fixture
def make_build(network, tmp_path):
    """Function that compiles the network; components patched before are in its Verilog."""

    def make():
        compile_network(network, tmp_path / "build", CompileOptions(name="dut", lanes=4))
        return Build.open(tmp_path / "build")

    return make


def golden_levels(network, images, image):
    """Levels of the hidden layer for one image, shape (steps, neurons)."""
    return GoldenModel(network).run(images, keep_levels=True).levels[0][:, image].numpy()


class SwappedSteps(Fire):
    """Sends a neuron's first two levels in the wrong order."""

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Fire(neuron=self.neuron)
        m.d.comb += [
            inner.currents.eq(self.currents),
            inner.initial_membrane.eq(self.initial_membrane),
            self.levels.eq(Cat(inner.levels[1], inner.levels[0])),
        ]
        return m


def sabotaged_router(fault, nth, height):
    """A router that does `fault` at one of its words, if it carries maps of that height."""

    class SabotagedRouter(EventRouter):
        def elaborate(self, platform):
            if self.layout.height != height:
                return super().elaborate(platform)
            m = Module()
            inner = EventRouter(layout=self.layout, sources=self.sources, destinations=self.destinations)
            m.submodules.saboteur = saboteur = Saboteur(inner=inner, port="o", nth=nth)
            m.d.comb += [
                saboteur.fault.eq(fault),
                self.pulses.eq(saboteur.pulses),
                self.errors.eq(saboteur.errors),
            ]
            for outside, inside in (
                *zip(self.i, saboteur.i, strict=True),
                *zip(self.o, saboteur.o, strict=True),
            ):
                wiring.connect(m, wiring.flipped(outside), inside)
            wiring.connect(m, wiring.flipped(self.load_routes), saboteur.load_routes)
            return m

    return SabotagedRouter


def test_sound_build_is_equal(make_build, images):
    report = verify(make_build(), images, np.zeros(IMAGES, np.int64), optimize=False)
    assert report.ok
    assert report.differences == ()
    assert report.logits == IMAGES * WIDTHS[-1]
    assert report.accuracy == np.mean(report.classes == 0)
    assert "all 400 logits equal" in report.message
    assert report.busiest.stage == "layer0_tile0"
    assert report.busiest.resource == "integration"
    assert 0.8 < report.busiest.utilization <= 1


def test_flipped_weight_bit_is_named(make_build, images):
    build = make_build()
    image = read_image(build.image_file, build.parameters.design_hash)
    contents = {name: rows.copy() for name, rows in image.by_name(build.parameters).items()}
    tile = build.parameters.tiles[0]
    source, group, lane = 14, 1, 2
    row = source * tile.groups + group
    contents["layer0_tile0_weights"][row, 0] ^= 1 << (lane * tile.projections[0].weight_bits + 2)
    build.image_file.write_bytes(encode_image(build.parameters, contents))

    report = verify(build, images, optimize=False)
    assert not report.ok
    place, memory = report.differences[:2]
    neuron = group * tile.lanes + lane
    assert (
        f"layer0_tile0 weights row {row} lane {lane} (input {source} to neuron {neuron}) is" in place.message
    )
    assert (place.stage, place.layer, place.neuron) == ("layer0_tile0", 0, neuron)
    assert memory.kind == "memory"
    assert any(difference.kind == "logit" for difference in report.differences)


def test_swapped_time_step_is_named(make_build, network, images, monkeypatch):
    # The classifier sums over the steps, so no logit, class or counter shows this: comparing the layers does.
    monkeypatch.setattr("lmht.rtl.neuron_array.Fire", SwappedSteps)
    report = verify(make_build(), images, optimize=False)
    assert not report.ok
    (place,) = report.differences
    assert (place.stage, place.layer, place.step) == ("layer0_tile0", 0, 0)
    levels = golden_levels(network, images, place.image)[:, place.neuron]
    assert [place.expected, place.found] == levels.tolist()
    assert (
        f"layer 0, neuron {place.neuron} has level {place.found} instead of {place.expected}" in place.message
    )


def test_off_by_one_in_the_reset_is_named(make_build, network, images, monkeypatch):
    monkeypatch.setattr(
        "lmht.rtl.fire._join", lambda fraction, units: Cat(fraction, (units + 1)[: len(units)]).as_signed()
    )
    report = verify(make_build(), images, optimize=False)
    assert not report.ok
    place = report.differences[0]
    assert (place.stage, place.layer, place.step) == ("layer0_tile0", 0, 1)
    assert place.expected == golden_levels(network, images, place.image)[1, place.neuron]
    assert place.found > place.expected


@pytest.mark.parametrize("engine", ["harness", "cocotb"])
def test_dropped_event_is_named(make_build, images, monkeypatch, engine):
    monkeypatch.setattr("lmht.rtl.stages.EventRouter", sabotaged_router(Fault.DROP, 3, height=6))
    report = verify(make_build(), images[:10], engine=engine, optimize=False)
    assert not report.ok
    place = report.differences[0]
    assert (place.stage, place.image) == ("router0", 0)
    y, x = np.argwhere(images[0, 0])[3]
    assert f"the event of pixel y {y}, x {x}, channel 0 is missing at layer0_tile0.i" in place.message
    assert place.expected == images[0, 0, y, x]


def test_missing_row_token_is_named(make_build, images, monkeypatch):
    monkeypatch.setattr("lmht.rtl.stages.EventRouter", sabotaged_router(Fault.DROP_TOKEN, 2, height=6))
    report = verify(make_build(), images, optimize=False)
    assert not report.ok
    place = report.differences[0]
    assert (place.stage, place.image) == ("router0", 0)
    assert "4 row tokens instead of 5 at layer0_tile0.i" in place.message
    assert any(item.message == "layer0_tile0 reports the error 'rows'" for item in report.differences)
    assert any(item.kind == "flag" and item.image == 0 for item in report.differences)


def test_stalled_design_is_named(make_build, images, monkeypatch):
    monkeypatch.setattr("lmht.rtl.stages.EventRouter", sabotaged_router(Fault.HANG, 30, height=6))
    report = verify(make_build(), images, idle=0.2, back_pressure=0.2, seed=5, optimize=False)
    assert not report.ok
    place = report.differences[0]
    assert place.stage == "router0"
    assert "words wait at frame_encoder.o" in place.message
    assert any(item.message.startswith("the stream stopped: 2 of 40 images") for item in report.differences)


def test_init_wrong_engine(make_build, images):
    with pytest.raises(ValueError, match=r"^engine must be harness, cocotb or driver, not 'icarus'"):
        verify(make_build(), images, engine="icarus")
