"""The pictures in a folder that has one folder per class; everything below such a folder belongs to that class.

Names are sorted by their bytes on disk, so that the order does not depend on the machine's locale.

Book: chapter "Data".
"""

from __future__ import annotations

import collections
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from isonb.training.sources import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
NAMED = 5  # at most that many names in one sentence


class File(NamedTuple):
    """A picture: its path within the tree, its size in bytes, and the time of its last change in nanoseconds."""

    path: str
    size: int
    time: int


@dataclass(frozen=True)
class Tree:
    """The pictures in a folder, sorted by path, and how many other files were skipped, by suffix.

    `classes` are the names of the folders that hold pictures, as on disk; `strays` counts pictures outside of these.
    """

    folder: Path
    files: tuple[File, ...]
    classes: tuple[str, ...]
    skipped: tuple[tuple[str, int], ...]
    strays: int

    @property
    def labels(self) -> list[int]:
        """The class of each picture, as its index in `classes`."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return [numbers[class_of(file.path)] for file in self.files]


def class_of(path: str) -> str:
    """The class of a picture: the name of the topmost folder of its path."""
    return path.partition("/")[0]


def printable(name: str | Path) -> str:
    """A file name as one line of valid text: line breaks, bytes that are not UTF-8 and the like are escaped."""
    text = os.fsencode(name).decode(errors="backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def in_words(names: Iterable[str]) -> str:
    """Names in one line, or the first few where there are many."""
    names = sorted(map(printable, names))
    return ", ".join(names[:NAMED]) + f" and {len(names) - NAMED} more" * (len(names) > NAMED)


def is_picture(name: str) -> bool:
    """Whether a file has the suffix of a picture."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def unreadable(error: OSError, path: Path) -> DataError:
    """An error of the disk at a path, or below it, as a sentence."""
    return DataError(
        f"{printable(error.filename or path)} cannot be read ({error.strerror}): make it readable or remove it."
    )


def subfolders(folder: Path) -> tuple[str, ...]:
    """The names of the visible folders directly inside one. Raises `DataError` where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return tuple(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise unreadable(error, folder) from None


def walk(folder: Path) -> Tree:
    """Every picture in a folder, at any depth. Symbolic links are followed.

    Raises `DataError` where a folder or picture cannot be read, and for a link to a folder that contains it.
    """
    files, strays, skipped = [], 0, collections.Counter()
    try:
        for path, status in _entries(folder):
            if status is None:
                skipped[_kind(path)] += 1
            elif not stat.S_ISREG(status.st_mode):
                raise DataError(f"{printable(folder / path)} is not a regular file: remove it or rename it.")
            elif "/" not in path:
                strays += 1
            else:
                files.append(File(path, status.st_size, status.st_mtime_ns))
    except OSError as error:
        raise unreadable(error, folder) from None
    files.sort(key=lambda file: os.fsencode(file.path))
    classes = sorted({class_of(file.path) for file in files}, key=os.fsencode)
    return Tree(folder, tuple(files), tuple(classes), tuple(sorted(skipped.items())), strays)


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result | None]]:
    """The path and status of every picture in a folder; status None marks what is to be skipped."""
    waiting = [("", (_identity(os.stat(folder)),))]
    while waiting:
        inside, above = waiting.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                path = inside + entry.name
                if entry.name.startswith(".") or not (entry.is_dir() or is_picture(entry.name)):
                    yield path, None
                    continue
                status = entry.stat()
                if not stat.S_ISDIR(status.st_mode):
                    yield path, status
                elif _identity(status) in above:
                    raise DataError(f"{printable(entry.path)} is a link to a folder that contains it: remove it.")
                else:
                    waiting.append((path + "/", (*above, _identity(status))))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _kind(path: str) -> str:
    """How a skipped file is counted: as hidden, or by its suffix, or by its name."""
    name = path.rpartition("/")[2]
    return printable("hidden" if name.startswith(".") else os.path.splitext(name)[1] or name)
