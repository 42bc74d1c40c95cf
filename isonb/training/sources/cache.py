"""Decoded pictures, kept in the user's cache: the first process decodes them, every other one maps the same memory.

An entry is found by a digest of the paths, sizes and modification times of all files and of how they were decoded, so
that a changed folder never gets the pictures of an old one. The cache may be deleted at any time.

Book: chapter "Data".
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import PIL
import pooch
from tqdm import tqdm

from isonb import disk, draws
from isonb.training.sources import POOL_SEED, squares
from isonb.training.sources.tree import Tree

CHUNK = 1024  # pictures in memory before they are written
HEADER = 2**16  # bytes, more than a .npy file needs beside its numbers, and than `about.json` has
THREADS = 8  # at most, as each may hold a picture of the largest size
# What is kept of each picture beside its pixels; see `squares.Square`.
ABOUT = np.dtype([("sha256", np.uint8, 32), ("content", np.uint64), ("is_enlarged", np.bool_)])


@dataclass(frozen=True)
class Request:
    """Which pictures are needed: number i is file `order_B[i]` of the tree, made `size` by `size`; `fit` says how."""

    tree: Tree
    order_B: np.ndarray
    size: int
    fit: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of their pixels: B, N, C."""
        return len(self.order_B), self.size**2, 3

    @functools.cached_property
    def folder(self) -> Path:
        """The cache entry."""
        how = squares.VERSION, PIL.__version__, self.size, self.fit
        key = hashlib.sha256(repr((how, self.order_B.tolist(), self.tree.files)).encode())
        return Path(pooch.os_cache("isonb")) / "folders" / key.hexdigest()[:32]


@dataclass(frozen=True)
class Decoded:
    """The pictures by number: their pixels, a memory map where the cache could be used, and `ABOUT` each of them.

    `sha256` is that of the function `sha256`.
    """

    pixels_BNC: np.ndarray
    about_B: np.ndarray
    sha256: str


def read(request: Request) -> Decoded:
    """The pictures, from the cache if they are there, else decoded and written to it.

    Warns where the cache cannot be used, and decodes them in memory. Raises `DataError` when a picture cannot be read.
    """
    if kept := _kept(request):
        return kept
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(request.folder / "lock"):  # the ranks of one host share the cache
            if kept := _kept(request):
                return kept
            _keep(request)
            if kept := _kept(request):
                return kept
        cause = "what was written cannot be read back"
    except (OSError, NotImplementedError) as error:  # the latter where a file system knows no locks
        cause = getattr(error, "strerror", None) or str(error)
    warnings.warn(
        f"The cache {request.folder} cannot be used ({cause}): every process decodes the pictures in its own memory.",
        stacklevel=2,
    )
    pixels_BNC, about_B = np.empty(request.shape, np.uint8), np.empty(len(request.order_B), ABOUT)
    for numbers, chunk_BNC, about_chunk_B in _decoded(request):
        pixels_BNC[numbers], about_B[numbers] = chunk_BNC, about_chunk_B
    return Decoded(pixels_BNC, about_B, _sha256(request, about_B))


def sha256(request: Request) -> str:
    """One SHA-256 for all files: of the lines that sha256sum prints for them, sorted by path. Nothing is decoded.

    Raises `DataError` when a file cannot be read.
    """
    about_B = _kept_about(request)
    return _of_files(request.tree) if about_B is None else _sha256(request, about_B)


@functools.lru_cache(maxsize=4)
def _of_files(tree: Tree) -> str:
    paths = (tree.folder / file.path for file in tree.files)
    with ThreadPoolExecutor(_threads()) as pool:
        return _of_lines(tree, pool.map(lambda path: hashlib.sha256(squares.content(path)).digest(), paths))


def _sha256(request: Request, about_B: np.ndarray) -> str:
    by_file_B = np.empty_like(about_B["sha256"])
    by_file_B[request.order_B] = about_B["sha256"]
    return _of_lines(request.tree, map(bytes, by_file_B))


