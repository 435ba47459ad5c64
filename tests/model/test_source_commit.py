"""The commit in a run's record: of lmht's own checkout, never of one that lmht is merely installed in."""

import subprocess

import pytest

from lmht.model import source_commit as module


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Function that makes a checkout of a project of that name, with the package in it, and returns its commit."""

    def make(name):
        package = tmp_path / "model"
        package.mkdir()
        (package / "source_commit.py").write_text("")
        (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
            subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
        monkeypatch.setattr(module, "__file__", str(package / "source_commit.py"))
        found = subprocess.run(
            ["git", "-C", str(tmp_path), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
        )
        return found.stdout.strip()

    return make


def test_commit_of_the_checkout(checkout, tmp_path):
    commit = checkout("lmht")
    assert module.source_commit.__wrapped__() == commit
    (tmp_path / "untracked.txt").write_text("a run's output")
    assert module.source_commit.__wrapped__() == commit
    (tmp_path / "model/source_commit.py").write_text("changed")
    assert module.source_commit.__wrapped__() == f"{commit}-dirty"


def test_checkout_of_another_project(checkout):
    checkout("other")
    assert module.source_commit.__wrapped__() is None


@pytest.mark.parametrize("reason", ["no checkout", "no git"])
def test_no_commit(tmp_path, monkeypatch, reason):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(module, "__file__", str(tmp_path / "source_commit.py"))
    if reason == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    assert module.source_commit.__wrapped__() is None
