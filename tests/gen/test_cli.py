"""Command line: the whole way on a tiny network, and one line for every mistake of a user's."""

import gzip
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace

import numpy as np
import pytest

from lmht.gen import cli_errors
from lmht.gen.cli import main
from lmht.gen.compile import compile_network
from lmht.gen.images import encode_image, read_image
from lmht.gen.manifest import Manifest
from lmht.model import training
from lmht.sim.harness import Harness

TINY = ["--net", "64-12-10", "--epochs", "2", "--seed", "3"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A trained and compiled tiny network: the folder that holds ``run`` and ``build``."""
    folder = tmp_path_factory.mktemp("cli")
    assert main(["train", *TINY, "--out", str(folder / "run")]) == 0
    assert main(["compile", str(folder / "run"), "--lanes", "4", "--out", str(folder / "build")]) == 0
    return folder


@pytest.fixture
def copied(folders, tmp_path):
    """Copies of ``run`` and ``build`` that a test may damage."""
    for name in ("run", "build"):
        shutil.copytree(folders / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def fails(capsys, monkeypatch):
    """Function that runs a command that must fail, and returns its one line."""
    monkeypatch.delenv("LMHT_DATA", raising=False)

    def run(*arguments, status=2):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == status
        errors = capsys.readouterr().err
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        return errors.removeprefix("error: ").rstrip("\n")

    return run


def process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "lmht.gen.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Started in the background, a shell's children inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


# Every command


def test_version_and_help_are_quick_to_import(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"lmht \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)
    code = "import sys, lmht.gen.cli as cli; cli.main(['train', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("command", ["train", "compile", "verify", "bench", "demo"])
def test_help_has_examples(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Examples:\n    lmht {command}" in text


def test_no_command_shows_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: lmht")


def test_train_says_what_it_reached(folders, capsys):
    """A finished run is not trained again."""
    assert main(["train", *TINY, "--out", str(folders / "run")]) == 0
    out = capsys.readouterr().out
    assert "is already trained; --overwrite trains it again" in out
    assert "64-12-10, L = 2, T = 2, 4-bit weights; epoch" in out
    assert re.search(r"test \d+\.\d\d%", out)


def test_train_takes_every_option(tmp_path):
    out = tmp_path / "run"
    options = (
        "--levels 1 --steps 4 --weight-bits 3 --mixing identity --leak 1 --theta 0.7 --initial-membrane 0.35"
    )
    recipe = "--batch-size 32 --learning-rate 0.01 --weight-decay 0 --early-stopping 5 --device cpu"
    assert main(["train", *TINY, *options.split(), *recipe.split(), "--out", str(out), "--overwrite"]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["network"] == {
        "architecture": "64-12-10",
        "input_shape": [1, 8, 8],
        "levels": 1,
        "steps": 4,
        "weight_bits": 3,
        "mixing": "identity",
        "leak": 1.0,
        "theta": 0.7,
        "initial_membrane": 0.35,
        "activation": "lmht",
        "quanta": None,
        "thetas": None,
        "initial_membranes": None,
        "fraction_bits": None,
        "detach": None,
        "coding": "direct",
        "readout": "mean",
    }
    training = config["training"]
    assert (training["epochs"], training["batch_size"], training["learning_rate"]) == (2, 32, 0.01)
    assert (training["weight_decay"], training["early_stopping"], training["seed"]) == (0, 5, 3)


def test_train_goes_on_after_an_interrupt(tmp_path, monkeypatch, capsys, fails):
    whole = training._train_epoch

    def interrupted(state, config, part, epoch, updates, bar):
        if epoch == 2:
            raise KeyboardInterrupt
        return whole(state, config, part, epoch, updates, bar)

    monkeypatch.setattr(training, "_train_epoch", interrupted)
    command = ["train", *TINY, "--out", str(tmp_path)]
    line = fails(*command, status=130)
    assert line == (
        f"training was interrupted; 1 of 2 epochs are saved in {tmp_path}; the same command goes on from there"
    )
    monkeypatch.undo()
    assert main(command) == 0
    assert f"going on with {tmp_path} after epoch 1 of 2" in capsys.readouterr().out


def test_interrupted_process_ends_with_130(tmp_path):
    with process("train", "--net", "64-12-10", "--epochs", "100000", "--out", tmp_path) as training_process:
        while not (tmp_path / "resume.safetensors").exists():
            assert training_process.poll() is None, training_process.stderr.read()
            time.sleep(0.02)
        training_process.send_signal(signal.SIGINT)
        _, errors = training_process.communicate()
    assert training_process.returncode == 130
    assert errors.splitlines()[-1].startswith("error: training was interrupted; ")
    assert "Traceback" not in errors


def test_compile_prints_the_layers(folders, capsys):
    command = ["compile", str(folders / "run"), "--lanes", "4", "--out", str(folders / "build")]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "64-12" in out
    assert "12-10" in out
    assert "cycles an image" in out
    assert "bits of loadable memory" in out


def test_compile_takes_every_option(folders, tmp_path):
    options = (
        "--lanes 3,5 --split 0:3 --name tiny --fraction-bits 6 --multiplier-bits 10 --leak-bits 7 "
        "--bytes-per-beat 4 --update-lanes 1 --mix-multipliers 2 --pixel-density 0.5 --spike-density 0.2"
    )
    assert main(["compile", str(folders / "run"), *options.split(), "--out", str(tmp_path / "build")]) == 0
    manifest = Manifest.model_validate_json((tmp_path / "build/manifest.json").read_bytes())
    first, last = manifest.parameters.layers
    assert manifest.name == "tiny"
    assert [tile.lanes for tile in first] == [3, 3, 3]
    assert [tile.lanes for tile in last] == [5]
    assert manifest.parameters.frame.bytes_per_beat == 4
    assert first[0].neuron.fraction_bits == 6
    assert first[0].neuron.multiplier_bits == 10
    assert manifest.layers[0].expected_events == 32


def test_compile_measures_the_densities(folders):
    """Half of the digits' pixels are not 0, not the fifth of a network without data."""
    manifest = Manifest.model_validate_json((folders / "build/manifest.json").read_bytes())
    assert 30 < manifest.layers[0].expected_events < 35


def test_verify_with_the_harness(folders, capsys):
    command = ["verify", str(folders / "build"), "--images", "30"]
    assert main([*command, "--idle", "0.2", "--back-pressure", "0.2", "--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert "all 300 logits equal the golden model's" in out
    assert "idle 0.2, back-pressure 0.2, seed 5" in out
    assert "accuracy of the RTL" in out
    assert "layer0_tile0" in out


def test_verify_records_a_waveform(folders, capsys, tmp_path, monkeypatch):
    """What it asks of the harness; tests/sim looks into the waveform."""
    asked = []
    run = Harness.run

    def without_waves(self, images, *, waves=None, waveform=None, **options):
        asked.append((waves, waveform))
        return replace(run(self, images, **options), waveform=waveform)

    monkeypatch.setattr(Harness, "run", without_waves)
    path = tmp_path / "waves.fst"
    assert main(["verify", str(folders / "build"), "--images", "3", "--waves", str(path)]) == 0
    assert asked[-1] == (range(1), path)
    assert set(asked[:-1]) == {(None, None)}
    assert f"waveform of image 0: {path}" in capsys.readouterr().out


@pytest.mark.slow
def test_verify_with_cocotb_in_a_process(folders):
    with process("verify", folders / "build", "--engine", "cocotb", "--images", "3") as verification:
        out, errors = verification.communicate()
    assert verification.returncode == 0, errors
    assert "3 images through cocotb: all 30 logits equal" in out


def test_bench_prints_and_writes(folders, capsys, tmp_path):
    path = tmp_path / "bench.json"
    command = ["bench", str(folders / "build"), "--images", "20", "--cocotb-images", "0", "--json", str(path)]
    assert main(command) == 0
    assert "cycles an image" in capsys.readouterr().out
    figures = json.loads(path.read_text())
    assert figures["equal"] is True
    assert figures["images"] == 20
    assert figures["cocotb_images_per_second"] is None
    assert figures["emit_seconds"] > 0


# A design that is wrong


def plant_weight_fault(build):
    """Flip one weight bit in the memory image, with checksum and digest as if it had always been so."""
    manifest = Manifest.model_validate_json((build / "manifest.json").read_bytes())
    image = read_image(build / "image.bin", manifest.design_hash)
    contents = {name: rows.copy() for name, rows in image.by_name(manifest.parameters).items()}
    weights = next(name for name in contents if "weights" in name)
    contents[weights][20:44] ^= 2
    content = encode_image(manifest.parameters, contents)
    (build / "image.bin").write_bytes(content)
    files = manifest.files | {"image.bin": hashlib.sha256(content).hexdigest()}
    (build / "manifest.json").write_bytes(manifest.model_copy(update={"files": files}).to_json())


def test_verify_names_the_place_of_a_fault(copied, fails):
    plant_weight_fault(copied / "build")
    line = fails("verify", copied / "build", "--images", "5", status=1)
    assert line.startswith("design and golden model differ: image 0: layer0_tile0: ")
    named = re.search(r"\[(.*)\]$", line)[1]
    fields = dict(part.split(" ") for part in named.split(", "))
    names = ["stage", "image", "layer", "y", "x", "channel", "neuron", "step", "expected", "found"]
    assert list(fields) == names
    assert fields["expected"] != fields["found"]


def test_bench_of_a_wrong_design(copied, fails):
    plant_weight_fault(copied / "build")
    line = fails("bench", copied / "build", "--images", "5", "--cocotb-images", "0", status=1)
    assert line.endswith("not every logit equals the golden model's; lmht verify finds the place")


# Mistakes

WRONG_OPTIONS = [
    (["--nte", "64-10"], "No such option: --nte"),
    (["--data", "imagenet"], "'imagenet' is not one of"),
    (["--levels", "two"], "Invalid value for '--levels'"),
    (["--net", "64"], "architecture '64' must have at least 2 numbers"),
    (["--net", "64-x-10"], "architecture '64-x-10' must be numbers joined by '-'"),
    (["--net", "100-10"], "architecture '100-10' must begin with 64"),
    (["--net", "64-9"], "architecture must end with 10, the classes of data set digits, not 9"),
    (["--levels", "0"], "levels: Input should be greater than or equal to 1, not 0"),
    (["--levels", "16"], "levels must be between 1 and 15, not 16"),
    (["--steps", "33"], "steps must be between 1 and 32, not 33"),
    (["--weight-bits", "9"], "weight_bits must be between 2 and 8, or float, not 9"),
    (["--leak", "much"], "leak must be 'learned' or a number from 0 to 1.5, not 'much'"),
    (["--leak", "2"], "leak"),
    (["--theta", "0"], "theta: Input should be greater than 0"),
    (["--epochs", "0"], "epochs: Input should be greater than or equal to 1, not 0"),
    (["--batch-size", "1"], "batch_size"),
    (["--learning-rate", "nan"], "learning_rate"),
    (["--seed", "-1"], "seed"),
    (["--device", "abacus"], "device must be one that this PyTorch has, not 'abacus'"),
    (["--data", "mnist"], "mnist needs the folder that holds its IDX files"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS, ids=lambda value: str(value)[:30])
def test_train_wrong_option(options, message, tmp_path, fails):
    assert message in fails("train", *options, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_train_without_out(fails):
    assert fails("train") == "Missing option '--out' (see lmht train --help)"


def test_train_data_files(tmp_path, fails):
    command = ["train", "--data", "mnist", "--data-dir", tmp_path, "--out", tmp_path / "run"]
    assert "no file train-images-idx3-ubyte (or .gz) here or in its subfolder mnist" in fails(*command)
    images = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (2, 28, 28)) + bytes(1568)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 1, 2]))
    for damaged in (
        b"",
        b"no gzip at all",
        gzip.compress(content)[:-9],
        gzip.compress(content[:-1]),
        b"\x1f\x8b",
    ):
        images.write_bytes(damaged)
        assert str(images) in fails(*command)
    images.write_bytes(gzip.compress(content))
    assert "t10k-images" in fails(*command)


def test_train_into_another_run(copied, fails):
    line = fails("train", "--net", "64-20-10", "--out", copied / "run")
    assert "holds a run of another configuration: network.architecture is '64-12-10' there" in line


def test_train_into_a_file(tmp_path, fails):
    (tmp_path / "run").write_text("")
    assert str(tmp_path / "run") in fails("train", *TINY, "--out", tmp_path / "run")


def test_train_with_a_damaged_resume_file(tmp_path, fails):
    (tmp_path / "resume.safetensors").write_bytes(b"damaged")
    assert "resume.safetensors" in fails("train", *TINY, "--out", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lanes", "0"], "lanes"),
        (["--lanes", "129"], "lanes"),
        (["--lanes", "many"], "lanes must be a whole number, not 'many'"),
        (["--lanes", "4,4,4"], "lanes must be one number or one for each"),
        (["--lanes", "4,"], "lanes must be a whole number, not ''"),
        (["--split", "0"], "split must be LAYER:TILES, such as 0:3, not '0'"),
        (["--split", "0:2", "--split", "0:3"], "split must name every layer once, not layer 0 again"),
        (["--split", "2:2"], "layer in split must be between 0 and 1, not 2"),
        (["--split", "0:13"], "tiles of layer 0 in split must be between 1 and 12, not 13"),
        (["--bytes-per-beat", "3"], "bytes_per_beat"),
        (["--fraction-bits", "25"], "fraction_bits"),
        (["--multiplier-bits", "0"], "multiplier_bits"),
        (["--leak-bits", "17"], "leak_bits"),
        (["--update-lanes", "0"], "update_lanes"),
        (["--mix-multipliers", "-1"], "mix_multipliers"),
        (["--pixel-density", "1.1"], "pixel_density"),
        (["--name", "1tiny"], "name"),
        (["--lane", "4"], "No such option: --lane"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_compile_wrong_option(options, message, folders, tmp_path, fails):
    line = fails("compile", folders / "run", *options, "--out", tmp_path / "build")
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_compile_without_a_run(tmp_path, fails):
    assert fails("compile", tmp_path, "--out", tmp_path / "b") == f"{tmp_path / 'config.json'}: no such file"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: content[:-40], lambda content: b"\xff" * 99]
)
def test_compile_damaged_run(name, damage, copied, fails):
    path = copied / "run" / name
    path.write_bytes(damage(path.read_bytes()))
    assert fails("compile", copied / "run", "--out", copied / "b").startswith(str(path))


def test_compile_one_changed_weight(copied, fails):
    path = copied / "run/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "SHA-256" in fails("compile", copied / "run", "--out", copied / "b")


def test_compile_a_float_run(copied, fails):
    """Trained without integer weights, as the demonstration's reference is."""
    path = copied / "run/config.json"
    config = json.loads(path.read_text())
    config["network"]["weight_bits"] = None
    path.write_text(json.dumps(config))
    assert "train with integer weights" in fails("compile", copied / "run", "--out", copied / "b")


def test_compile_into_a_folder_of_something_else(folders, tmp_path, fails):
    (tmp_path / "thesis.tex").write_text("")
    assert "is not an earlier build and is not replaced" in fails(
        "compile", folders / "run", "--out", tmp_path
    )
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "0"], "images must be 'all' or 1 to 360, the test images of digits, not '0'"),
        (["--images", "361"], "not '361'"),
        (["--images", "some"], "not 'some'"),
        (["--images", "-4"], "not '-4'"),
        (["--idle", "1"], "idle must be at least 0 and below 1, not 1.0"),
        (["--back-pressure", "-0.1"], "back_pressure must be at least 0 and below 1, not -0.1"),
        (["--seed", "-1"], "seed must be at least 0, not -1"),
        (["--engine", "questa"], "'questa' is not one of 'harness', 'cocotb'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_verify_wrong_option(options, message, folders, fails):
    assert message in fails("verify", folders / "build", *options)


def test_verify_without_a_build(folders, fails):
    line = fails("verify", folders / "run")
    assert line == f"{folders / 'run/manifest.json'}: no such file: not a build of lmht"


@pytest.mark.parametrize("name", ["run.v", "image.bin", "integer_network.safetensors", "lmht_ram.v"])
def test_verify_changed_file(name, copied, fails):
    path = copied / "build" / name
    content = path.read_bytes()
    for damaged in (content[:-5], content + b"\n", b""):
        path.write_bytes(damaged)
        assert fails("verify", copied / "build").startswith(str(path))
    path.unlink()
    assert fails("verify", copied / "build") == f"{path}: no such file"


def test_verify_image_of_another_design(copied, fails):
    assert main(["compile", str(copied / "run"), "--lanes", "2", "--out", str(copied / "other")]) == 0
    shutil.copy(copied / "other/image.bin", copied / "build/image.bin")
    assert "image.bin: belongs to design" in fails("verify", copied / "build")


def test_verify_image_with_a_changed_bit(copied, fails):
    path = copied / "build/image.bin"
    content = bytearray(path.read_bytes())
    content[60] ^= 4
    path.write_bytes(content)
    assert f"corrupted: CRC-32 is 0x{zlib.crc32(content[:-4]):08X}" in fails("verify", copied / "build")


@pytest.mark.parametrize("damage", ["", "{", '{"format": "lmht-build"}', "[]"])
def test_verify_damaged_manifest(damage, copied, fails):
    (copied / "build/manifest.json").write_text(damage)
    assert "manifest.json: " in fails("verify", copied / "build")


def test_verify_data_set_that_is_not_there(copied, fails):
    """A build remembers its data set; MNIST's files have to be named."""
    path = copied / "build/manifest.json"
    manifest = Manifest.model_validate_json(path.read_bytes())
    source = manifest.source.model_copy(update={"dataset": "mnist"})
    path.write_bytes(manifest.model_copy(update={"source": source}).to_json())
    assert fails("verify", copied / "build").startswith("mnist needs the folder that holds its IDX files")
    assert "no file train-images" in fails("verify", copied / "build", "--data-dir", copied)


def test_verify_network_without_a_run(small_network, tmp_path, fails):
    compile_network(small_network, tmp_path / "build")
    assert "its data set is unknown" in fails("verify", tmp_path / "build")


def test_tools_that_are_missing(folders, fails, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LMHT_CACHE", str(tmp_path / "cache"))
    assert "is not on PATH" in fails("verify", folders / "build", "--images", "2")


def test_bench_wrong_device(folders, fails):
    assert "'virtex' is not" in fails("bench", folders / "build", "--place", "virtex")


def test_mistake_in_a_process_leaves_no_traceback(tmp_path):
    with process("compile", tmp_path / "nothing", "--out", tmp_path / "b") as compilation:
        out, errors = compilation.communicate()
    assert compilation.returncode == 2
    assert out == ""
    assert errors == f"error: {tmp_path / 'nothing/config.json'}: no such file\n"


# What is no mistake of the user's


def test_defects_stay_tracebacks(folders, monkeypatch, tmp_path):
    """A ValueError from inside another library is a defect, whatever it says."""

    def broken(*arguments, **named):
        return np.zeros(3).reshape(2, 2)

    monkeypatch.setattr("lmht.gen.compile.compile_network", broken)
    with pytest.raises(ValueError, match="cannot reshape"):
        main(["compile", str(folders / "run"), "--out", str(tmp_path / "b")])


@pytest.mark.parametrize("error", [RuntimeError("defect"), KeyError("defect"), OSError("without a file")])
def test_unexpected_errors_are_not_explained(error):
    assert cli_errors.explain(error) is None


def test_failure_is_one_line():
    assert str(cli_errors.Failure("two\n  lines")) == "two lines"


def test_file_errors_name_the_file(tmp_path):
    with pytest.raises(OSError, match="No such file") as caught:
        (tmp_path / "nothing").read_bytes()
    assert cli_errors.explain(caught.value) == f"{tmp_path / 'nothing'}: No such file or directory"
