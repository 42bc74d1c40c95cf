"""Any folder of pictures: `train/` and `test/`, each with one folder per class, or a single tree of classes to divide.

The pictures of a tree are numbered in a fixed random order that is stratified: any first part of it has the classes in
the proportions of the whole. The first pictures are the test images, where the folder has no `test/`, and the next are
for validation, whatever the run's seed. The training images are then contiguous and need not be copied out of the
cache's memory map.

Book: chapter "Data".
"""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isonb import draws
from isonb.config import RunConfig
from isonb.training.sources import POOL_SEED, DataError, Found, Pictures, at_hand, cache, part, share
from isonb.training.sources.tree import Tree, in_words, printable, subfolders, walk

DIVIDED = ("train", "test")
WHOLE = "all"  # the name of a single tree, in place of these two
TOLERATED = 0.05  # by which the share of test images may differ from the one that is asked for, without a remark
NAME = 40  # at most that many letters of a folder's name, of which those are left out that mean something in a table


@dataclass(frozen=True)
class _Part:
    """The pictures of a tree after decoding: their labels, and their places in the order of division, see `order`."""

    decoded: cache.Decoded
    labels_B: np.ndarray
    place_B: np.ndarray

    def pictures(self, whole_S: np.ndarray, fraction: float = 1.0) -> Pictures:
        """The pictures with the given numbers, or a share of them."""
        content_B = self.decoded.about_B["content"]
        return Pictures(self.decoded.pixels_BNC, self.labels_B, share(whole_S, fraction), whole_S, content_B)


def load(run: RunConfig, folder: Path | None = None) -> Found:
    """The pictures in a folder, decoded once for all processes.

    Raises `DataError` when there is no such folder, when a class has no training or no test images, or when a picture
    cannot be read.
    """
    root = _root(folder)
    trees = _trees(root)
    _require_every_class(trees, root)
    _require_effect(trees, root, run)
    parts = {name: _read(tree, run) for name, tree in trees.items()}
    learnt, tested = (parts[name if name in parts else WHOLE] for name in DIVIDED)
    learnt_S, test_S = _division(parts, run)
    held_out = part(len(learnt_S), run.validation_fraction)
    return Found(
        name=_name(run, root),
        classes=tuple(map(printable, _classes(trees))),
        train=learnt.pictures(learnt_S[held_out:], run.data_fraction),
        validation=learnt.pictures(learnt_S[:held_out]),
        test=tested.pictures(test_S),
        sha256={name: one.decoded.sha256 for name, one in parts.items()},
        remarks=(
            *_remarks_on_files(trees, root),
            *_remarks_on_size(parts.values(), run),
            *_remarks_on_shares(parts, run, len(test_S)),
        ),
    )


def name_of(run: RunConfig, folder: Path | None = None) -> str:
    """What records call the pictures: their collection, else the folder's own name; empty where there is no folder."""
    try:
        return _name(run, _root(folder))
    except DataError:
        return ""


def _name(run: RunConfig, root: Path) -> str:
    return run.collection or re.sub(r"[^\w .-]", "_", os.path.basename(os.path.abspath(root)))[:NAME] or "pictures"


def checksums(run: RunConfig, folder: Path | None = None) -> dict[str, str]:
    """The SHA-256 of the files of each part; empty where `load` would refuse the folder."""
    try:
        root = _root(folder)
        trees = _trees(root)
        _require_every_class(trees, root)
        return {name: cache.sha256(_request(tree, run)[0]) for name, tree in trees.items()}
    except DataError:
        return {}