def _of_lines(tree: Tree, digests: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for file, digest in zip(tree.files, digests, strict=True):
        whole.update(f"{digest.hex()}  ".encode() + os.fsencode(file.path) + b"\n")
    return whole.hexdigest()


def _kept(request: Request) -> Decoded | None:
    """The pictures from the cache, None where they are missing or damaged. Writing to them never reaches the disk."""
    about_B, pixels = _kept_about(request), request.folder / "pixels.npy"
    try:
        if about_B is None or not _has_length(pixels, math.prod(request.shape)):
            return None
        with pixels.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != _checksums(request)["pixels.npy"]:
                return None
        pixels_BNC = np.load(pixels, mmap_mode="c")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_whole = (pixels_BNC.shape, pixels_BNC.dtype) == (request.shape, np.uint8)
    return Decoded(pixels_BNC, about_B, _sha256(request, about_B)) if is_whole else None


def _kept_about(request: Request) -> np.ndarray | None:
    """`ABOUT` each picture from the cache, None where it is missing or damaged."""
    try:
        content = disk.read_bytes(request.folder / "about.npy", ABOUT.itemsize * len(request.order_B) + HEADER)
        if hashlib.sha256(content).hexdigest() != _checksums(request)["about.npy"]:
            return None
        about_B = np.load(io.BytesIO(content))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return about_B if (about_B.shape, about_B.dtype) == (request.order_B.shape, ABOUT) else None


def _checksums(request: Request) -> dict[str, str]:
    return disk.read_json(request.folder / "about.json", HEADER)


def _has_length(path: Path, count: int) -> bool:
    """Whether a file is one of so many bytes and a header: a longer one is not even hashed."""
    return path.is_file() and count < path.stat().st_size < count + HEADER


def _keep(request: Request) -> None:
    """Decode the pictures into the cache. `about.json` is written last: without it an entry counts as missing."""
    folder, about_B = request.folder, np.empty(len(request.order_B), ABOUT)
    pixels, about, temporary = folder / "pixels.npy", folder / "about.npy", folder / "pixels.part"
    for path in (folder / "about.json", temporary):
        path.unlink(missing_ok=True)
    try:
        with temporary.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": request.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for numbers, chunk_BNC, about_chunk_B in _decoded(request):
                about_B[numbers] = about_chunk_B
                file.write(chunk_BNC)
        temporary.replace(pixels)  # processes that have mapped an older one keep that
    finally:
        temporary.unlink(missing_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, about_B)
    disk.write_atomically(about, buffer.getvalue())
    with pixels.open("rb") as file:
        of_pixels = hashlib.file_digest(file, "sha256").hexdigest()
    contents = {pixels.name: of_pixels, about.name: hashlib.sha256(buffer.getvalue()).hexdigest()}
    disk.write_atomically(folder / "about.json", json.dumps(contents).encode())


def _decoded(request: Request) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """The pictures in chunks: their numbers, their pixels_BNC, and `ABOUT` each of them."""
    count, tree = len(request.order_B), request.tree
    corner_B2 = np.stack([draws.uniform(POOL_SEED, f"folder/{side}", np.arange(count)) for side in ("top", "left")], 1)

    def decode(numbers: range) -> None:
        for number in numbers:
            path = tree.folder / tree.files[request.order_B[number]].path
            square = squares.read(path, request.size, tuple(corner_B2[number]) if request.fit == "crop" else None)
            chunk_BNC[number - first] = square.pixels_HWC.reshape(-1, 3)
            row = np.frombuffer(square.sha256, np.uint8), square.content, square.is_enlarged
            about_B[number - first] = row

    threads = _threads()
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(desc=f"Decoding {tree.folder.name}", total=count, unit="pictures", disable=None) as bar,
    ):
        for first in range(0, count, CHUNK):
            end = min(first + CHUNK, count)
            chunk_BNC, about_B = np.empty((end - first, *request.shape[1:]), np.uint8), np.empty(end - first, ABOUT)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's, about flaws that it works around; others are errors
                for _ in pool.map(decode, [range(first + thread, end, threads) for thread in range(threads)]):
                    pass
            yield slice(first, end), chunk_BNC, about_B
            bar.update(end - first)


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(THREADS, cores)
