import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from rich.console import Console

from lmht.gen.build import Build
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.images import read_image
from lmht.gen.integer import IntegerNetwork
from lmht.gen.memory_contents import unpack_layers
from lmht.gen.report import report_tables
from lmht.model import (
    CheckpointError,
    ConvNetworkConfig,
    QuantConv2d,
    QuantLinear,
    RunConfig,
    build_network,
    default_training_config,
    save_checkpoint,
)
from lmht.sim.golden import GoldenModel
from lmht.sim.random_networks import random_layer


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def run_dir(make_network, tmp_path):
    network = make_network()
    run = RunConfig(
        dataset="digits",
        network=network.config,
        training=default_training_config("digits"),
        finished=True,
        best_epoch=1,
        best_accuracy=0.5,
        test_accuracy=0.25,
        weights_sha256="0" * 64,
        history=(),
    )
    save_checkpoint(tmp_path / "runs" / "my-run", network.state_dict(), run)
    return tmp_path / "runs" / "my-run"


def test_build_holds_what_the_architecture_says(small_build):
    assert set(hashes(small_build)) == {
        "compact.v",
        "lmht_multiplier.v",
        "lmht_ram.v",
        "lmht_rows.v",
        "image.bin",
        "lmht_design.h",
        "compact.core",
        "compact.veo",
        "manifest.json",
        "integer_network.json",
        "integer_network.safetensors",
        *(
            f"images/{tile}_{memory}.hex"
            for tile, memories in (
                ("layer0_tile0", ("weights", "biases", "multipliers", "constants")),
                ("layer0_tile1", ("weights", "biases", "multipliers", "constants")),
                ("layer1_tile0", ("weights", "biases", "multipliers")),
            )
            for memory in memories
        ),
    }
    assert "module compact(" in (small_build / "compact.v").read_text()


def test_same_input_gives_the_same_bytes(small_build, small_network, tmp_path):
    options = CompileOptions(name="compact", lanes=4, split={0: 2})
    compile_network(small_network, tmp_path / "again", options)
    assert hashes(tmp_path / "again") == hashes(small_build)


def test_manifest_has_neither_path_nor_time(small_build):
    text = (small_build / "manifest.json").read_text()
    assert str(small_build.parent) not in text
    assert json.loads(text)["design_hash"] == Build.open(small_build).parameters.design_hash


def test_image_holds_the_network(small_build, small_network):
    build = Build.open(small_build)
    image = read_image(build.image_file, build.parameters.design_hash)
    layers = unpack_layers(build.parameters, image.by_name(build.parameters))
    for found, expected in zip(layers, small_network.layers, strict=True):
        np.testing.assert_array_equal(found.projections[0].weights, expected.projections[0].weights)
        np.testing.assert_array_equal(found.multipliers, expected.multipliers)


def test_run_is_compiled_with_its_record(run_dir, make_network, tmp_path):
    report = compile_network(run_dir, tmp_path / "build", CompileOptions(lanes=8))
    build = Build.open(tmp_path / "build")
    assert report.name == build.parameters.name == "my_run"
    assert build.source.dataset == "digits"
    assert build.source.test_accuracy == 0.25
    assert build.source.network["architecture"] == "48-20-10"
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), dtype=np.uint8)
    found = GoldenModel(build.network).run(images).logits
    direct = tmp_path / "direct"
    compile_network(make_network(), direct, CompileOptions(name="my_run", lanes=8))
    expected = GoldenModel(Build.open(direct).network).run(images).logits
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("name", "module"),
    [("small", "design_small"), ("my-net", "my_net"), ("2nd", "design_2nd"), ("net", "net")],
)
def test_a_name_that_verilog_has_taken_is_changed(small_network, tmp_path, name, module):
    named = replace(small_network, name=name)
    assert compile_network(named, tmp_path / "build").name == module


def test_report(small_network, tmp_path):
    report = compile_network(small_network, tmp_path / "b", CompileOptions(lanes=4))
    build = Build.open(tmp_path / "b")
    memories = [memory for memory in build.manifest.memories if memory.file is not None]
    assert report.memory_bits == sum(memory.width * memory.depth for memory in memories)
    assert report.layers == build.manifest.layers
    assert report.expected_cycles_per_image >= max(layer.integration_cycles for layer in report.layers)
    console = Console(width=160, record=True)
    console.print(report_tables(report))
    text = console.export_text()
    assert "16-12" in text
    assert "12-4" in text


