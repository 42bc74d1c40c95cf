"""Files as their authors publish them: where they lie, opened with suspicion, hashed once, or fetched as an archive.

Book: chapter "Data".
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import filelock
import pooch

from isonb.training import download
from isonb.training.sources import DataError, at_hand

PIECE = 2**20  # bytes that are hashed at a time


class Digests(NamedTuple):
    """The checksums of a file: SHA-256 for records, MD5 as authors print it."""

    sha256: str
    md5: str


def root(folder: Path | None, holds: str) -> Path | None:
    """The folder that is named, None where none is. Raises `DataError`, with what it should hold, for no folder."""
    named = at_hand(folder)
    if named and not os.path.isdir(named[1]):
        raise DataError(f"{named[0]} {str(named[1])!r} is not a directory: name the one that holds {holds}.")
    return named and named[1]


@contextlib.contextmanager
def opened(path: Path, limit: int) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file of at most `limit` bytes to read, and its size. Raises `DataError` for anything else."""
    try:
        # without O_NONBLOCK, opening a pipe that nobody writes to waits for ever
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} cannot be read ({cause}): make it a readable file.") from None
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} cannot be read (it is not a regular file): make it a readable file.")
        if status.st_size > limit:
            raise DataError(
                f"{path} has {status.st_size:,} bytes, more than the {limit:,} that such a file has: fetch it again."
            )
        yield stack.enter_context(open(descriptor, "rb", closefd=False)), status.st_size


def stamp(path: Path) -> tuple[str, int, int]:
    """What a file is known by until it changes: its path, size and time of change. Raises `DataError` for no file."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} cannot be read ({cause}): make it a readable file.") from None
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def digests(path: Path, limit: int) -> Digests:
    """The checksums of a file, computed once as long as it does not change. Raises `DataError` as `opened` does."""
    return _digests(stamp(path), limit)


@functools.lru_cache(maxsize=64)
def _digests(of_file: tuple[str, int, int], limit: int) -> Digests:
    of_all = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with opened(Path(of_file[0]), limit) as (file, _):
        while piece := file.read(PIECE):
            for digest in of_all:
                digest.update(piece)
    return Digests(*(digest.hexdigest() for digest in of_all))


def archive(title: str, url: str, sha256: str, holds: str) -> Path:
    """The official archive in the user's cache; a download that breaks off goes on from there the next time.

    `holds` is the folder in it. Raises `DataError` when it cannot be fetched or is another than the published one.
    """
    by_hand = f"unpack {url} by hand and set ISONB_DATA to the folder that holds {holds}."
    folder, name = Path(pooch.os_cache("isonb")), Path(url).name
    if os.path.lexists(folder / name) and not (folder / name).is_file():
        raise DataError(f"{folder / name} is not a regular file: remove it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f"{name}.lock"):  # the ranks of one host share the cache
            return Path(pooch.retrieve(url, f"sha256:{sha256}", name, folder, downloader=download.resume))
    except (OSError, NotImplementedError) as error:  # the latter where a file system knows no locks
        cause = f"{error.filename}: {error.strerror}" if getattr(error, "filename", None) else type(error).__name__
        raise DataError(f"{title} could not be downloaded ({cause}): try again, or {by_hand}") from None
    except ValueError:
        raise DataError(f"The downloaded {title} archive has a wrong checksum: try again, or {by_hand}") from None
