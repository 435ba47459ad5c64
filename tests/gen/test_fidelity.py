"""Accuracy in PyTorch beside the integers': a loss is a warning, a sound build has none."""

import json
import shutil

import numpy as np
import pytest
import torch

from lmht.gen.build import Build
from lmht.gen.cli import main
from lmht.gen.compile import CompileOptions, compile_network
from lmht.gen.fidelity import (
    CLASSES_FILE,
    NETWORK,
    Classes,
    TestImages,
    compare_classes,
    find_warning,
    read_classes,
)
from lmht.model.evaluation import predict

COARSE = ["--fraction-bits", "0", "--multiplier-bits", "1"]


def make_classes(wrong, images=1000):
    labels = np.arange(images) % 10
    found = labels.copy()
    found[:wrong] += 1
    return Classes(labels, {NETWORK: labels, "integers": found})


def test_more_than_half_a_point_is_a_warning():
    assert find_warning(make_classes(5)) is None
    line = find_warning(make_classes(6))
    assert "accuracy of the integers is 99.40% on 1,000 test images" in line
    assert "in PyTorch 100.00%" in line


def test_accuracy_and_agreement_are_not_the_same():
    labels = np.array([0, 1, 2, 3])
    classes = Classes(labels, {NETWORK: np.array([0, 1, 3, 2]), "integers": np.array([0, 2, 2, 2])})
    assert classes.record().model_dump() == {
        "images": 4,
        "network_accuracy": 0.5,
        "integer_accuracy": 0.5,
        "agreement": 0.5,
    }
    assert find_warning(classes) is None


def test_only_images_that_all_have_are_compared():
    both = compare_classes(make_classes(6), {"RTL": np.arange(300) % 10})
    assert len(both.labels) == 300
    assert list(both.found) == [NETWORK, "RTL"]
    assert both.accuracy("RTL") == 1


@pytest.mark.parametrize(
    ("options", "lost"), [({}, False), ({"fraction_bits": 0, "multiplier_bits": 1}, True)]
)
def test_compile_measures_and_keeps_the_classes(make_network, tmp_path, options, lost):
    network = make_network()
    images = torch.randint(0, 256, (600, 3, 4, 4), dtype=torch.uint8)
    test = TestImages(images, predict(network, images), 400)
    report = compile_network(network, tmp_path / "build", CompileOptions(lanes=4, **options), test=test)
    build = Build.open(tmp_path / "build")
    kept = read_classes(build.folder)
    assert kept.to_csv() == report.classes.to_csv()
    record = build.manifest.fidelity
    assert (record.images, record.network_accuracy) == (400, 1)
    assert (find_warning(kept) is not None) == lost
    assert (record.integer_accuracy < 0.9) == lost


def test_build_of_a_network_without_images(small_build):
    build = Build.open(small_build)
    assert build.manifest.fidelity is None
    assert read_classes(build.folder) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fidelity") / "run"
    arguments = ["train", "--net", "64-16-10", "--epochs", "3", "--seed", "1", "--out", str(folder)]
    assert main(arguments) == 0
    return folder


@pytest.mark.parametrize(("bits", "lost"), [([], False), (COARSE, True)])
def test_compile_and_verify_say_it(run, tmp_path, capsys, bits, lost):
    build = tmp_path / "build"
    assert main(["compile", str(run), "--lanes", "4", *bits, "--out", str(build)]) == 0
    texts = [capsys.readouterr()]
    assert main(["verify", str(build), "--images", "200"]) == 0
    texts.append(capsys.readouterr())
    for text, images in zip(texts, (360, 200), strict=True):
        assert f"accuracy on the first {images} test images" in text.out
        assert ("warning: accuracy of the integers is" in text.err) == lost
        assert ("warning: accuracy of the integers is" in " ".join(text.out.split())) == lost
    assert "│ RTL " in texts[1].out


def test_verify_without_measured_classes(run, tmp_path, capsys):
    build = tmp_path / "build"
    arguments = ["compile", str(run), "--lanes", "4", "--test-images", "0", "--out", str(build)]
    assert main(arguments) == 0
    assert "not compared with PyTorch" in capsys.readouterr().out
    assert not (build / CLASSES_FILE).exists()
    assert json.loads((build / "manifest.json").read_text())["fidelity"] is None
    assert main(["verify", str(build), "--images", "5"]) == 0
    assert "of all test images after training; nothing was measured" in capsys.readouterr().out


def test_damaged_classes_are_refused(run, tmp_path, capsys):
    build = tmp_path / "build"
    assert main(["compile", str(run), "--lanes", "4", "--out", str(build)]) == 0
    (build / CLASSES_FILE).write_text("label,PyTorch\n")
    assert main(["verify", str(build), "--images", "5"]) == 2
    assert f"{CLASSES_FILE}: changed since the build" in capsys.readouterr().err
    shutil.rmtree(build)
