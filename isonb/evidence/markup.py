"""Text from results as text on a page: whatever a record says, it is shown and never obeyed.

A record, a class name or a measurement may come from another machine, and in Markdown its letters could be a link, a
directive or HTML. `table` makes every table of the book, and a sentence in which such text stands says `escaped`. A
file that cannot be read is named in the place of what it would have shown.

Book: every chapter with a table.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import pandas as pd

from isonb import records, rows

LIVE = re.compile(r"[\\`*_{}\[\]<>|$&~#:@]")  # what Markdown, MyST, HTML or a reader that looks for links might obey
NUMBER = re.compile(r"[-+−]?[0-9][0-9,.]*(e[-+]?[0-9]+)?%?")
Arguments, Shown = ParamSpec("Arguments"), TypeVar("Shown", pd.DataFrame, str)
UNSEEN = {"Cc", "Cs", "Zl", "Zp"}  # controls, halves of letters, separators of lines
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # marks that turn the direction of reading


@dataclass(frozen=True, eq=False)
class Link:
    """Text that leads to a page of the book, in a table's cell or, by `html()`, in a sentence; it equals its text.

    `address` is the page's, as seen from the page with the link: what its query says, no Markdown link could keep.
    """

    text: str
    address: str

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return self.text == str(other) if isinstance(other, str | Link) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def html(self, is_stop: bool = True) -> str:
        """The link in HTML, which Markdown takes as it is; the Tab key passes it over where it is no stop."""
        passed = "" if is_stop else ' tabindex="-1"'
        return f'<a class="isonb-behind" href="{html.escape(self.address)}"{passed}>{escaped(self.text)}</a>'


def plain(text: object, most: int | None = None) -> str:
    """The letters of a text on one line, cut to `most` of them where that is given; invisible marks are left out."""
    line = " ".join("".join(" " if _is_unseen(letter) else letter for letter in str(text)).split())
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def _is_unseen(letter: str) -> bool:
    return unicodedata.category(letter) in UNSEEN or unicodedata.bidirectional(letter) in TURNING


def listed(values: Sequence[object]) -> str:
    """Values with commas and, before the last, "and"."""
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def escaped(text: object) -> str:
    """Markdown that reads as this text, in a sentence or in a table, and does nothing."""
    return LIVE.sub(lambda match: f"&#{ord(match[0])};", plain(text))


def table(frame: pd.DataFrame | pd.Series, index: bool = False, spec: str = "g") -> str:
    """A Markdown table of a frame, with the index before its columns where that is wanted; numbers are on the right.

    `spec` is the format of floats. Of all that stands in it, only a `Link` is more than text; of those of a row that
    lead to the same place, the Tab key stops at the first.
    """
    frame = frame.to_frame() if isinstance(frame, pd.Series) else frame
    if index:
        frame = frame.rename_axis(frame.index.name or "").reset_index()
    if frame.columns.empty:
        return ""
    texts = [[_text(value, spec) for value in row] for row in frame.itertuples(index=False, name=None)]
    align = [
        "right" if all(NUMBER.fullmatch(str(text)) for text in column) else "left"
        for column in zip(*texts, strict=True)
    ]
    shown = pd.DataFrame([_cells(row) for row in texts], columns=[escaped(name) for name in frame], dtype=object)
    return shown.to_markdown(index=False, disable_numparse=True, colalign=align or None)


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame with what a reader calls each block, network and encoding, in its texts and its titles."""
    return frame.map(_in_words).rename(index=_in_words, columns=_in_words)


def _in_words(value: Any) -> Any:
    return rows.in_words(value) if isinstance(value, str) else value


def _text(value: object, spec: str) -> Link | str:
    if isinstance(value, Link):
        return value
    return escaped(format(value, spec) if isinstance(value, float) else value)


def _cells(row: Sequence[Link | str]) -> list[str]:
    places = [value.address if isinstance(value, Link) else "" for value in row]
    return [
        value.html(is_stop=place not in places[:at]) if isinstance(value, Link) else value
        for at, (value, place) in enumerate(zip(row, places, strict=True))
    ]


def or_the_fault(form: Callable[[str], Shown]) -> Callable[[Callable[Arguments, Shown]], Callable[Arguments, Shown]]:
    """For what a page shows: a file that cannot be read is named in the place of what it would have shown."""

    def decorate(show: Callable[Arguments, Shown]) -> Callable[Arguments, Shown]:
        @functools.wraps(show)
        def shown(*arguments: Arguments.args, **options: Arguments.kwargs) -> Shown:
            try:
                return show(*arguments, **options)
            except records.RecordError as fault:
                return form(str(fault))

        return shown

    return decorate


def as_table(fault: str) -> pd.DataFrame:
    """A table that says which file cannot be read."""
    return pd.DataFrame([{"damaged": fault}])
