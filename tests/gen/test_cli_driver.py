"""``lmht verify --engine driver``: the whole way, speed beside the harness's, and one line for every mistake."""

import re

import pytest

from lmht.gen.cli import main

TINY = ["--net", "64-8-10", "--epochs", "1", "--seed", "3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained tiny network in ``run``, compiled with AXI ports in ``build`` and without in ``plain``."""
    folder = tmp_path_factory.mktemp("cli")
    assert main(["train", *TINY, "--out", str(folder / "run")]) == 0
    for name, options in (("build", ["--bus", "axi"]), ("plain", [])):
        command = ["compile", str(folder / "run"), "--lanes", "4", "--out", str(folder / name)]
        assert main([*command, *options]) == 0
    return folder


@pytest.fixture
def fails(capsys, folder):
    """Function that verifies a build, which must fail, and returns the one line."""

    def run(build, *options):
        capsys.readouterr()
        assert main(["verify", str(folder / build), "--images", "3", *options]) == 2
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1
        return errors.removeprefix("error: ").rstrip("\n")

    return run


@pytest.mark.slow
def test_whole_data_set_through_the_driver(folder, capsys):
    command = ["verify", str(folder / "build"), "--engine", "driver", "--images", "all", "--disturb", "50"]
    assert main([*command, "--idle", "0.2", "--back-pressure", "0.2", "--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert (
        "360 images through driver, idle 0.2, back-pressure 0.2, seed 5, a soft reset and a malformed " in out
    )
    assert "all 3600 logits equal the golden model's" in out
    speeds = re.search(
        r"driver: ([\d,]+) images/s of processor time; bare harness: ([\d,]+) images/s on 360 of them; ratio (\d+)%",
        out,
    )
    driver, harness, ratio = (int(text.replace(",", "")) for text in speeds.groups())
    assert abs(ratio - 100 * driver / harness) < 2


def test_build_without_axi_ports(fails):
    line = fails("plain", "--engine", "driver")
    assert line.endswith("plain: it has no AXI ports: for the engine driver, compile it with --bus axi")


def test_waves(fails):
    line = fails("build", "--engine", "driver", "--waves", "wave.fst")
    assert line == "waves must be recorded with the engine harness or cocotb, not driver"


def test_disturbance_of_another_engine(fails):
    line = fails("build", "--disturb", "3")
    assert line == "disturb must be 0 with the engine harness: only the driver can be disturbed"


def test_disturbance_out_of_range(fails):
    assert "--disturb" in fails("build", "--engine", "driver", "--disturb", "0")


def test_help_has_an_example(capsys):
    assert main(["verify", "--help"]) == 0
    assert "--engine driver --images 1000 --disturb 10" in " ".join(capsys.readouterr().out.split())
