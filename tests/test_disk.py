"""Files on disk: nothing half-written is left, and a folder that cannot be written is refused in a sentence."""

import errno
import io
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
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
def test_a_folder_that_cannot_be_written_is_refused_in_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / name))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as refusal:
        disk.require_writable(tmp_path, tmp_path / name)
    assert str(refusal.value).startswith(f"{tmp_path / name} cannot be used (")
    assert str(refusal.value).endswith("): fix it, or set ISONB_RUNS to another folder.")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A folder for each variable that says where something lies."""
    for name in ("ISONB_RESULTS", "ISONB_RUNS", "ISONB_DATA", "XDG_CACHE_HOME"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "TMPDIR").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "TMPDIR"))
    return tmp_path


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("ISONB_RESULTS/cpu/a.json", ", or set ISONB_RESULTS to another folder"),
        ("ISONB_RUNS", ", or set ISONB_RUNS to another folder"),
        ("ISONB_RUNS/home/x", ", or set ISONB_RUNS to another folder"),
        ("ISONB_DATA/cat/1.png", ", or set ISONB_DATA to another folder"),
        ("XDG_CACHE_HOME/isonb/cifar.tar.gz", ", or set XDG_CACHE_HOME to another folder"),
        ("TMPDIR/isonb-abc/kernel.json", ", or set TMPDIR to another folder"),
        ("ISONB_RUNS2/template.ipynb", " and run the same command again"),
        ("", ", or set ISONB_RESULTS and ISONB_RUNS and ISONB_DATA and XDG_CACHE_HOME and TMPDIR to another folder"),
    ],
)
def test_advice_names_the_variable_that_says_where_a_file_lies(place, advice, folders):
    error = PermissionError(errno.EACCES, "Permission denied", str(folders / place))
    assert disk.in_a_sentence(error) == f"{folders / place} cannot be used (Permission denied): fix it{advice}."


def test_advice_names_the_innermost_folder_and_each_variable_that_says_so(folders, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folders / "ISONB_RUNS/home"))
    monkeypatch.setenv("ISONB_RESULTS", str(folders / "ISONB_RUNS"))
    (folders / "link").symlink_to("ISONB_RUNS")
    for place, variables in (("link/a", "ISONB_RESULTS and ISONB_RUNS"), ("link/home/isonb", "XDG_CACHE_HOME")):
        error = OSError(errno.EROFS, "Read-only file system", os.fsencode(folders / place))
        assert disk.in_a_sentence(error).endswith(f": fix it, or set {variables} to another folder.")


def test_without_a_cache_of_their_own_downloads_go_to_the_persons(folders, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(folders / "home"))
    error = OSError(errno.ENOSPC, "No space left on device", str(folders / "home/.cache/isonb/a"))
    assert disk.in_a_sentence(error).endswith(": make room, or set XDG_CACHE_HOME to another folder.")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EFBIG, "allow larger files, as by `ulimit -f unlimited`."),
        (errno.EMFILE, "allow more open files, as by `ulimit -n 4096`."),
        (errno.EAGAIN, "allow more processes, as by `ulimit -u 4096`."),
        (errno.ENOMEM, "free memory, or allow more of it, as by `ulimit -v unlimited`."),
        (errno.EIO, "remove the cause, and run the same command again."),
    ],
)
def test_what_no_folder_lifts_has_advice_of_its_own(number, advice):
    error = OSError(number, os.strerror(number))
    assert disk.in_a_sentence(error) == f"The system refused a request ({os.strerror(number)}): {advice}"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_without_a_path_is_called_full_and_sought_where_isonb_writes(number, folders):
    assert disk.in_a_sentence(OSError(number, os.strerror(number))) == (
        f"The disk is full ({os.strerror(number)}): make room where {folders / 'ISONB_RESULTS'}, "
        f"{folders / 'ISONB_RUNS'} and {folders / 'TMPDIR'} lie."
    )


def test_a_file_that_finds_no_room_is_named(folders, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as error:
        disk.write_atomically(folders / "ISONB_RUNS/smoke/plan.json", b"{}")
    sentence = f"{folders / 'ISONB_RUNS/smoke/plan.json'} cannot be used (No space left on device): make room, or set"
    assert disk.in_a_sentence(error.value) == f"{sentence} ISONB_RUNS to another folder."


def test_without_any_temporary_folder_the_sentence_says_what_to_set(monkeypatch):
    def nowhere():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(FileNotFoundError) as error:
        tempfile.gettempdir()
    assert disk.in_a_sentence(error.value) == (
        "No usable temporary directory found in ['/tmp']: set TMPDIR to a folder that can be written."
    )


# Files from outside


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def with_header(header, values=b"\0" * 8):
    """An npz file of one array whose npy header says what it likes."""
    text = header.encode().ljust(117) + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + values)
    return buffer.getvalue()


def test_arrays_are_read_as_they_were_written(tmp_path):
    arrays = {
        "bool_LB": np.eye(3, 5, dtype=bool),
        "empty": np.zeros((0, 4), np.uint8),
        "number": np.float32(2.5),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    (tmp_path / "a.npz").write_bytes(npz(**arrays))
    read = disk.read_arrays(tmp_path / "a.npz", limit=10_000)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(read[name], array) and read[name].dtype == array.dtype


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        npz(a=np.zeros(3))[:-30],
        npz(a=np.array([{"an": "object"}], object)),
        npz(a=np.zeros(100_000)),  # a few hundred bytes that would take 800 000
        with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }"),
        with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }"),
        with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"),
        with_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
        with_header("__import__('os').abort()"),
        with_header("{'descr': '<f8'"),
        with_header("(" * 110),
    ],
)
def test_arrays_that_are_damaged_or_do_harm_are_refused_in_one_way(content, tmp_path):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(disk.Unreadable):
        disk.read_arrays(tmp_path / "a.npz", limit=10_000)


def test_an_archive_whose_list_is_damaged_is_refused(tmp_path):
    with pytest.warns(UserWarning), zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for content in (npz(a=np.zeros(1)), npz(a=np.ones(1))):
            archive.writestr("a.npy", content)
    with pytest.raises(disk.Unreadable, match="list of arrays is damaged"):
        disk.read_arrays(tmp_path / "a.npz", limit=10_000)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "not JSON"),
        (b'{"a": ', "not JSON"),
        (b"[" * 9_000, "nested too deeply|not JSON"),  # by what Python's parser meets first
        (b"[" * 4_500 + b"]" * 4_500, "nested too deeply"),
        (b'{"a":[' * 50 + b"[]" + b"]}" * 50, "nested too deeply"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"a": NaN}', "NaN, which is not a number"),
        (b"[-Infinity]", "-Infinity, which is not a number"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"9" * 5000, "limit"),
        (b" " * 10_001, "10,001 bytes, more than the 10,000"),
    ],
)
def test_json_that_is_damaged_or_does_harm_is_refused_in_one_way(content, cause, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(disk.Unreadable, match=cause):
        disk.read_json(tmp_path / "a.json", limit=10_000)


def test_json_of_a_hundred_levels_is_read():
    assert str(disk.parse_json(b'{"a":[' * 50 + b"1" + b"]}" * 50)).count("a") == 50


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 50 * 2**30)
    (tmp_path / "to a device").symlink_to("/dev/zero")
    for name in ("pipe", "loop", "huge", "to a device", ".", "missing", "a\0name"):
        with pytest.raises(disk.Unreadable):
            disk.read_bytes(tmp_path / name, limit=10_000)
    (tmp_path / "just right").write_bytes(b"1" * 10_000)
    (tmp_path / "link").symlink_to("just right")
    assert len(disk.read_bytes(tmp_path / "link", limit=10_000)) == 10_000
