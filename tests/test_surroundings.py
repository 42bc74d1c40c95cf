"""What a container may lack: a name, a home, caches that can be written, a short path for temporary files."""

import getpass
import os
import pwd
import tempfile
from pathlib import Path

import pytest

from isonb import surroundings

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
FOLDERS = ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")


@pytest.fixture(autouse=True)
def person(tmp_path, monkeypatch):
    """A person with a home, who has set nothing else."""
    for name in (*NAMES, *FOLDERS):
        monkeypatch.setenv(name, "")  # so that it is afterwards what it was
        monkeypatch.delenv(name)
    (tmp_path / "person").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))


def set_variables():
    return {name: os.environ[name] for name in FOLDERS if name in os.environ}


def test_a_person_with_a_home_keeps_it(tmp_path):
    surroundings.provide()
    assert set_variables() == {"HOME": str(tmp_path / "person")}
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("place", ["/proc/nobody", "nothing", "a file", "a file/below"])
def test_a_home_that_cannot_be_used_is_replaced(place, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / place))
    surroundings.provide()
    assert set_variables() == {"HOME": str(tmp_path / "runs/home")}
    assert Path.home().is_dir() and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", FOLDERS[1:])
def test_a_cache_that_cannot_be_written_is_replaced(name, tmp_path, monkeypatch):
    monkeypatch.setenv(name, "/proc/nobody")
    surroundings.provide()
    assert set_variables() == {"HOME": str(tmp_path / "person"), name: str(tmp_path / "runs/home" / name.lower())}


def test_a_home_whose_cache_cannot_be_written_keeps_all_but_the_cache(tmp_path):
    (tmp_path / "person/.cache").touch()
    surroundings.provide()
    assert set_variables() == {
        "HOME": str(tmp_path / "person"),
        "XDG_CACHE_HOME": str(tmp_path / "runs/home/cache"),
    }


def test_downloads_in_a_home_that_cannot_be_written_are_still_read(tmp_path, monkeypatch):
    cache = tmp_path / "person/.cache"
    (cache / "isonb").mkdir(parents=True)
    takes_files = surroundings.takes_files
    monkeypatch.setattr(
        surroundings, "takes_files", lambda one: not one.is_relative_to(tmp_path / "person") and takes_files(one)
    )
    surroundings.provide()
    assert set_variables() == {"HOME": str(tmp_path / "runs/home"), "XDG_CACHE_HOME": str(cache)}


def test_a_number_without_a_name_gets_one(monkeypatch):
    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    surroundings.provide()
    assert getpass.getuser() == f"user{os.getuid()}"


@pytest.mark.parametrize(("length", "is_kept"), [(40, True), (70, True), (71, False), (106, False), (300, False)])
def test_sockets_get_a_folder_with_a_short_path(length, is_kept, tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short)
        while len(str(folder)) < length:
            folder /= "x" * min(200, max(1, length - len(str(folder)) - 1))
        assert len(str(folder)) in (length, length + 1)
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        assert surroundings.folder_for_sockets() == (str(folder) if is_kept else "/tmp")
        assert surroundings.has_room(folder) is is_kept
