"""Images as 8-bit tensors in three splits, and the order in which a run sees them.

The images come from the sources of `isonb.rows`. Which of them are train, validation and test never depends on a run's
seed, so all runs of a study are compared on the same images; the seed decides their order alone.

Book: chapter "Data".
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from isonb import draws, schema
from isonb.config import Cell, RunConfig
from isonb.training import palette, sources
from isonb.training.sources import DataError as DataError
from isonb.training.sources import Pictures, doubts

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Images in raster order (uint8), their classes (int64), and their numbers within the source (int64).

    The number of an image stays the same in every subset, so that masks and augmentations can be functions of it.
    """

    pixels_BNC: torch.Tensor
    labels_B: torch.Tensor
    index_B: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels_B)


@dataclass(frozen=True)
class Images:
    """The three splits of one data set, and the SHA-256 of everything that was read for them.

    `official` and `remarks` are those of `schema.Data`; `palette_KC` are the colours of its training pixels, for a run
    that reads or predicts them.
    """

    name: str
    classes: tuple[str, ...]
    size: int
    train: Split
    validation: Split
    test: Split
    sha256: dict[str, str]
    official: bool | None = None
    remarks: tuple[str, ...] = ()
    palette_KC: np.ndarray | None = None


class Read(NamedTuple):
    """The images of each part of a cell: the same ones, where its probes or fine-tuning name no others."""

    pretraining: Images
    probe: Images
    finetune: Images


def load(run: RunConfig, folder: Path | None = None) -> Images:
    """The images of a run, looked for in `folder`, else in ISONB_DATA. Warns of all that makes numbers doubtful.

    Raises `DataError` when files are missing, damaged or of another format, when a download fails, and for images by
    which nothing can be judged.
    """
    found = sources.load(run, folder)
    doubts.require_meaning(found)
    remarks = (*found.remarks, *doubts.remarks(found))
    for remark in remarks:
        warnings.warn(remark, stacklevel=2)
    splits = {name: _split(getattr(found, name)) for name in SPLITS}
    return Images(
        name=found.name,
        classes=found.classes,
        size=run.image_size,
        **splits,
        sha256=found.sha256,
        official=found.official,
        remarks=remarks,
        palette_KC=palette.of(splits["train"].pixels_BNC) if run.has_palette else None,
    )


def load_all(cell: Cell, folder: Path | None = None) -> Read:
    """The images of all parts of a cell, each set loaded once. Raises `DataError` as `load` does."""
    loaded = {run: load(run, folder) for run in cell.reads}
    probe, finetune = (loaded.get(cell.run.read_by(part), loaded[cell.run]) for part in (cell.probe, cell.finetune))
    return Read(loaded[cell.run], probe, finetune)


def describe(images: Images) -> schema.Data:
    """What a run read, for its record."""
    return schema.Data(
        name=images.name,
        classes=list(images.classes),
        **{name: len(getattr(images, name)) for name in SPLITS},
        sha256=images.sha256,
        official=images.official,
        remarks=list(images.remarks),
    )


def _split(pictures: Pictures) -> Split:
    """The pictures that are meant; those that follow each other stay where they are, as in a memory map."""
    index_S = pictures.index_S
    first, last = index_S[0], index_S[-1]
    rows_S = slice(first, last + 1) if last - first == len(index_S) - 1 else index_S
    pixels_BNC = np.asarray(pictures.pixels_BNC[rows_S])  # no longer a numpy.memmap, whose every view is slow to make
    return Split(*map(torch.from_numpy, (pixels_BNC, pictures.labels_B[rows_S].astype(np.int64), index_S)))


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Batches an epoch, the last one possibly short."""
    return -(-n_images // batch_size)


def epoch_order(n_images: int, *, seed: int, epoch: int) -> torch.Tensor:
    """A permutation of 0..n_images-1 for one epoch, int64."""
    return torch.from_numpy(draws.permutation(seed, "batch order", n_images, epoch))


def rank_slice(batch_index_B: torch.Tensor, rank: int, world_size: int) -> torch.Tensor:
    """One rank's contiguous share of a global batch; shares cover it and differ by at most one, so may be empty."""
    count = len(batch_index_B)
    return batch_index_B[rank * count // world_size : (rank + 1) * count // world_size]


def batches(
    n_images: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> Iterator[torch.Tensor]:
    """One rank's share of each batch, as positions in the split; the batches depend on (seed, epoch) alone."""
    for batch_index_B in epoch_order(n_images, seed=seed, epoch=epoch).split(batch_size):
        yield rank_slice(batch_index_B, rank, world_size)
