import pytest

from lmht.gen.files import replaced_folder, write_file


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_write_file_makes_the_folder_and_leaves_nothing_else(tmp_path):
    write_file(tmp_path / "a" / "b", b"text")
    assert contents(tmp_path / "a") == {"b": "text"}


def test_folder_appears_only_when_complete(tmp_path):
    target = tmp_path / "deep" / "build"
    with replaced_folder(target, lambda _: False) as folder:
        (folder / "one").write_text("1")
        assert not target.exists()
    assert contents(target) == {"one": "1"}
    assert [path.name for path in target.parent.iterdir()] == ["build"]


def test_old_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "build"
    target.mkdir()
    (target / "old").write_text("0")
    with replaced_folder(target, lambda _: True) as folder:
        (folder / "new").write_text("1")
        assert contents(target) == {"old": "0"}
    assert contents(target) == {"new": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


def test_failure_leaves_the_old_folder(tmp_path):
    target = tmp_path / "build"
    target.mkdir()
    (target / "old").write_text("0")

    def fail():
        with replaced_folder(target, lambda _: True) as folder:
            (folder / "new").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert contents(target) == {"old": "0"}
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


def test_other_folders_and_files_are_refused(tmp_path):
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter").write_text("1")
    with pytest.raises(ValueError, match="is not an earlier build"), replaced_folder(target, lambda _: False):
        pass
    with (
        pytest.raises(ValueError, match="is not a folder"),
        replaced_folder(target / "chapter", lambda _: True),
    ):
        pass
    assert contents(target) == {"chapter": "1"}