def test_report_of_maps_tells_what_row_streaming_keeps(tmp_path):
    """Accumulators of a 3 x 3 layer: four rows, whatever the height of its map."""
    rng = np.random.default_rng(3)
    first = random_layer(
        rng,
        inputs=(1, 12, 10),
        neurons=6,
        steps=2,
        levels=2,
        kernel=(3, 3),
        padding=(1, 1),
        input_max_level=255,
    )
    last = random_layer(
        rng, inputs=(6, 12, 10), neurons=4, steps=1, levels=None, source=0, input_steps=2, input_max_level=2
    )
    network = IntegerNetwork(name="maps", input_shape=(1, 12, 10), layers=(first, last))
    report = compile_network(network, tmp_path / "b", CompileOptions(lanes=3))
    layer = report.layers[0]
    tile = Build.open(tmp_path / "b").parameters.tiles[0]
    row_bits = 10 * 6 * tile.neuron.accumulator_bits
    assert (layer.kept_rows, layer.accumulator_memory_bits) == (4, 4 * row_bits)
    assert layer.map_accumulator_bits == 12 * row_bits
    assert layer.notation == "1x12x10 3x3 6x12x10"
    console = Console(width=160, record=True)
    console.print(report_tables(report))
    text = console.export_text()
    assert f"4 of 12 | {4 * row_bits:,} | {12 * row_bits:,}" in " ".join(text.replace("│", "|").split())


def test_build_replaces_a_build_and_nothing_else(small_network, tmp_path):
    first = compile_network(small_network, tmp_path / "b", CompileOptions(name="one"))
    second = compile_network(small_network, tmp_path / "b", CompileOptions(name="two"))
    assert first.folder == second.folder
    assert not (tmp_path / "b" / "one.v").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other is not an earlier build"):
        compile_network(small_network, other)
    assert [path.name for path in other.iterdir()] == ["manifest.json"]


def test_failed_compile_leaves_the_old_build(small_network, tmp_path, monkeypatch):
    compile_network(small_network, tmp_path / "b", CompileOptions(name="one"))
    before = hashes(tmp_path / "b")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("lmht.gen.write.save_integer_network", fail)
    with pytest.raises(OSError, match="disk full"):
        compile_network(small_network, tmp_path / "b", CompileOptions(name="two"))
    assert hashes(tmp_path / "b") == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_wrong_source(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        compile_network(tmp_path / "nothing", tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "options",
    [{"lanes": 0}, {"lanes": [1, 200]}, {"name": "2x"}, {"fraction_bits": 25}, {"lane": 4}, {"lanes": "16"}],
)
def test_wrong_options(options):
    with pytest.raises(ValidationError):
        CompileOptions(**options)


@pytest.mark.parametrize(
    ("net", "width", "shape"),
    [
        ("resnet19-lmht", 1 / 16, (3, 8, 8)),
        ("vgg13-lmht", 1 / 16, (3, 16, 16)),
        ("vgg16-lmht", 1 / 32, (3, 32, 32)),
    ],
)
def test_networks_of_the_authors(net, width, shape, tmp_path):
    """Narrow, on small images: every layer has the integers that its convolution or linear layer was trained with."""
    torch.manual_seed(0)
    network = build_network(ConvNetworkConfig(net=net, width=width, input_shape=shape, classes=10))
    compile_network(network, tmp_path / "build", CompileOptions(name="dut", lanes=4))
    build = Build.open(tmp_path / "build")
    assert len(build.network.layers) == len(network.neurons()) + 1
    trained = [
        part.integer_weight()[0].numpy()
        for name, part in network.named_modules()
        if isinstance(part, QuantConv2d | QuantLinear) and "shortcut" not in name
    ]
    for layer, weights in zip(build.network.layers, trained, strict=True):
        found = layer.projections[0].weights
        assert np.array_equal(found, weights.reshape(found.shape))
    images = torch.randint(0, 256, (4, *shape), dtype=torch.uint8)
    assert GoldenModel(build.network).run(images.numpy()).predictions.shape == (4,)
