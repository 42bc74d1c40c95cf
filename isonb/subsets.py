"""Which of a source's images are meant: some of its classes, one of its folds, or those that nobody has labelled.

Classes are numbered from 0 in the source's own order and written as `0-4,7`. One choice has one spelling, so that one
network never has two names.

Book: chapter "Data".
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Literal

import pydantic

from isonb import rows
from isonb.validation import ConfigError, Frozen, choice, unknown_name

RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
SHAPE = "write numbers and ranges with commas between them, as in 0-4,7"
NAMED_FOLDER = re.compile(r"(\w+)=(.*)", re.DOTALL)


OWN = ("data", "classes", "fold")  # the settings that name other images than those of pre-training


class OwnImages(Frozen):
    """What names other images than those of pre-training; where one of the three is set, the others mean all."""

    data: Literal[("", *rows.SOURCES)] = choice("", "4.1", "another source of images; empty is pre-training's", since=5)
    classes: str = choice("", "4.1", "which of its classes, as pre-training's; empty is all of them", since=5)
    fold: int = choice(0, "4.1", "which of its folds; 0 is all training images", since=5, ge=0)

    @pydantic.field_validator("classes")
    @classmethod
    def _spelt_in_one_way(cls, text: str) -> str:
        return spelt(text)

    @property
    def names_images(self) -> bool:
        """True where other images are named than those of pre-training."""
        return bool(self.data or self.classes or self.fold)


def numbers(text: str) -> tuple[int, ...]:
    """The classes that `0-4,7` names, in ascending order; none of an empty text. Raises `ValueError` in a few words."""
    named: set[int] = set()
    for part in filter(None, re.sub(r"\s", "", text).split(",")) if text.strip() else ():
        if not (match := RANGE.fullmatch(part)):
            raise ValueError(SHAPE)
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"write {last}-{first}, the smaller number first")
        named.update(range(first, last + 1))
    if text.strip() and len(named) < 2:
        raise ValueError("name at least two classes, to be told apart" if named else SHAPE)
    return tuple(sorted(named))


def spelt(text: str) -> str:
    """The one spelling of a choice of classes: `4,0,1-3` is `0-4`. Raises `ValueError` as `numbers` does."""
    runs = itertools.groupby(enumerate(numbers(text)), key=lambda place: place[1] - place[0])
    ends = [(run[0][1], run[-1][1]) for run in (list(of_run) for _, of_run in runs)]
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in ends)


def require(data: str, classes: str, fold: int, is_unlabelled: bool) -> None:
    """Raise `ValueError`, in a sentence, for a choice that a source does not have or that is all of it anyway."""
    source, named = rows.SOURCES[data], numbers(classes)
    if is_unlabelled and (named or fold):
        what = f"classes={classes!r}" if named else f"fold={fold}"
        raise ValueError(f"{what} is not allowed with unlabelled=True: images without labels have neither.")
    if fold > source.folds:
        raise ValueError(f"fold={fold} is not allowed with data={data!r}: its folds are 1 to {source.folds}.")
    if named and source.classes and named[-1] >= source.classes:
        raise ValueError(
            f"classes={classes!r} is not allowed with data={data!r}: its classes are 0 to {source.classes - 1}."
        )
    if named and len(named) == source.classes:
        raise ValueError(f"classes={classes!r} are all classes of data={data!r}: leave them out.")


def in_words(classes: str, fold: int, is_unlabelled: bool) -> str:
    """What follows a source's name where some of its images are meant: ", classes 0-4"; nothing where all are."""
    parts = [f"classes {classes}" if classes else "", f"fold {fold}" if fold else "", "unlabelled" * is_unlabelled]
    return "".join(f", {part}" for part in parts if part)


def folders(text: str) -> dict[str, str] | None:
    """The folder of each source out of `cifar10=/a,stl10=/b`; None of what is a single folder for all.

    Raises `ConfigError` for a source that is unknown, named twice or read from no folder.
    """
    parts = re.split(r",(?=\w+=)", text)
    named = [match.groups() for part in parts if (match := NAMED_FOLDER.fullmatch(part))]
    if not named or named[0][0] not in rows.SOURCES:
        return None
    _require_each_once([name for name, _ in named])
    if empty := [name for name, folder in named if not folder.strip()]:
        raise ConfigError(f"data_folder names no folder for {empty[0]}: write {empty[0]}=FOLDER.")
    return {name: folder.strip() for name, folder in named}


def _require_each_once(names: Iterable[str]) -> None:
    names, reading = list(names), [name for name, row in rows.SOURCES.items() if row.reads_folder]
    for name in names:
        if name not in reading:
            raise ConfigError(f"In data_folder, {unknown_name(name, reading).replace('setting', 'source', 1)}")
        if names.count(name) > 1:
            raise ConfigError(f"data_folder names two folders for {name}: leave one out.")


def published(data: str, classes: str, fold: int, is_unlabelled: bool) -> tuple[int, int] | None:
    """How many training and test images of a choice are published; None where that is not known."""
    source, named = rows.SOURCES[data], numbers(classes)
    if source.published is None or (named and not source.has_equal_classes):
        return None
    train, test = source.published
    if is_unlabelled:
        return source.unlabelled, test
    train = source.fold_size if fold else train
    return (train * len(named) // source.classes, test * len(named) // source.classes) if named else (train, test)
