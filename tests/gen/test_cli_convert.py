"""``lmht train --method`` and ``lmht convert``: commands, and the golden model of a converted network."""

import pytest
import torch

from lmht.gen.build import Build
from lmht.gen.cli import main
from lmht.model import load_checkpoint, load_dataset
from lmht.sim.golden import GoldenModel

QUICK = ["--epochs", "8", "--net", "64-48-10", "--seed", "3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with the run ``qcfs``, Q = 8, and what it was converted to, ``converted``."""
    folder = tmp_path_factory.mktemp("convert")
    qcfs, converted = str(folder / "qcfs"), str(folder / "converted")
    assert main(["train", "--method", "qcfs", "--quanta", "8", *QUICK, "--out", qcfs]) == 0
    assert main(["convert", qcfs, "--levels", "4", "--steps", "2", "--out", converted]) == 0
    return folder


def fails(capsys, *arguments):
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    return errors.removeprefix("error: ").rstrip("\n")


def test_golden_model_of_a_converted_network(folder):
    """Compiled, the integers agree with the float network on nearly every test image of the digits."""
    assert main(["compile", str(folder / "converted"), "--lanes", "8", "--out", str(folder / "build")]) == 0
    network, run = load_checkpoint(folder / "converted")
    images = load_dataset("digits").test_images
    golden = Build.open(folder / "build").network
    result = GoldenModel(golden).run(images, keep_levels=True)
    with torch.no_grad():
        expected = network(images).argmax(dim=1)
    assert run.network.thetas[0] == network.layers[0].neuron.theta
    assert golden.layers[0].initial_membrane == 2 ** (golden.layers[0].fraction_bits - 1), "half a threshold"
    agreement = (result.predictions == expected).double().mean().item()
    same_levels = (result.levels[0] == network.spike_levels(images)[0]).double().mean().item()
    assert agreement >= 0.99
    assert same_levels >= 0.98


def test_convert_says_what_was_lost(folder, tmp_path, capsys):
    assert (
        main(["convert", str(folder / "qcfs"), "--levels", "8", "--steps", "1", "--out", str(tmp_path)]) == 0
    )
    record = load_checkpoint(tmp_path)[1].conversion
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"test accuracy of the QCFS network (Q = 8) {record.source_test_accuracy:.2%}, "
        f"converted {record.test_accuracy:.2%}, of this network {record.test_accuracy:.2%}"
    )


def test_hybrid_command(tmp_path, capsys):
    command = ["train", "--method", "hybrid", *QUICK, "--fine-tuning-epochs", "1", "--out", str(tmp_path)]
    assert main(command) == 0
    run = load_checkpoint(tmp_path)[1]
    assert run.conversion.quanta == 4
    assert run.training.epochs == 1
    assert f"of this network {run.test_accuracy:.2%}\n" in capsys.readouterr().out
    assert main(command) == 0
    assert f"{tmp_path} is already trained" in capsys.readouterr().out


def test_qcfs_network_is_not_compiled(folder, tmp_path, capsys):
    qcfs = folder / "qcfs"
    assert fails(capsys, "compile", qcfs, "--out", tmp_path / "build") == (
        f"{qcfs}: activation must be lmht, not qcfs: `lmht convert` makes a spiking network of it"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fine-tuning-epochs", 3], "fine_tuning_epochs must be left out with method stbp, not 3"),
        (
            ["--method", "qcfs", "--fine-tuning-rate", 0.1],
            "fine_tuning_rate must be left out with method qcfs, not 0.1",
        ),
        (["--quanta", 4], "quanta must be None with activation lmht, not 4"),
        (
            ["--method", "hybrid", "--fine-tuning-epochs", 0],
            "epochs: Input should be greater than or equal to 1, not 0",
        ),
    ],
)
def test_train_wrong_option(tmp_path, capsys, arguments, message):
    assert fails(capsys, "train", *arguments, "--out", tmp_path / "run") == message


def test_convert_wrong_steps(folder, tmp_path, capsys):
    message = fails(capsys, "convert", folder / "qcfs", "--steps", 33, "--out", tmp_path)
    assert message == "steps must be between 1 and 32, not 33"


def test_network_with_convolutions_goes_all_the_way(tmp_path, capsys):
    """Trained with QCFS, converted, compiled; and all of that but the compile in one command."""
    net = ["--net", "mnist-cnn", "--width", "0.25", "--epochs", "2"]
    qcfs, converted = str(tmp_path / "qcfs"), str(tmp_path / "converted")
    assert main(["train", "--method", "qcfs", *net, "--out", qcfs]) == 0
    assert "mnist-cnnx0.25, QCFS, Q = 4" in capsys.readouterr().out
    assert main(["convert", qcfs, "--levels", "4", "--steps", "1", "--out", converted]) == 0
    assert main(["compile", converted, "--lanes", "4", "--out", str(tmp_path / "build")]) == 0
    network, _ = load_checkpoint(converted)
    images = load_dataset("digits").test_images[:100]
    result = GoldenModel(Build.open(tmp_path / "build").network).run(images, keep_levels=True)
    levels = network.spike_levels(images)["neuron1"]
    same = (result.levels[0].reshape(1, 100, 8, 8, 4).permute(0, 1, 4, 2, 3) == levels).double().mean().item()
    assert same >= 0.98
    assert main(["train", "--method", "hybrid", *net, "--out", str(tmp_path / "hybrid")]) == 0
    assert load_checkpoint(tmp_path / "hybrid")[1].conversion.quanta == 4
