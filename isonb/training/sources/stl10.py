"""STL-10 in its binary version: 96 by 96 pixels, few of them labelled, in ten folds, and 100 000 without a label.

A file of images holds for each of them the red, green and blue plane, column by column; one of labels a byte, from 1.
Every image is shrunk by area averaging, once: the cache keeps the small ones.

With `fold`, the training and validation images are those of one of the ten published folds of 1000; with `unlabelled`
they are those without a label, numbered in a fixed random order. The test images are the labelled ones in every case.

Book: chapter "Data".
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from isonb import draws
from isonb.config import RunConfig
from isonb.training.sources import POOL_SEED, DataError, Found, Pictures, at_hand, fetched, kept, part, share, squares

TITLE = "STL-10"
SIDE = 96
RECORD = 3 * SIDE**2  # bytes of an image: its red, green and blue planes, each column by column
CHUNK = 512  # images in memory before they are written
LARGEST = 2**32  # bytes of a file; the largest published one has 2.8 billion
LARGEST_TEXT = 2**20  # bytes of a list of labels, names or numbers; the largest published one has 49 000
URL = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
FOLDER = "stl10_binary"
# By this SHA-256 TensorFlow Datasets checks the archive (url_checksums/stl10.txt); by these MD5 torchvision checks its
# files (datasets/stl10.py), the counts are those of https://cs.stanford.edu/~acoates/stl10. The page itself has none.
SHA256 = "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866"
MD5 = {
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
    "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
}
COUNTS = {"train_X.bin": 5_000, "test_X.bin": 8_000, "unlabeled_X.bin": 100_000}
NAMES, FOLDS = "class_names.txt", "fold_indices.txt"
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
ABOUT = np.dtype([("content", np.uint64)])  # a hash of each image as it was published
VERSION = 1  # of the decoding; raise it when any image comes out differently, so that the cache is made anew


@dataclass(frozen=True)
class Place:
    """Where the files are: a folder, or the archive as it was downloaded, of which nothing is unpacked."""

    path: Path

    @property
    def is_archive(self) -> bool:
        """True where it is the archive."""
        return self.path.is_file()

    def source(self, name: str) -> Path:
        """The file on the disk in which the named one is."""
        return self.path if self.is_archive else self.path / name

    def has(self, name: str) -> bool:
        """Whether the named file is there; the archive has all of them."""
        return self.is_archive or os.path.lexists(self.path / name)

    def count(self, name: str) -> int:
        """How many images a file has. Raises `DataError` where that is no whole number of them."""
        if self.is_archive:
            return COUNTS[name]
        with fetched.opened(self.path / name, LARGEST) as (_, size):
            if not size:
                raise DataError(f"{self.path / name} is empty: fetch it again.")
            if size % RECORD:
                wrong = f"{size} bytes, no whole number of {RECORD}-byte images"
                raise DataError(f"{self.path / name} has {wrong}: it is truncated or not STL-10's, so fetch it again.")
            return size // RECORD

    @contextlib.contextmanager
    def opened(self, name: str, limit: int) -> Iterator[BinaryIO]:
        """A file to read from its start. Raises `DataError` where it is missing or no file."""
        if not self.is_archive:
            with fetched.opened(self.path / name, limit) as (file, _):
                yield file
            return
        try:
            with tarfile.open(self.path, "r:gz") as archive:
                members = (one for one in archive if Path(one.name) == Path(FOLDER, name))
                member = next(members, None)
                if member is None or not member.isreg() or member.size > limit:
                    raise DataError(f"{self.path} holds no {name} as it is published: delete it.")
                yield archive.extractfile(member)
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.path} cannot be unpacked ({error}): delete it.") from None

    def read(self, name: str) -> bytes:
        """The content of a small file."""
        with self.opened(name, LARGEST_TEXT) as file:
            return file.read()


@dataclass(frozen=True)
class Request:
    """The images of one file, made `size` by `size`; in a fixed random order where they `are_mixed`."""

    place: Place
    name: str
    size: int
    are_mixed: bool = False
    about: np.dtype = ABOUT

    @functools.cached_property
    def shape(self) -> tuple[int, int, int]:
        """The shape of their pixels: B, N, C."""
        return self.place.count(self.name), self.size**2, 3

    @functools.cached_property
    def folder(self) -> Path:
        """The cache entry: of this file, as long as it does not change."""
        return kept.folder("stl10", VERSION, self.name, fetched.stamp(self.place.source(self.name)), self.size)

    def decoded(self, facts: dict[str, str]) -> Iterator[kept.Chunk]:
        """The images in chunks, and into `facts` the checksums of the file that they came from."""
        count = self.shape[0]
        number_B = draws.permutation(POOL_SEED, f"stl10/{self.name}", count) if self.are_mixed else np.arange(count)
        of_all = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        with (
            self.place.opened(self.name, LARGEST) as file,
            tqdm(desc=f"Shrinking {self.name}", total=count, unit="images", disable=None) as bar,
        ):
            for first in range(0, count, CHUNK):
                content = file.read(min(CHUNK, count - first) * RECORD)
                if len(content) != min(CHUNK, count - first) * RECORD:
                    raise DataError(f"{self.place.source(self.name)} ends in the middle of an image: fetch it again.")
                for digest in of_all:
                    digest.update(content)
                planes_BCWH = np.frombuffer(content, np.uint8).reshape(-1, 3, SIDE, SIDE)
                hashes = (hashlib.blake2b(planes_CWH, digest_size=8).digest() for planes_CWH in planes_BCWH)
                about_B = np.frombuffer(b"".join(hashes), ABOUT)
                small_BHWC = squares.shrink_all(planes_BCWH.transpose(0, 3, 2, 1), self.size)
                numbers = slice(first, first + len(about_B)) if not self.are_mixed else number_B[first:][: len(about_B)]
                yield numbers, np.ascontiguousarray(small_BHWC.reshape(len(about_B), -1, 3)), about_B
                bar.update(len(about_B))
        facts |= {"sha256": of_all[0].hexdigest(), "md5": of_all[1].hexdigest()}


def load(run: RunConfig, folder: Path | None = None) -> Found:
    """The images at hand in `folder`, else in ISONB_DATA, else all of them by a download.

    Raises `DataError` when files are missing, damaged or of another format, or when the download fails.
    """
    place = _find(folder) or Place(fetched.archive(TITLE, URL, SHA256, FOLDER))
    sums: dict[str, fetched.Digests] = {}
    test = _pictures(place, "test", run, sums)
    learnt = _pictures(place, "unlabeled" if run.unlabelled else "train", run, sums)
    candidates_B = _fold(place, run.fold, len(learnt.index_S), sums) if run.fold else learnt.index_S
    if len(candidates_B) < 2:
        raise DataError(f"{place.path} holds one training image: at least two are needed, one of them to validate.")
    order_B = candidates_B
    if not run.unlabelled:  # those are in a random order already, and their training images stay in one piece
        order_B = candidates_B[draws.permutation(POOL_SEED, "stl10/validation", len(candidates_B))]
    held_out = part(len(order_B), run.validation_fraction)
    train_S = order_B[held_out:]
    if run.unlabelled:
        train_S = train_S[: max(1, round(run.data_fraction * len(train_S)))]
    else:
        train_S = share(np.sort(train_S), run.data_fraction)
    return Found(
        name=name_of(run, folder),
        classes=_class_names(place, sums),
        train=Pictures(learnt.pixels_BNC, learnt.labels_B, train_S, content_B=learnt.content_B),
        validation=Pictures(
            learnt.pixels_BNC, learnt.labels_B, np.sort(order_B[:held_out]), content_B=learnt.content_B
        ),
        test=test,
        sha256={name: sums[name].sha256 for name in sorted(sums)},
        official=all(MD5.get(name, of_file.md5) == of_file.md5 for name, of_file in sums.items()),
    )


def name_of(run: RunConfig, folder: Path | None = None) -> str:
    """The data set's, whole or in part."""
    return "stl10"


