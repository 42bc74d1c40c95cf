"""ImageNet 32x32 in its npz files: ten shards to train and validate on, and ImageNet's validation images for the test.

A shard holds `data`, a row of 3072 bytes for each image (the red, green and blue planes, each row by row), and `labels`
from 1. The images are too many to hold in memory: they are written once into the cache, in a fixed random order, and
drawn by number from the file there. Training images are then in one piece of it, wherever it is cut.

The files are behind a login on https://image-net.org/download-images and are not fetched.

Book: chapter "Data".
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from isonb import draws
from isonb.config import RunConfig
from isonb.training.sources import POOL_SEED, DataError, Found, Pictures, at_hand, fetched, kept, part

TITLE = "ImageNet 32x32"
PAGE = "https://image-net.org/download-images"
SIDE = 32
RECORD = 3 * SIDE**2  # bytes of an image
CLASSES = 1_000
CHUNK = 4_096  # images in memory before they are written
MOST = 2_000_000  # images of a shard; the published ones have 128 117
LARGEST = 2**33  # bytes of a file; the largest published one has 400 million
TRAIN = tuple(f"train_data_batch_{number}.npz" for number in range(1, 11))
TEST = ("val_data.npz",)
FOLDERS = ("", "Imagenet32_train_npz", "Imagenet32_val_npz", "imagenet32")  # as the archives make them, or of one's own
ABOUT = np.dtype([("content", np.uint64), ("label", np.uint16)])  # a hash of the image, and its label from 0
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}  # by version
VERSION = 1  # of the decoding; raise it when any image comes out differently, so that the cache is made anew


@dataclass(frozen=True)
class Request:
    """The images of some shards, in a fixed random order."""

    paths: tuple[Path, ...]
    about: np.dtype = ABOUT

    @functools.cached_property
    def counts(self) -> tuple[int, ...]:
        """How many images each shard has."""
        return tuple(map(_count, self.paths))

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of their pixels: B, N, C."""
        return sum(self.counts), SIDE**2, 3

    @functools.cached_property
    def folder(self) -> Path:
        """The cache entry: of these files, as long as they do not change."""
        return kept.folder("imagenet32", VERSION, [fetched.stamp(path) for path in self.paths])

    def decoded(self, facts: dict[str, str]) -> Iterator[kept.Chunk]:
        """The images in chunks, and into `facts` the checksum of each file that they came from."""
        number_B, first = draws.permutation(POOL_SEED, f"imagenet32/{self.paths[0].name}", self.shape[0]), 0
        with tqdm(desc=f"Reading {TITLE}", total=self.shape[0], unit="images", disable=None) as bar:
            for path, count in zip(self.paths, self.counts, strict=True):
                facts[path.name] = fetched.digests(path, LARGEST).sha256
                label_B = _labels(path, count)
                for start, record_BR in _records(path, count):
                    end = start + len(record_BR)
                    hashes = (hashlib.blake2b(record_R, digest_size=8).digest() for record_R in record_BR)
                    about_B = np.empty(len(record_BR), ABOUT)
                    about_B["content"] = np.frombuffer(b"".join(hashes), np.uint64)
                    about_B["label"] = label_B[start:end]
                    pixels_BNC = np.ascontiguousarray(record_BR.reshape(-1, 3, SIDE**2).transpose(0, 2, 1))
                    yield number_B[first + start : first + end], pixels_BNC, about_B
                    bar.update(len(record_BR))
                first += count


def load(run: RunConfig, folder: Path | None = None) -> Found:
    """The images at hand in `folder`, else in ISONB_DATA; of the ten shards, those that are there.

    Raises `DataError` when files are missing, damaged or of another format.
    """
    paths = _find(folder)
    learnt, test = (_request(paths, names) for names in (TRAIN, TEST))
    train = kept.read(learnt)
    tested = kept.read(test)
    count = len(train.about_B)
    if count < 2:
        raise DataError(f"{learnt.paths[0]} holds one image: at least two are needed, one of them to validate.")
    held_out = part(count, run.validation_fraction)
    meant = max(1, round(run.data_fraction * (count - held_out)))  # their order is random: the first are a fair share
    pictures = {
        name: Pictures(one.pixels_BNC, one.about_B["label"], np.arange(first, end), content_B=one.about_B["content"])
        for name, one, first, end in (
            ("train", train, held_out, held_out + meant),
            ("validation", train, 0, held_out),
            ("test", tested, 0, len(tested.about_B)),
        )
    }
    return Found(
        name=name_of(run, folder),
        classes=tuple(str(number) for number in range(1, CLASSES + 1)),  # the files have no names for them
        **pictures,
        sha256=dict(sorted((train.facts | tested.facts).items())),
    )


