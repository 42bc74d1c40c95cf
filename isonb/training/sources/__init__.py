"""Where images come from: one module and one row in `isonb.rows` per source. No torch here: arrays, and memory maps.

Book: chapter "Data".
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from isonb import draws, rows, subsets
from isonb.config import RunConfig

POOL_SEED = 0  # fixed: crops and splits are the same in every run, whatever the run's seed


class DataError(ValueError):
    """Images that cannot be read; its message is one sentence that says what was wrong and what to do."""


@dataclass(frozen=True)
class Pictures:
    """Images in raster order (uint8, maybe a memory map), their classes, and the numbers of those that are meant.

    Shapes B, N, C and B for all images of the source's part. `index_S` are the rows that belong to the split, in
    ascending order, and at the same time the numbers of its images, which stay the same in every subset, so that masks,
    crops and augmentations can be functions of them. The arrays are the caller's own: no other call returns them.

    `whole_S` are the rows of which `index_S` are a share, where they are one; `content_B` is a hash of each picture
    before it was resized, where it was. A label is -1 where nobody has given one, or where its class is not meant.
    """

    pixels_BNC: np.ndarray
    labels_B: np.ndarray
    index_S: np.ndarray
    whole_S: np.ndarray | None = None
    content_B: np.ndarray | None = None

    @property
    def is_labelled(self) -> bool:
        """Whether the images have classes."""
        return bool((self.labels_B[self.index_S] >= 0).any())


@dataclass(frozen=True)
class Found:
    """What a source has read: three splits, class names, the SHA-256 of what was read, and what a record says of it.

    `name`, `official` and `remarks` are those of `isonb.schema.Data`.
    """

    name: str
    classes: tuple[str, ...]
    train: Pictures
    validation: Pictures
    test: Pictures
    sha256: dict[str, str]
    official: bool | None = None
    remarks: tuple[str, ...] = ()


class Source(Protocol):
    """What a row of `isonb.rows.SOURCES` leads to."""

    def load(self, run: RunConfig, folder: Path | None) -> Found:
        """The images of a run, looked for in `folder`, else in ISONB_DATA.

        Raises `DataError` when files are missing, damaged or of another format.
        """

    def name_of(self, run: RunConfig, folder: Path | None) -> str:
        """What records call the images that `load` would read; empty where there are none."""

    def checksums(self, run: RunConfig, folder: Path | None) -> dict[str, str]:
        """The `sha256` that `load` would give, without decoding anything; empty where nothing is at hand to compare."""


def load(run: RunConfig, folder: Path | None = None) -> Found:
    """The images of a run, of its classes alone where it names some, which are then numbered from 0 in their order.

    `folder` is the one for every source, or names one for each, as `cifar10=/a,stl10=/b`; ISONB_DATA is the other
    place. Raises `DataError` when files are missing, damaged or of another format, and for a class that is not there.
    """
    found = rows.SOURCES[run.data].load().load(run, _own(run, folder))
    if words := _in_words(run):
        found = dataclasses.replace(found, name=f"{found.name}{words}")
    kept = np.array(subsets.numbers(run.classes), dtype=int)
    if not len(kept):
        return found
    if kept[-1] >= len(found.classes):
        raise DataError(f"{found.name} has the classes 0 to {len(found.classes) - 1} only: name some of these.")
    new_K = np.full(len(found.classes), -1)
    new_K[kept] = np.arange(len(kept))
    splits = {name: _of_classes(getattr(found, name), new_K) for name in ("train", "validation", "test")}
    return dataclasses.replace(found, classes=tuple(found.classes[number] for number in kept), **splits)


def name_of(run: RunConfig, folder: Path | None = None) -> str:
    """What records call the images that `load` would read; empty where there are none."""
    name = rows.SOURCES[run.data].load().name_of(run, _own(run, folder))
    return f"{name}{_in_words(run)}" if name else ""


def checksums(run: RunConfig, folder: Path | None = None) -> dict[str, str]:
    """The `sha256` that `load` would give, without decoding anything; empty where nothing is at hand to compare."""
    return rows.SOURCES[run.data].load().checksums(run, _own(run, folder))


def _in_words(run: RunConfig) -> str:
    return subsets.in_words(run.classes, run.fold, run.unlabelled)


def _own(run: RunConfig, folder: Path | None) -> Path | None:
    """The folder of a run's own source, where a setting names one for each."""
    folders = subsets.folders(str(folder)) if folder else None
    return folder if folders is None else Path(folders[run.data]) if run.data in folders else None


def _of_classes(pictures: Pictures, new_K: np.ndarray) -> Pictures:
    """The pictures of those classes that have a new number."""
    labels_B = new_K[pictures.labels_B]
    whole_S = None if pictures.whole_S is None else pictures.whole_S[labels_B[pictures.whole_S] >= 0]
    index_S = pictures.index_S[labels_B[pictures.index_S] >= 0]
    return dataclasses.replace(pictures, labels_B=labels_B, index_S=index_S, whole_S=whole_S)


def at_hand(folder: Path | None) -> tuple[str, Path] | None:
    """What names the folder of images, in words, and that folder; None where neither it nor ISONB_DATA is set."""
    named = folder or os.environ.get("ISONB_DATA")
    return ("ISONB_DATA" if folder is None else "The data folder", Path(named).expanduser()) if named else None


def share(index_S: np.ndarray, fraction: float) -> np.ndarray:
    """A fixed share of the images, at least one, in their order; a smaller share lies inside every larger one."""
    kept = max(1, round(fraction * len(index_S)))
    return np.sort(index_S[draws.permutation(POOL_SEED, "data fraction", len(index_S))[:kept]])


def part(count: int, fraction: float) -> int:
    """How many of `count` images are held out: at least one, and not all."""
    return min(max(round(fraction * count), 1), count - 1)