def checksums(run: RunConfig, folder: Path | None = None) -> dict[str, str]:
    """The SHA-256 of each file at hand that `load` would read; empty where one is missing or cannot be read."""
    named = at_hand(folder)
    path = _place(named[1]) if named else None
    if path is None:
        return {}
    place, parts = Place(path), ["test", "unlabeled" if run.unlabelled else "train"]
    small = [*(f"{name}_y.bin" for name in parts if name != "unlabeled"), *([FOLDS] if run.fold else [])]
    small += [NAMES] if place.has(NAMES) else []
    try:
        of_images = {f"{name}_X.bin": _request(place, name, run) for name in parts}
        sums = {name: _sums_of(request).sha256 for name, request in of_images.items()}
        sums |= {name: fetched.digests(place.path / name, LARGEST_TEXT).sha256 for name in small}
    except DataError:
        return {}
    return {name: sums[name] for name in sorted(sums)}


def _request(place: Place, name: str, run: RunConfig) -> Request:
    return Request(place, f"{name}_X.bin", run.image_size, are_mixed=name == "unlabeled")


def _sums_of(request: Request) -> fetched.Digests:
    """The checksums of a file of images, out of the cache where they are there."""
    beside = kept.about(request)
    if beside and {"sha256", "md5"} <= beside.facts.keys():
        return fetched.Digests(beside.facts["sha256"], beside.facts["md5"])
    return fetched.digests(request.place.source(request.name), LARGEST)


