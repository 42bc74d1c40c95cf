"""Pictures that were decoded once, kept in the user's cache: the first process writes them, every other one maps them.

An entry is a folder: `pixels.npy`, `about.npy` with a row for each picture, and `about.json` with the checksums of the
two, written last. Whatever is damaged or cut counts as missing. The cache may be deleted at any time.

Book: chapter "Data".
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import filelock
import numpy as np
import pooch

from isonb import disk

HEADER = 2**16  # bytes, more than a .npy file needs beside its numbers, and than `about.json` has
FACTS = "facts"

Numbers = slice | np.ndarray
Chunk = tuple[Numbers, np.ndarray, np.ndarray]  # numbers of some pictures, their pixels_BNC, and a row about each


class Request(Protocol):
    """Pictures that are needed: where their entry lies, their number and size, and how they are decoded."""

    @property
    def folder(self) -> Path:
        """The entry, whose name hangs on all that the pictures hang on."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of their pixels: B, N, C."""

    @property
    def about(self) -> np.dtype:
        """What is kept of each picture beside its pixels."""

    def decoded(self, facts: dict[str, str]) -> Iterator[Chunk]:
        """The pictures in chunks; what is to be kept of them all, as checksums of files, is put into `facts`."""


class Kept(NamedTuple):
    """The pictures by number, their pixels a memory map where the cache could be used; see `Request`."""

    pixels_BNC: np.ndarray
    about_B: np.ndarray
    facts: dict[str, str]


class About(NamedTuple):
    """The same without the pixels."""

    about_B: np.ndarray
    facts: dict[str, str]


def folder(kind: str, *key: object) -> Path:
    """The entry of pictures of a kind that hang on everything in `key`."""
    digest = hashlib.sha256(repr(key).encode()).hexdigest()
    return Path(pooch.os_cache("isonb")) / kind / digest[:32]


def read(request: Request) -> Kept:
    """The pictures, from the cache if they are there, else decoded and written to it.

    Warns where the cache cannot be used, and decodes them in memory. Raises what decoding them raises.
    """
    if kept := _read(request):
        return kept
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(request.folder / "lock"):  # the ranks of one host share the cache
            if kept := _read(request):
                return kept
            _write(request)
            if kept := _read(request):
                return kept
        cause = "what was written cannot be read back"
    except (OSError, NotImplementedError) as error:  # the latter where a file system knows no locks
        cause = getattr(error, "strerror", None) or str(error)
    warnings.warn(
        f"The cache {request.folder} cannot be used ({cause}): every process decodes the pictures in its own memory.",
        stacklevel=3,
    )
    kept = Kept(np.empty(request.shape, np.uint8), np.empty(request.shape[0], request.about), {})
    for numbers, pixels_BNC, about_B in request.decoded(kept.facts):
        kept.pixels_BNC[numbers], kept.about_B[numbers] = pixels_BNC, about_B
    return kept


def about(request: Request) -> About | None:
    """What is kept of the pictures beside their pixels, None where it is missing or damaged."""
    try:
        content = disk.read_bytes(request.folder / "about.npy", request.about.itemsize * request.shape[0] + HEADER)
        sums = _sums(request)
        if hashlib.sha256(content).hexdigest() != sums["about.npy"]:
            return None
        facts = sums.get(FACTS, {})
        if facts and sums[f"{FACTS} sha256"] != _digest(facts):
            return None
        about_B = np.load(io.BytesIO(content))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return About(about_B, facts) if (about_B.shape, about_B.dtype) == (request.shape[:1], request.about) else None


def _read(request: Request) -> Kept | None:
    """The pictures from the cache, None where they are missing or damaged. Writing to them never reaches the disk."""
    beside, pixels = about(request), request.folder / "pixels.npy"
    try:
        if beside is None or not _has_length(pixels, math.prod(request.shape)):
            return None
        with pixels.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != _sums(request)["pixels.npy"]:
                return None
        pixels_BNC = np.load(pixels, mmap_mode="c")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_whole = (pixels_BNC.shape, pixels_BNC.dtype) == (request.shape, np.uint8)
    return Kept(pixels_BNC, *beside) if is_whole else None


def _sums(request: Request) -> dict[str, str]:
    return disk.read_json(request.folder / "about.json", HEADER)


def _digest(facts: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _has_length(path: Path, count: int) -> bool:
    """Whether a file is one of so many bytes and a header: a longer one is not even hashed."""
    return path.is_file() and count < path.stat().st_size < count + HEADER


def _write(request: Request) -> None:
    """Decode the pictures into the cache. `about.json` is written last: without it an entry counts as missing."""
    place, about_B, facts = request.folder, np.empty(request.shape[0], request.about), {}
    pixels, temporary = place / "pixels.npy", place / "pixels.part"
    for path in (place / "about.json", temporary):
        path.unlink(missing_ok=True)
    try:
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": request.shape})
            start = file.tell()
            for numbers, pixels_BNC, about_chunk_B in request.decoded(facts):
                about_B[numbers] = about_chunk_B
                _put(file, start, numbers, pixels_BNC)
        temporary.replace(pixels)  # processes that have mapped an older one keep that
    finally:
        temporary.unlink(missing_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, about_B)
    disk.write_atomically(place / "about.npy", buffer.getvalue())
    with pixels.open("rb") as file:
        of_pixels = hashlib.file_digest(file, "sha256").hexdigest()
    sums = {pixels.name: of_pixels, "about.npy": hashlib.sha256(buffer.getvalue()).hexdigest()}
    of_all = {FACTS: facts, f"{FACTS} sha256": _digest(facts)} if facts else {}
    disk.write_atomically(place / "about.json", json.dumps(sums | of_all).encode())


def _put(file: BinaryIO, start: int, numbers: Numbers, pixels_BNC: np.ndarray) -> None:
    """Write some pictures where their numbers say: in one piece those that follow each other."""
    step = pixels_BNC[:1].nbytes
    if isinstance(numbers, slice):
        file.seek(start + numbers.start * step)
        file.write(pixels_BNC)
        return
    for number, picture_NC in zip(numbers.tolist(), pixels_BNC, strict=True):
        file.seek(start + number * step)
        file.write(picture_NC)
