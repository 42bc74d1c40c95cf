"""Files that appear whole or not at all, what a disk refuses in one sentence, and files that nobody vouches for.

A file from outside may be cut, changed, of another kind or made to do harm. What reads one here looks at its size
before it reads, and at what it says of itself before it allocates, and fails in one way: `Unreadable`.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from isonb import places
from isonb.validation import ConfigError

FULL = (errno.ENOSPC, errno.EDQUOT)
LIMITS = {  # which no other folder lifts
    errno.EFBIG: "allow larger files, as by `ulimit -f unlimited`",
    errno.EMFILE: "allow more open files, as by `ulimit -n 4096`",
    errno.ENFILE: "close programs that hold many files open",
    errno.EAGAIN: "allow more processes, as by `ulimit -u 4096`",
    errno.ENOMEM: "free memory, or allow more of it, as by `ulimit -v unlimited`",
}
MEBIBYTE = 2**20
MOST_ARRAYS = 1000  # in one file; ours hold a dozen
DEEPEST = 100  # levels of lists and objects in JSON; ours have a handful
TOO_DEEP = "it is nested too deeply"


class Unreadable(ValueError):
    """A file that is not what it should be; the message is the cause in a few words, without the file's name."""


def in_a_sentence(error: OSError) -> str:
    """Which file or folder cannot be used, why, and what to do about it."""
    cause = error.strerror or str(error)
    if error.errno in LIMITS:
        return f"The system refused a request ({cause}): {LIMITS[error.errno]}."
    remedy = "make room" if error.errno in FULL else "fix it"
    if isinstance(error.filename, str | bytes | os.PathLike):
        path = os.fsdecode(error.filename)
        variables = " and ".join(_variables(path))
        otherwise = f", or set {variables} to another folder" if variables else " and run the same command again"
        return f"{path} cannot be used ({cause}): {remedy}{otherwise}."
    if error.errno in FULL:
        folders = f"{places.all_results()}, {places.runs_folder('')} and {_temporary() or 'temporary files'}"
        return f"The disk is full ({cause}): make room where {folders} lie."
    if _temporary() is None:
        return f"{cause}: set TMPDIR to a folder that can be written."
    return f"The system refused a request ({cause}): remove the cause, and run the same command again."


def _variables(path: str) -> list[str]:
    """The variables that say where a path lies: of the innermost folder around it, or else of those inside it."""
    named = {
        places.RESULTS: places.all_results(),
        places.RUNS: places.runs_folder(""),
        places.DATA: os.environ.get(places.DATA),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or "~/.cache",  # of downloads and decoded pictures
        "TMPDIR": _temporary(),
    }
    folders = {name: Path(os.path.realpath(os.path.expanduser(folder))) for name, folder in named.items() if folder}
    place = Path(os.path.realpath(path))
    around = [folder for folder in folders.values() if place.is_relative_to(folder)]
    if around:
        innermost = max(around, key=lambda folder: len(folder.parts))
        return [name for name, folder in folders.items() if folder == innermost]
    return [name for name, folder in folders.items() if folder.is_relative_to(place)]


def _temporary() -> str | None:
    """The folder for temporary files; None where no such folder can be written."""
    with contextlib.suppress(FileNotFoundError):
        return tempfile.gettempdir()
    return None


def require_writable(*folders: Path) -> None:
    """Raise `ConfigError` where no file can be written to one of these folders, before hours are spent on it."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ConfigError(in_a_sentence(error)) from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part."""
    with written(path) as file:
        file.write(content)


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which appears at `path` when all is written; a crash or an exception leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        error.filename = error.filename or str(path)  # what finds no room does not say where
        raise
    finally:
        temporary.unlink(missing_ok=True)


def size(path: Path, limit: int) -> int:
    """How many bytes a regular file has. Raises `Unreadable` for anything else and for more than `limit`."""
    try:
        status = path.stat()
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except ValueError as error:  # a null character in the name
        raise Unreadable(str(error)) from None
    _require_regular(status, limit)
    return status.st_size


def _require_regular(status: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("it is not a regular file")
    if status.st_size > limit:
        raise Unreadable(f"it has {status.st_size:,} bytes, more than the {limit:,} that such a file may have")


def read_bytes(path: Path, limit: int) -> bytes:
    """A regular file's content. Raises `Unreadable` for anything else and for more than `limit` bytes."""
    try:
        # without O_NONBLOCK, opening a pipe that nobody writes to waits for ever
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(descriptor)
            _require_regular(status, limit)
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(status.st_size + 1)  # a file can grow after it was looked at
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except ValueError as error:  # a null character in the name
        raise Unreadable(str(error)) from None
    if len(content) > status.st_size:
        raise Unreadable("it has grown while it was read")
    return content


def read_json(path: Path, limit: int) -> Any:
    """A JSON file's content. Raises `Unreadable`, also for NaN, infinities, names given twice and endless nesting."""
    return parse_json(read_bytes(path, limit))


def parse_json(content: bytes) -> Any:
    """What UTF-8 encoded JSON holds. Raises `Unreadable` as `read_json` does."""
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_without_repetition)
    except RecursionError:
        raise Unreadable(TOO_DEEP) from None
    except UnicodeDecodeError:
        raise Unreadable("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise Unreadable(f"it is not JSON: {error}") from None
    except ValueError as error:  # a number of thousands of digits, and what the two hooks refuse
        raise Unreadable(str(error)) from None
    _require_shallow(value)
    return value


def _require_shallow(value: Any) -> None:
    """Refuse what Python's own parser, from 3.13 on, can still read and other code would not get to the end of."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        values = (one for of_level in level for one in (of_level.values() if isinstance(of_level, dict) else of_level))
        level = [one for one in values if isinstance(one, dict | list)]
    if level:
        raise Unreadable(TOO_DEEP)


def _refuse(constant: str) -> NoReturn:
    raise Unreadable(f"it holds {constant}, which is not a number")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise Unreadable("a name stands in it twice")
    return values


def read_arrays(path: Path, limit: int) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name. Raises `Unreadable`, also where they would take more than `limit` bytes."""
    return parse_arrays(read_bytes(path, limit), limit)


def parse_arrays(content: bytes, limit: int) -> dict[str, np.ndarray]:
    """The arrays of an npz file's content. Raises `Unreadable` as `read_arrays` does."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(entries) > MOST_ARRAYS or len({*names}) < len(names) or not all(n.endswith(".npy") for n in names):
                raise Unreadable("its list of arrays is damaged")
            if sum(entry.file_size for entry in entries) > limit:
                raise Unreadable(f"its arrays would take more than the {limit:,} bytes that they may take")
            return {entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in entries}
    except Unreadable:
        raise
    except Exception as error:  # zipfile, zlib and numpy each have several ways to fail on damaged input
        raise Unreadable(str(error) or type(error).__name__) from None


def _array(content: bytes) -> np.ndarray:
    """An array out of an npy file's content, which must be as long as its header says."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):  # what numpy writes for arrays without fields
        raise Unreadable(f"an array is of the format {version}")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or any(length < 0 for length in shape):
        raise Unreadable("an array is of a kind that is not read here")
    values = content[file.tell() :]
    if math.prod(shape) * dtype.itemsize != len(values):
        raise Unreadable("an array is not as long as it says")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if is_fortran else "C").copy()
