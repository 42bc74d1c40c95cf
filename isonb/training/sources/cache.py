"""Decoded pictures of a folder: how each file becomes a square, and the checksum of all of them.

An entry of the cache (`kept`) is found by a digest of the paths, sizes and modification times of all files and of how
they were decoded, so that a changed folder never gets the pictures of an old one.

Book: chapter "Data".
"""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from tqdm import tqdm

from isonb import draws
from isonb.training.sources import POOL_SEED, kept, squares
from isonb.training.sources.tree import Tree

CHUNK = 1024  # pictures in memory before they are written
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

    @property
    def about(self) -> np.dtype:
        """`ABOUT`."""
        return ABOUT

    @functools.cached_property
    def folder(self) -> Path:
        """The cache entry."""
        how = squares.VERSION, PIL.__version__, self.size, self.fit
        return kept.folder("folders", how, self.order_B.tolist(), self.tree.files)

    def decoded(self, facts: dict[str, str]) -> Iterator[kept.Chunk]:
        """The pictures in chunks; nothing is said of them all."""
        return _decoded(self)


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
    pixels_BNC, about_B, _ = kept.read(request)
    return Decoded(pixels_BNC, about_B, _sha256(request, about_B))


def sha256(request: Request) -> str:
    """One SHA-256 for all files: of the lines that sha256sum prints for them, sorted by path. Nothing is decoded.

    Raises `DataError` when a file cannot be read.
    """
    beside = kept.about(request)
    return _of_files(request.tree) if beside is None else _sha256(request, beside.about_B)


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
