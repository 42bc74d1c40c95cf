"""What takes the meaning from numbers on some images: refused where nothing could be judged, else said in words.

Copies are counted among all images at hand, so that every run on them says the same, whatever share of the training
images it sees.

Book: chapter "Data".
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Iterator, Mapping

import numpy as np

from isonb.training.sources import DataError, Found, Pictures
from isonb.training.sources.tree import in_words

SPLITS = {"train": "training", "validation": "validation", "test": "test"}  # and what their images are called

FEW = 0.02  # of a split's images may be copies of others: they count twice, which moves a mean by less than that
SHARP = 32**2  # pixels from which on different photographs do not become alike by being resized


def require_meaning(found: Found) -> None:
    """Raise `DataError` for a split without images, for images of one class, and for two classes of one name."""
    names = [unicodedata.normalize("NFC", name) for name in found.classes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{found.name} has more than one class called {twice[0]!r}: give each a name of its own.")
    for split, title in SPLITS.items():
        if not len(getattr(found, split).index_S):
            raise DataError(f"{found.name} has no {title} images: add some.")
    learnt_B = np.concatenate([_labels(found.train), _labels(found.validation)])
    judged = {"training": learnt_B} if found.train.is_labelled else {}
    for title, labels_B in (judged | {"test": _labels(found.test)}).items():
        if (labels_B == labels_B[0]).all():
            raise DataError(
                f"All {title} images of {found.name} are of one class, {found.classes[labels_B[0]]!r}: add images of "
                "at least one more."
            )


def remarks(found: Found) -> Iterator[str]:
    """A sentence for each thing that makes a number doubtful."""
    splits = {title: getattr(found, split) for split, title in SPLITS.items()}
    contents = {title: _contents(pictures) for title, pictures in splits.items()}
    for title, pictures in splits.items():
        there = {*np.unique(pictures.labels_B[pictures.index_S]).tolist()}
        missing = {*range(len(found.classes))} - there
        if len(there) == 1 < len(found.classes) and pictures.is_labelled and title == "training":
            count, name = len(pictures.index_S), found.classes[there.pop()]
            yield f"All {count} training images that are read are of one class, {name!r}, which is all a probe learns."
        elif missing and pictures.is_labelled:
            names = in_words(found.classes[label] for label in missing)
            yield f"Classes without {title} images: {names}."
    for title, pictures in splits.items():
        count, different = len(contents[title]), len(np.unique(contents[title]))
        if different == 1 < count:
            yield f"All {count} {title} images are the same picture."
        elif count - different > FEW * count:
            yield f"{count - different} of {count} {title} images are copies of others."
        if plain := _of_one_colour(pictures):
            yield f"{plain} of {count} {title} images are of a single colour."
    seen_B = contents["training"]
    for title in ("validation", "test"):
        if repeated := np.isin(contents[title], seen_B).sum():
            yield f"{repeated} of {len(contents[title])} {title} images are also among the training images."
        seen_B = np.concatenate([seen_B, contents[title]])
    yield from _remarks_on_shrinking(splits, contents)
    labels_B = np.concatenate([_labels(pictures) for pictures in splits.values()])
    if disputed := _of_several_classes(seen_B[labels_B >= 0], labels_B[labels_B >= 0]):
        yield f"Different pictures that are in more than one class: {disputed}."


def _remarks_on_shrinking(splits: Mapping[str, Pictures], contents: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What became alike only when different pictures were made as small as the run's."""
    pixels = splits["training"].pixels_BNC.shape[1]
    if pixels >= SHARP or any(pictures.content_B is None for pictures in splits.values()):
        return
    small = {title: _of_pixels(pictures) for title, pictures in splits.items()}
    at_size = f"At {math.isqrt(pixels)}x{math.isqrt(pixels)} pixels"
    for title, content_B in contents.items():
        more = len(np.unique(content_B)) - len(np.unique(small[title]))
        if more > FEW * len(content_B):
            yield f"{at_size}, {more} more of {len(content_B)} {title} images are copies of others."
    seen_B, known_B = small["training"], contents["training"]
    for title in ("validation", "test"):
        if more := (np.isin(small[title], seen_B) & ~np.isin(contents[title], known_B)).sum():
            yield f"{at_size}, {more} more of {len(small[title])} {title} images are also among the training images."
        seen_B, known_B = np.concatenate([seen_B, small[title]]), np.concatenate([known_B, contents[title]])


def _rows(pictures: Pictures) -> np.ndarray:
    return pictures.index_S if pictures.whole_S is None else pictures.whole_S


def _labels(pictures: Pictures) -> np.ndarray:
    return pictures.labels_B[_rows(pictures)]


def _contents(pictures: Pictures) -> np.ndarray:
    """A hash of each picture: as it was before it was resized, where the source knows that, else as it is."""
    if pictures.content_B is not None:
        return pictures.content_B[_rows(pictures)]
    return _of_pixels(pictures)


def _of_pixels(pictures: Pictures) -> np.ndarray:
    """A hash of each picture as it is."""
    pixels_BNC = np.asarray(pictures.pixels_BNC)
    digests = (hashlib.blake2b(pixels_BNC[row].tobytes(), digest_size=8).digest() for row in _rows(pictures))
    return np.frombuffer(b"".join(digests), np.uint64)


def _of_one_colour(pictures: Pictures) -> int:
    """How many pictures have the same colour in every pixel."""
    pixels_BNC, rows_S = np.asarray(pictures.pixels_BNC), _rows(pictures)
    alike_S = rows_S[(pixels_BNC[rows_S, 0] == pixels_BNC[rows_S, -1]).all(1)]  # at their corners: few are left
    return sum(bool((pixels_BNC[row] == pixels_BNC[row, 0]).all()) for row in alike_S)


def _of_several_classes(contents_B: np.ndarray, labels_B: np.ndarray) -> int:
    """How many contents occur with more than one label."""
    pairs = np.unique(np.stack([contents_B, labels_B.astype(np.uint64)]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