def _pictures(place: Place, name: str, run: RunConfig, sums: dict[str, fetched.Digests]) -> Pictures:
    """All images of a file, with their labels from 0, or -1; `sums` gets the checksums of what was read."""
    for needed in (f"{name}_X.bin", *([] if name == "unlabeled" else [f"{name}_y.bin"])):
        if not place.has(needed):
            raise DataError(f"{place.path / needed} is missing: put it beside the other files of {TITLE}.")
    request = _request(place, name, run)
    pixels_BNC, about_B, facts = kept.read(request)
    sums[request.name] = fetched.Digests(facts["sha256"], facts["md5"])
    labels_B = np.full(len(about_B), -1)
    if name != "unlabeled":
        labels_B = _labels(place, f"{name}_y.bin", len(about_B), sums)
    return Pictures(pixels_BNC, labels_B, np.arange(len(about_B)), content_B=about_B["content"])


def _labels(place: Place, name: str, count: int, sums: dict[str, fetched.Digests]) -> np.ndarray:
    labels_B = np.frombuffer(_text(place, name, sums), np.uint8).astype(np.int64) - 1
    where = place.source(name)
    if len(labels_B) != count:
        raise DataError(f"{where} has {len(labels_B)} labels for {count} images: fetch it again.")
    if (wrong_B := (labels_B < 0) | (labels_B >= len(CLASSES))).any():
        number = int(np.argmax(wrong_B))
        label = labels_B[number] + 1
        raise DataError(f"{where} has label {label} at {number}, not one of 1 to {len(CLASSES)}: fetch it again.")
    return labels_B


def _fold(place: Place, fold: int, count: int, sums: dict[str, fetched.Digests]) -> np.ndarray:
    """The numbers of the training images of a fold, ascending."""
    if not place.has(FOLDS):
        raise DataError(f"{place.path / FOLDS} is missing, which says what fold={fold} is: put it beside the others.")
    where, text = place.source(FOLDS), _text(place, FOLDS, sums).decode(errors="replace")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) < fold or not all(word.isascii() and word.isdigit() and len(word) < 9 for word in lines[fold - 1]):
        raise DataError(f"{where} has no list of numbers in line {fold}: fetch it again.")
    numbers_B = np.unique(np.array(lines[fold - 1], dtype=np.int64))
    if numbers_B[-1] >= count:
        raise DataError(f"{where} names image {numbers_B[-1]} of {count}, which are numbered from 0: fetch both again.")
    return numbers_B


def _class_names(place: Place, sums: dict[str, fetched.Digests]) -> tuple[str, ...]:
    """Those of the file, or the published ones where that is missing."""
    if not place.has(NAMES):
        return CLASSES
    text = _text(place, NAMES, sums).decode(errors="replace")
    names = tuple(text.split())
    if len(names) != len(CLASSES) or "\N{REPLACEMENT CHARACTER}" in text or not "".join(names).isprintable():
        raise DataError(f"{place.source(NAMES)} is not a list of {len(CLASSES)} names: fetch it again.")
    return names


def _text(place: Place, name: str, sums: dict[str, fetched.Digests]) -> bytes:
    content = place.read(name)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    sums[name] = fetched.Digests(hashlib.sha256(content).hexdigest(), md5)
    return content


def _find(folder: Path | None) -> Place | None:
    """Where the files are, None when neither `folder` nor ISONB_DATA is set."""
    root = fetched.root(folder, FOLDER)
    if root is None:
        return None
    if path := _place(root):
        return Place(path)
    raise DataError(
        f"{at_hand(folder)[0]} {str(root)!r} holds no {TITLE}, neither train_X.bin nor a folder {FOLDER} with it: "
        f"unpack {URL} there."
    )


def _place(root: Path) -> Path | None:
    """The folder itself or the one below it that the archive makes, whichever holds images."""
    places = (root, root / FOLDER)
    return next((place for place in places if any(os.path.lexists(place / name) for name in COUNTS)), None)