def name_of(run: RunConfig, folder: Path | None = None) -> str:
    """The data set's, whole or in part."""
    return "imagenet32"


def checksums(run: RunConfig, folder: Path | None = None) -> dict[str, str]:
    """The SHA-256 of each file at hand; empty where none is, or one cannot be read."""
    try:
        paths, sums = _find(folder), {}
        for names in (TRAIN, TEST):
            request = _request(paths, names)
            beside = kept.about(request)
            is_known = beside is not None and {path.name for path in request.paths} == beside.facts.keys()
            sums |= beside.facts if is_known else _sums(request.paths)
    except DataError:
        return {}
    return dict(sorted(sums.items()))


def _sums(paths: tuple[Path, ...]) -> dict[str, str]:
    return {path.name: fetched.digests(path, LARGEST).sha256 for path in paths}


def _find(folder: Path | None) -> dict[str, Path]:
    """Where each file is that is there. Raises `DataError` where none is, or no folder is named."""
    root = fetched.root(folder, f"the npz files of {TITLE}")
    if root is None:
        raise DataError(
            f"{TITLE} is not downloaded, as it needs a login: fetch the npz files of 32x32 pixels from {PAGE} and name "
            "their folder in data_folder or in ISONB_DATA."
        )
    places = {name: [root / below / name for below in FOLDERS] for name in (*TRAIN, *TEST)}
    found = {name: next(filter(os.path.lexists, paths), None) for name, paths in places.items()}
    paths = {name: path for name, path in found.items() if path}
    for names in (TRAIN, TEST):
        if not {*names} & paths.keys():
            wanted = f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]
            raise DataError(
                f"{at_hand(folder)[0]} {str(root)!r} holds no {wanted} of {TITLE}, nor does {FOLDERS[1]} or "
                f"{FOLDERS[2]} in it: unpack the npz files from {PAGE} there."
            )
    return paths


def _request(paths: dict[str, Path], names: tuple[str, ...]) -> Request:
    return Request(tuple(paths[name] for name in names if name in paths))


def _count(path: Path) -> int:
    """How many images a shard has."""
    with _array(path, "data") as (_, shape, dtype):
        if len(shape) != 2 or shape[1] != RECORD or dtype != np.uint8 or not 0 < shape[0] <= MOST:
            raise _foreign(path, f"its data are {dtype} of the shape {shape}, not rows of {RECORD} bytes")
        return shape[0]


def _labels(path: Path, count: int) -> np.ndarray:
    """The labels of a shard, from 0."""
    with _array(path, "labels") as (file, shape, dtype):
        if shape != (count,) or dtype.kind not in "iu":
            raise _foreign(path, f"its labels are {dtype} of the shape {shape}, not one for each of {count} images")
        label_B = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    if len(label_B) != count:
        raise _foreign(path, "its labels are cut off")
    if (wrong_B := (label_B < 1) | (label_B > CLASSES)).any():
        number = int(np.argmax(wrong_B))
        raise _foreign(path, f"label {label_B[number]} at {number} is not one of 1 to {CLASSES}")
    return label_B.astype(np.int64) - 1


def _records(path: Path, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of a shard in chunks, each with the number of its first."""
    with _array(path, "data") as (file, _, _):
        for start in range(0, count, CHUNK):
            rows = min(CHUNK, count - start)
            content = file.read(rows * RECORD)
            if len(content) < rows * RECORD:
                raise _foreign(path, "its data are cut off")
            yield start, np.frombuffer(content, np.uint8).reshape(rows, RECORD)


@contextlib.contextmanager
def _array(path: Path, name: str) -> Iterator[tuple[BinaryIO, tuple[int, ...], np.dtype]]:
    """An array of an npz file, to be read from its first number on: the file, its shape and its dtype.

    Nothing is believed: an array of objects, of another order or of another length than its header says is refused,
    and so is damage that shows only while it is read.
    """
    with fetched.opened(path, LARGEST) as (file, _):
        try:
            with zipfile.ZipFile(file) as archive:
                entry = archive.getinfo(f"{name}.npy")
                array = archive.open(entry)
                shape, is_fortran, dtype = HEADERS[np.lib.format.read_magic(array)](array)
                length = math.prod(shape) * dtype.itemsize
                if dtype.hasobject or (is_fortran and len(shape) > 1) or entry.file_size - array.tell() != length:
                    raise _foreign(path, f"its {name} are no plain array")
                yield array, shape, dtype
        except DataError:
            raise
        except Exception as error:  # damaged files make zipfile and numpy raise almost anything
            cause = f"it has no {name}" if isinstance(error, KeyError) else str(error) or type(error).__name__
            raise _foreign(path, cause) from None


def _foreign(path: Path, why: str) -> DataError:
    return DataError(f"{path} is no shard of {TITLE} ({why}): fetch it again.")
