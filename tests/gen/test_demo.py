"""The demonstration, with two epochs and two images through cocotb."""

import re
from dataclasses import replace

import pytest

from lmht.gen import cli_demo
from lmht.gen import demo as demo_module
from lmht.gen.cli import main


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Exit status of a short demonstration, its folder and its result."""
    out = tmp_path_factory.mktemp("demo")
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        run = demo_module.run_demo
        patch.setattr(demo_module, "run_demo", lambda *a, **k: kept.append(run(*a, **k)) or kept[0])
        status = main(["demo", "--out", str(out), "--epochs", "2", "--cocotb-images", "2", "--seed", "1"])
    return status, out, kept[0]


@pytest.mark.slow
def test_demo_ends_with_equality_and_a_picture(shown):
    status, out, result = shown
    assert status == 0
    assert result.equal
    assert result.harness.logits == 3600
    assert result.cocotb.logits == 20
    assert (result.cocotb.idle, result.cocotb.back_pressure) == (0.3, 0.3)
    assert result.golden_accuracy == result.rtl_accuracy
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "float/config.json").exists()
    assert (out / "design/lmht_demo.v").exists()
    assert result.expected_cycles == pytest.approx(result.harness.cycles.steady_mean, rel=0.1)


@pytest.mark.slow
def test_table_has_what_was_asked_for(shown):
    table = demo_module.summary_table(shown[2])
    what, figures, _ = (list(column.cells) for column in table.columns)
    rows = dict(zip(what, figures, strict=True))
    for kind in ("floating point", "quantized", "golden model", "RTL"):
        assert re.fullmatch(r"\d+\.\d\d%", rows[f"accuracy, {kind}"])
    assert rows["logits compared"] == "3,620"
    assert float(rows["cycles an image"].replace(",", "")) > 100
    assert rows["utilization"].endswith("%")
    assert int(rows["Verilog"].replace(",", "")) > 1000


@pytest.mark.slow
def test_difference_fails_the_demo(shown, tmp_path, monkeypatch, capsys):
    wrong = replace(shown[2], cocotb=replace(shown[2].cocotb, ok=False))
    monkeypatch.setattr(demo_module, "run_demo", lambda *a, **k: wrong)
    assert main(["demo", "--out", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "DIFFERENT" in captured.out
    assert captured.err == "error: design and golden model differ\n"
    assert cli_demo.demo.__doc__.startswith("Train on the bundled")
