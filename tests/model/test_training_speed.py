"""The measurement of training speed: on small neurons, and as ``lmht bench --training``."""

import json

import pytest
import torch

from lmht.gen.cli import main
from lmht.model import NetworkConfig, training_speed
from lmht.model.training_speed import TrainingSpeed, count_saved_bytes, measure_training_speed


def test_figures_of_small_neurons():
    before = torch.get_rng_state()
    result = measure_training_speed(3, neurons=(8, 500), batch=4, width=0.03)
    assert torch.equal(torch.get_rng_state(), before)
    assert [figure.name for figure in result.figures] == [
        "neuron, (2, 8, 500)",
        "neuron, (4, 8, 500)",
        "QCFS, (8, 500)",
        "training step, 784-128-10, T=2, batch 4",
        "training step, 784-128-10, T=4, batch 4",
        "training step, resnet18x0.03, T=2, batch 2",
        "training step, resnet18x0.03, T=4, batch 2",
    ]
    for figure in result.figures:
        assert min(figure.plain_s, figure.fused_s, figure.ratio) > 0
        assert figure.fused_saved_bytes < figure.plain_saved_bytes
    # Ω and λ learn: the current alone is kept, and Ω and λ themselves.
    assert 4 * 8 * 500 * 4 <= result.figures[1].fused_saved_bytes < 4 * 8 * 500 * 4 + 1000
    # θ learns: input and output.
    assert 2 * 8 * 500 * 4 <= result.figures[2].fused_saved_bytes < 2 * 8 * 500 * 4 + 100
    assert TrainingSpeed.model_validate_json(result.model_dump_json()) == result


def test_plain_and_fused_are_what_is_compared(monkeypatch):
    """The training step's two networks take the two ways, and only these."""
    calls = []
    neuron = training_speed.LMHT
    for name in ("forward", "forward_plain"):
        original = getattr(neuron, name)

        def record(self, current, name=name, original=original):
            calls.append(name)
            return original(self, current)

        monkeypatch.setattr(neuron, name, record)
    training_speed._compare_step(NetworkConfig(architecture="784-128-10"), 2, 4, 1)
    assert calls == ["forward_plain", "forward"] * 3  # what is saved, the pair not counted, the pair


def test_count_saved_bytes_counts_a_storage_once():
    a = torch.ones(100, requires_grad=True)
    assert count_saved_bytes(lambda: a * a) == 400
    assert count_saved_bytes(lambda: a + a) == 0


def test_repetitions_out_of_range():
    with pytest.raises(ValueError, match="repetitions") as caught:
        measure_training_speed(0)
    assert str(caught.value) == "repetitions must be at least 1, not 0"


def test_bench_training_prints_and_writes(monkeypatch, capsys, tmp_path):
    small = measure_training_speed(1, neurons=(2, 50), batch=2, width=0.03)
    monkeypatch.setattr(training_speed, "measure_training_speed", lambda: small)
    path = tmp_path / "training.json"
    assert main(["bench", "--training", "--json", str(path)]) == 0
    assert "neuron, (4, 2, 50)" in capsys.readouterr().out
    assert TrainingSpeed.model_validate(json.loads(path.read_text()), strict=False) == small


@pytest.mark.parametrize("arguments", [["bench"], ["bench", "build", "--training"]])
def test_bench_takes_a_build_or_training(arguments, capsys):
    assert main(arguments) == 2
    message = "error: bench needs either the folder of a build or --training\n"
    assert capsys.readouterr().err == message
