"""Files on disk: nothing half-written is left, and a folder that cannot be written is refused in a sentence."""

import os
from pathlib import Path

import pytest

from isonb import disk
from isonb.validation import ConfigError


@pytest.mark.parametrize("fault", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fault):
    path = tmp_path / "new" / "file.json"
    disk.write_atomically(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, fault, fail)
    with pytest.raises(OSError, match="No space left"):
        disk.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_replaces_the_whole_file_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    disk.write_atomically(path, b"a long old content")
    seen, replace = [], os.replace

    def watch(source, target):
        seen.append((path.read_bytes(), Path(source).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    disk.write_atomically(path, b"new")
    assert seen == [(b"a long old content", b"new")]
    assert path.read_bytes() == b"new"


def test_a_folder_is_made_and_left_empty(tmp_path):
    disk.require_writable(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_refused_in_a_sentence(name, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as refusal:
        disk.require_writable(tmp_path, tmp_path / name)
    assert str(refusal.value).startswith(f"{tmp_path / name} cannot be used (")
    assert str(refusal.value).endswith("): fix it, or set ISONB_RUNS and ISONB_RESULTS to another folder.")
