"""The C++ harness: results, cycles, taps, waveforms, and what it refuses."""

import logging
import zlib

import numpy as np
import pytest

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.rtl.events import EventLayout
from lmht.sim.codecs import Event, EventCodec
from lmht.sim.golden import GoldenModel
from lmht.sim.harness import Harness
from lmht.sim.harness_build import waveform_format
from lmht.sim.harness_source import harness_sources
from lmht.sim.random_networks import random_images, random_network
from lmht.sim.simulation import SimulationError, frame_bytes
from lmht.sim.taps import decode_words, design_taps, locate_nets

SHAPE = (3, 4, 5)  # channels, height, width: no two alike
IMAGES = 60


@pytest.fixture(scope="module")
def network():
    return random_network(np.random.default_rng(5), input_shape=SHAPE, widths=(12, 10), steps=3, levels=3)


@pytest.fixture(scope="module")
def build(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("harness") / "build"
    compile_network(network, folder, CompileOptions(name="dut", lanes=4, split={0: 2}, bytes_per_beat=4))
    return Build.open(folder)


@pytest.fixture(scope="module")
def harness(build):
    return Harness.for_build(build, optimize=False)


@pytest.fixture(scope="module")
def images():
    return random_images(np.random.default_rng(6), IMAGES, SHAPE)


@pytest.fixture(scope="module")
def golden(network, images):
    return GoldenModel(network).run(images, keep_levels=True)


@pytest.fixture(scope="module")
def run(harness, images):
    return harness.run(images, observe=range(2, 5))


def test_results_equal_the_golden_model(run, golden):
    np.testing.assert_array_equal(run.logits, golden.logits.numpy())
    np.testing.assert_array_equal(run.classes, golden.predictions.numpy())
    assert run.images == run.expected_images == IMAGES
    assert not run.errors.any()
    assert (run.words == 10).all()
    assert run.surplus == 0
    assert not run.stalled
    assert run.images_per_second > 0


def test_cycles_are_in_order(run):
    assert run.first_beat[0] == 0
    assert (np.diff(run.first_beat) > 0).all()
    assert (np.diff(run.result) > 0).all()
    assert (run.result > run.first_beat).all()
    assert run.cycles == run.result[-1] + 1


def test_registers_are_read(run, build, golden):
    assert run.registers["readout_frames"] == IMAGES
    assert run.registers["frame_encoder_events"] == golden.events[:, 0].sum()
    assert run.registers["DESIGN_HASH_HIGH"] == int(build.parameters.design_hash[:8], 16)
    assert "LOAD_DATA" not in run.registers


def test_idle_and_back_pressure_come_from_the_seed(harness, images, run, golden):
    stress = {"idle": 0.5, "back_pressure": 0.5}
    first, again, other = (harness.run(images, **stress, seed=seed) for seed in (1, 1, 2))
    for stressed in (first, again, other):
        np.testing.assert_array_equal(stressed.logits, golden.logits.numpy())
    np.testing.assert_array_equal(first.result, again.result)
    assert (first.result != other.result).any()
    assert first.cycles > run.cycles


def test_taps_see_every_event(run, build, images, golden):
    words = run.events["frame_encoder.o"]
    assert set(words.image.tolist()) == {2, 3, 4}
    for image in (2, 3, 4):
        pixels = frame_bytes(images[image : image + 1], build.parameters)[0]
        part = words.of_image(image)
        np.testing.assert_array_equal(part.position[part.events], np.flatnonzero(pixels))
        np.testing.assert_array_equal(part.levels[part.events, 0], pixels[pixels > 0])
        assert (part.row_ends, part.frame_ends) == (SHAPE[1] - 1, 1)
        levels = np.zeros((12, 3), np.int64)
        for name in ("layer0_tile0.o", "layer0_tile1.o"):
            sent = run.events[name].of_image(image)
            levels[sent.position[sent.events]] = sent.levels[sent.events]
        np.testing.assert_array_equal(levels.T, golden.levels[0][:, image].numpy())
        logits = run.events["readout.i"].of_image(image)
        np.testing.assert_array_equal(
            logits.levels[logits.events, 0][np.argsort(logits.position[logits.events])],
            golden.logits[image].numpy(),
        )


def test_bare_model_takes_as_many_cycles(harness, images, run):
    cycles, seconds = harness.run_bare(images)
    # It ends with the last beat, the run with the last class.
    assert run.first_beat[-1] < cycles <= run.cycles
    assert seconds > 0


def test_progress_ends_with_all_images(harness, images):
    calls = []
    harness.run(images, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (IMAGES, IMAGES)


@pytest.mark.slow
def test_waveform_holds_the_images_asked_for(harness, images, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        run = harness.run(images[:6], waves=range(2, 3), waveform=tmp_path / "images.fst")
    assert run.waveform == tmp_path / f"images.{waveform_format()}"
    assert run.waveform.stat().st_size > 1000
    if waveform_format() == "vcd":
        assert "lz4" in caplog.text
        text = run.waveform.read_text()
        times = [int(line[1:]) for line in text.splitlines() if line.startswith("#")]
        assert "layer0_tile0" in text
        assert 0 < times[-1] - times[0] <= 10 * (run.result[2] - run.first_beat[2] + 2)


def test_same_sources_for_the_same_design(harness, build):
    first, again = (harness_sources(build.parameters, harness.taps()) for _ in range(2))
    assert first == again


def test_init_wrong_probability(harness, images):
    with pytest.raises(ValueError, match=r"^idle must be at least 0 and below 1, not 1$"):
        harness.run(images, idle=1)
    with pytest.raises(ValueError, match=r"^back_pressure must be at least 0 and below 1, not -0.1$"):
        harness.run(images, back_pressure=-0.1)
    with pytest.raises(ValueError, match=r"^seed must be at least 0, not -1$"):
        harness.run(images, seed=-1)


def test_init_wrong_images(harness, images):
    with pytest.raises(TypeError, match=r"^images must be of uint8, not int64$"):
        harness.run(images.astype(np.int64))
    with pytest.raises(
        ValueError, match=r"^images must have shape \(N, 3, 4, 5\) with N at least 1, not \(60, 3, 20\)$"
    ):
        harness.run(images.reshape(IMAGES, 3, 20))
    with pytest.raises(ValueError, match=r"not \(0, 3, 4, 5\)$"):
        harness.run(images[:0])


def test_damaged_memory_images_are_refused(build, images, tmp_path):
    content = build.image_file.read_bytes()

    def refuse(changed, message):
        path = tmp_path / "image.bin"
        path.write_bytes(changed)
        harness = Harness(build.parameters, build.verilog_files, path, optimize=False)
        with pytest.raises(SimulationError, match=rf"^{path}: {message}$"):
            harness.run(images[:1])

    def resealed(changed):
        return changed[:-4] + zlib.crc32(changed[:-4]).to_bytes(4, "little")

    refuse(content[:-1], f"an image has at least 7 words, not {len(content) - 1} bytes")
    refuse(content[:-4], f"the image must have {len(content) // 4} words, not {len(content) // 4 - 1}")
    refuse(b"\0" + content[1:], r"not a memory image \(wrong first word\)")
    refuse(content[:4] + b"\2" + content[5:], "image format must be 1, not 2")
    refuse(content[:8] + bytes([content[8] ^ 1]) + content[9:], "the image belongs to another design")
    refuse(content[:40] + bytes([content[40] ^ 1]) + content[41:], "the checksum is wrong")
    refuse(resealed(content[:20] + b"\x30" + content[21:]), "the image must have 48 sections, not 11")
    refuse(resealed(content[:28] + b"\xff\xff" + content[30:]), "the section of memory 0 is cut off")


def test_nets_are_found_by_either_end(build):
    verilog = """\
module dut(
  clk
);
  dut__frame_encoder frame_encoder (
    .clk(clk),
    .o__payload_3(word),
    .o__ready(taken)
  );
  dut__router0 router0 (
    .i__0__valid(offered)
  );
endmodule
"""
    tap = design_taps(build.parameters)[0]
    assert locate_nets((tap,), "dut", verilog)[0].nets == ("offered", "taken", "word")
    with pytest.raises(ValueError, match=r"^module dut holds no net for valid of layer0_tile0\.i$"):
        locate_nets(design_taps(build.parameters)[1:2], "dut", verilog)
    with pytest.raises(ValueError, match=r"^the Verilog holds no module top$"):
        locate_nets((tap,), "top", verilog)


@pytest.mark.parametrize("bits", [3, 21, 64])
def test_wide_signed_words_are_decoded(bits):
    layout = EventLayout(channels=1000, level_bits=bits, signed=True)
    fields = layout.fields()
    values = [-1, 0, 1, -(2 ** (layout.level_bits - 1)), 2 ** (layout.level_bits - 1) - 1]
    words = []
    for channel, value in enumerate(values):
        offset, width = fields["level0"]
        words.append((value & (2**width - 1)) << offset | (channel + 995) << fields["channel"][0])
    payload = np.array([[word & (2**64 - 1), word >> 64] for word in words], np.uint64)
    zeros = np.zeros(len(words), np.uint64)
    decoded = decode_words(layout, payload, zeros, zeros.astype(np.uint32))
    assert decoded.levels[:, 0].tolist() == values
    assert decoded.position.tolist() == [995, 996, 997, 998, 999]


@pytest.mark.parametrize(("steps", "max_level"), [(3, 15), (10, 15), (32, 15), (32, 735)])
def test_words_of_many_steps_are_decoded(steps, max_level):
    """Fields that lie in any word of 64 bits, and across two of them."""
    layout = EventLayout.for_levels(height=7, width=5, channels=300, steps=steps, max_level=max_level)
    rng = np.random.default_rng(steps)
    levels = rng.integers(0, max_level, (4, steps), endpoint=True)
    levels[0] = max_level
    codec = EventCodec(layout)
    events = [Event(y=6, x=n, channel=299 - n, levels=tuple(row.tolist())) for n, row in enumerate(levels)]
    words = codec.pack_all(events)
    parts = -(-layout.payload_bits // 64)
    payload = np.array(
        [[word >> 64 * part & (2**64 - 1) for part in range(parts)] for word in words], np.uint64
    )
    zeros = np.zeros(len(words), np.uint64)
    decoded = decode_words(layout, payload, zeros, zeros.astype(np.uint32))
    assert np.array_equal(decoded.levels, levels)
    assert decoded.position.tolist() == [(6 * 5 + n) * 300 + 299 - n for n in range(4)]
