"""Progress bar: shown on a terminal only."""

import re

import pytest

from lmht.model import EpochRecord
from lmht.model.progress import TrainingProgress


def show(enabled, validation_accuracy=0.9731):
    record = EpochRecord(
        epoch=3,
        loss=0.25,
        train_accuracy=0.9512,
        validation_accuracy=validation_accuracy,
        learning_rate=0.0,
    )
    with TrainingProgress(epochs=40, updates=2, done=2, enabled=enabled) as bar:
        bar.update()
        bar.update()
        bar.epoch(record, validation_accuracy)


@pytest.fixture
def _terminal(monkeypatch):
    """Rich takes these for a terminal of 80 columns without colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


def last_line(text):
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()][-1]


@pytest.mark.usefixtures("_terminal")
@pytest.mark.parametrize(
    ("accuracy", "shown"), [(0.9731, "accuracy 97.31% (best 97.31%)"), (None, "accuracy 95.12%")]
)
def test_terminal_shows_epoch_loss_and_accuracy(capfd, accuracy, shown):
    show(True, accuracy)
    line = last_line(capfd.readouterr().err)
    assert line.startswith("epoch 3/40")
    assert f"loss 0.2500  {shown}" in line


@pytest.mark.usefixtures("_terminal")
def test_nothing_is_shown_when_disabled(capfd):
    show(False)
    assert "".join(capfd.readouterr()) == ""


def test_nothing_is_shown_without_a_terminal(capfd, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    show(True)
    assert "".join(capfd.readouterr()) == ""