def order(labels_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A fixed, stratified random order of the images, and the place of each in it, ascending from 0 to 1; shape B each.

    A share p of each class comes before place p, up to rounding. The first image of a class is at 0 and the last at 1,
    so that wherever the order is cut in between, both sides have every class of two or more images.
    """
    random_B = draws.uniform(POOL_SEED, "folder/order", np.arange(len(labels_B)))
    by_class_B = np.lexsort((random_B, labels_B))
    count_K = np.bincount(labels_B)
    count_B = np.repeat(count_K, count_K)
    rank_B = np.arange(len(labels_B)) - np.repeat(np.cumsum(count_K) - count_K, count_K)
    place_B = np.select([rank_B == count_B - 1, rank_B == 0], [1.0, 0.0], (rank_B + 0.5) / count_B)
    by_place_B = np.lexsort((random_B[by_class_B], place_B))
    return by_class_B[by_place_B], place_B[by_place_B]


def _root(folder: Path | None) -> Path:
    named = at_hand(folder)
    if named is None:
        raise DataError("data='folder' needs a folder of pictures: name it in data_folder or in ISONB_DATA.")
    setting, root = named
    if not os.path.isdir(root):
        raise DataError(f"{setting} '{printable(root)}' is not a directory: name the one that holds the pictures.")
    return root


def _trees(root: Path) -> dict[str, Tree]:
    """The trees `train` and `test` where the folder has both, else the single tree."""
    present = [name for name in DIVIDED if name in subfolders(root)]
    if nearly := [name for name in subfolders(root) if name.lower() in DIVIDED and name not in DIVIDED]:
        raise DataError(
            f"{printable(root)} has a folder {printable(nearly[0])!r}: rename it {nearly[0].lower()!r}, in small "
            "letters."
        )
    if len(present) == len(DIVIDED):
        return {name: walk(root / name) for name in DIVIDED}
    for name in present:
        if not walk(root / name).strays:  # a class of that name would hold pictures itself
            missing = DIVIDED[1 - DIVIDED.index(name)]
            raise DataError(
                f"{printable(root)} has a folder {name!r} but none called {missing!r}: add it, or set the data folder "
                f"to {printable(root / name)} to have that one split."
            )
    return {WHOLE: walk(root)}


def _classes(trees: Mapping[str, Tree]) -> tuple[str, ...]:
    """The names of the classes, which are the same in every tree."""
    return next(iter(trees.values())).classes


def _request(tree: Tree, run: RunConfig) -> tuple[cache.Request, np.ndarray]:
    """The request for a tree's pictures, and the place of each in the order of division."""
    order_B, place_B = order(np.array(tree.labels, dtype=np.int64))
    return cache.Request(tree, order_B, run.image_size, run.image_fit), place_B


def _read(tree: Tree, run: RunConfig) -> _Part:
    request, place_B = _request(tree, run)
    return _Part(cache.read(request), np.array(tree.labels)[request.order_B], place_B)


def _division(parts: Mapping[str, _Part], run: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the training and validation images together, and those of the test images."""
    if WHOLE not in parts:
        return tuple(np.arange(len(parts[name].labels_B)) for name in DIVIDED)
    is_test_B = parts[WHOLE].place_B < run.test_fraction
    return np.flatnonzero(~is_test_B), np.flatnonzero(is_test_B)


def _require_every_class(trees: Mapping[str, Tree], root: Path) -> None:
    """Raise `DataError` where a class has no training or no test images, and where there is one class only."""
    for tree in trees.values():
        if not tree.files and tree.strays:
            raise DataError(
                f"{printable(tree.folder)} holds pictures but no folders: sort them into one folder per class."
            )
        if not tree.files:
            raise DataError(
                f"{printable(tree.folder)} holds no JPEG, PNG, WebP, BMP or GIF pictures: it needs one folder of "
                "them per class."
            )
    for name, other in (DIVIDED, DIVIDED[::-1]) if WHOLE not in trees else ():
        if missing := {*trees[name].classes} - {*trees[other].classes}:
            raise DataError(
                f"{printable(root)} has pictures of {in_words(missing)} in {name} but not in {other}: every class "
                "needs both, so add or remove some."
            )
    if len(classes := _classes(trees)) == 1:
        raise DataError(
            f"{printable(root)} has pictures of one class only, {printable(classes[0])}: add a folder of another, to "
            "be told apart from it."
        )
    if WHOLE in trees:
        counts = collections.Counter(trees[WHOLE].labels)
        if single := {name for number, name in enumerate(trees[WHOLE].classes) if counts[number] == 1}:
            raise DataError(
                f"{printable(root)} has only one picture of {in_words(single)}: every class needs at least two, "
                "one of them for the test."
            )


def _require_effect(trees: Mapping[str, Tree], root: Path, run: RunConfig) -> None:
    default = RunConfig.model_fields["test_fraction"].default
    if WHOLE not in trees and run.test_fraction != default:
        raise DataError(
            f"test_fraction={run.test_fraction} has no effect with {printable(root)}, which has a test folder: leave "
            f"it at {default}."
        )


def _remarks_on_files(trees: Mapping[str, Tree], root: Path) -> Iterator[str]:
    skipped = collections.Counter()
    for tree in trees.values():
        skipped.update(dict(tree.skipped))
    if skipped:
        kinds = in_words(f"{number} {kind}" for kind, number in skipped.items())
        yield f"Files that are not JPEG, PNG, WebP, BMP or GIF pictures were skipped: {kinds}."
    if strays := sum(tree.strays for tree in trees.values()):
        yield f"Pictures outside the folders of the classes were skipped: {strays}."
    if WHOLE not in trees and (others := {*subfolders(root)} - {*DIVIDED}):
        yield f"Folders other than train and test were skipped: {in_words(others)}."


def _remarks_on_size(parts: Iterable[_Part], run: RunConfig) -> Iterator[str]:
    is_enlarged_B = np.concatenate([one.decoded.about_B["is_enlarged"] for one in parts])
    if is_enlarged_B.any():
        size = f"{run.image_size} x {run.image_size} pixels"
        yield f"{is_enlarged_B.sum()} of {len(is_enlarged_B)} pictures are smaller than {size} and were enlarged."


def _remarks_on_shares(parts: Mapping[str, _Part], run: RunConfig, tested: int) -> Iterator[str]:
    """Where every class on both sides takes another share than was asked for."""
    if WHOLE in parts and abs(tested / len(parts[WHOLE].labels_B) - run.test_fraction) > TOLERATED:
        yield (
            f"{tested} of {len(parts[WHOLE].labels_B)} pictures are for the test, not the share {run.test_fraction:g}: "
            "each class needs some on either side."
        )
