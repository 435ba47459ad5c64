"""docs/results.md says what the records say, and says it where a record is bad."""

import copy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# By the gradient through time: hours of training that may still be to do; their rows have dashes.
UNTRAINED = {
    "cifar10-lif",
    "rules-vgg11-lif",
    "rules-vgg11-lif-detached",
    *(f"binary-{kind}-continuous-t{steps}" for kind in ("mlp", "lenet") for steps in (2, 4, 8)),
}


@pytest.fixture
def scripts(monkeypatch):
    """Modules of the results: plan, page and records."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import results_page
    import results_plan
    import results_records

    yield results_plan, results_page, results_records
    for name in ("results_page", "results_plan", "results_records"):
        sys.modules.pop(name, None)


@pytest.fixture
def records(scripts):
    return scripts[2].read_records(ROOT / "docs")


def render(scripts, records):
    return "\n".join(scripts[1].page(scripts[1].Results(records)))


def test_pages_are_those_of_the_records(scripts, records):
    results = scripts[1].Results(records)
    for name, lines in (
        ("results", scripts[1].page(results)),
        ("results-runs", scripts[1].runs_page(results)),
    ):
        assert (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") == "\n".join(lines)


def test_every_training_of_the_plan_has_a_record(scripts, records):
    planned = {training.name: training for training in scripts[0].plan()}
    assert records.keys() <= planned.keys()
    assert planned.keys() - records.keys() <= UNTRAINED
    for name, record in records.items():
        training = planned[name]
        assert record["group"] == training.group
        assert record["start"] == training.start
        assert record["commit"]
        assert 0 < record["test_accuracy"] < 1
        for field, value in training.training.items():
            default = {"seed": 0, "precision": "float32", "batch_size": 128, "learning_rate": 1e-3}.get(field)
            if training.fine_tuning is None:
                assert record["training"].get(field, default) == value, (name, field)


def test_rule_of_the_gradient_is_shown(scripts, records):
    """What was trained with a detached membrane says so in its name, its network and every table."""
    for name, record in records.items():
        assert (record["network"].get("detach") is True) == name.endswith("-detached"), name
    changed = copy.deepcopy(records)
    changed["cifar10-lif"] = copy.deepcopy(records["cifar10-lif-detached"]) | {"test_accuracy": 0.7777}
    changed["binary-mlp-continuous-t4"] = records["binary-mlp-continuous-t4-detached"] | {
        "test_accuracy": 0.9988
    }
    text = render(scripts, changed)
    assert "| LIF, T = 4 | 77.77% |" in text
    assert "| LIF, T = 4, membrane detached | 69.11% |" in text
    rows = [line for line in text.splitlines() if line.startswith("| 784-1024") and "continuous" in line]
    assert [("99.88%" in row, "99.06%" in row) for row in rows if "RTL" not in row][1:3] == [
        (True, False),
        (False, True),
    ]
    del changed["cifar10-lif"]
    assert "| LIF, T = 4 | - |" in render(scripts, changed)


def test_unequal_hardware_is_shown(scripts, records):
    changed = copy.deepcopy(records)
    cell = changed["mlp-l2t2-s0-4"]
    assert "hardware" in cell
    assert "DIFFERENT" not in render(scripts, changed)
    cell["hardware"]["equal"] = False
    assert "**DIFFERENT**" in render(scripts, changed)


def test_missed_aim_is_shown(scripts, records):
    changed = copy.deepcopy(records)
    changed["binary-mlp-continuous-t4-detached"]["test_accuracy"] = 0.9799
    line = next(
        line
        for line in render(scripts, changed).splitlines()
        if line.startswith("| 784-1024") and "| continuous, detached" in line
    )
    assert "97.99%" in line
    assert "**missed** at T = 4" in line


def test_record_grows_and_others_stay(scripts, tmp_path):
    write, read = scripts[2].write_record, scripts[2].read_records
    assert read(tmp_path) == {}
    write(tmp_path, "b", {"test_accuracy": 0.5})
    write(tmp_path, "a", {"test_accuracy": 0.25})
    assert write(tmp_path, "b", {"hardware": {"equal": True}}) == {
        "test_accuracy": 0.5,
        "hardware": {"equal": True},
    }
    assert list(read(tmp_path)) == ["a", "b"]
