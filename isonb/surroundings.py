"""What our tools take for granted and a container may lack: a home that can be written, a user's name, a short path.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import getpass
import io
import locale
import os
import sys
import tempfile
from pathlib import Path

from isonb import places
from isonb.validation import ConfigError

CACHES = ("XDG_CACHE_HOME", "MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")  # where our tools write
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
LONGEST = 70  # bytes of a folder's path: the whole name of a socket has at most 103 on macOS, and 107 on Linux


def provide() -> None:
    """Give this process, and those it starts, a home, caches and a name where those of the person cannot be used.

    What cannot be written is replaced by a folder `home` beside the checkpoints, which matplotlib, IPython, Jupyter and
    Snakemake then use; downloads and decoded images that a read-only home holds are still read.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        os.environ["LOGNAME"] = f"user{os.getuid()}"
    home, ours = Path("~"), places.runs_folder("home")
    with contextlib.suppress(RuntimeError):  # there is none
        home = home.expanduser()
    caches = home / ".cache"
    if not (home.is_dir() and takes_files(home)):
        with contextlib.suppress(OSError):  # a folder that cannot be written is refused where it is needed
            ours.mkdir(parents=True, exist_ok=True)
        os.environ["HOME"] = str(ours)
        if (caches / "isonb").is_dir():
            os.environ.setdefault("XDG_CACHE_HOME", str(caches))
    elif not takes_files(caches) and not (caches / "isonb").is_dir():
        os.environ.setdefault("XDG_CACHE_HOME", str(ours / "cache"))
    for name in CACHES:
        named = os.environ.get(name)
        if named and not takes_files(Path(named)) and not Path(named, "isonb").is_dir():
            os.environ[name] = str(ours / name.lower())


def use_utf8() -> None:
    """Have this process and those it starts read, write and name files in UTF-8, whatever the locale says.

    A process that began otherwise begins again, as its file names have been misread.
    """
    os.environ["PYTHONUTF8"] = "1"
    if not sys.flags.utf8_mode and locale.getencoding().lower() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # PYTHONIOENCODING has a say of its own
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def require_project(lacking: str) -> None:
    """Raise `ConfigError` where the package is installed without its project, and so without what is `lacking`."""
    if not places.IS_CHECKOUT:
        raise ConfigError(
            f"The package in {places.PROJECT} was installed without {lacking}: run the same command in the project's "
            "folder."
        )


def folder_for_sockets() -> str:
    """The folder for temporary files, or another one where its path is too long for the name of a socket in it."""
    usual = tempfile.gettempdir()
    return next((one for one in (usual, *SHORT_FOLDERS) if has_room(one) and takes_files(Path(one))), usual)


def has_room(folder: str | Path) -> bool:
    """Whether a folder's path is short enough for the name of a socket in a folder in it."""
    return len(os.fsencode(folder)) <= LONGEST


def takes_files(folder: Path) -> bool:
    """Whether a file can be written to a folder, which is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
