"""A sentence of the book that says what was found, beside the condition on the records that makes it true.

Where the condition no longer holds, the page says so with the numbers of today, and a test fails.

Book: the first page, and every chapter that says what was found.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from isonb.evidence import NOT_RUN, markup, selection
from isonb.evidence.metrics import Tables

NO_LONGER = "No longer holds:"
MARKED = f'<strong class="isonb-broken">{NO_LONGER}</strong>'  # by this class it is found in a built page


@dataclass(frozen=True)
class Behind:
    """A number and the address of the runs that it comes from; formatted, it reads as the number."""

    value: Any
    address: str

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)


class _Linked(Behind):
    """The same as a link, in HTML."""

    def __format__(self, spec: str) -> str:
        return markup.Link(super().__format__(spec), self.address).html()


def behind(t: Tables, runs: pd.DataFrame, **numbers: object) -> dict[str, object]:
    """Numbers that come from these rows of a table of runs, as links to them; without a row, as they are."""
    if runs.empty:
        return numbers
    address = selection.of(runs, t.runs)
    return {name: Behind(value, address) for name, value in numbers.items()}


def behind_each(t: Tables, runs: pd.DataFrame, column: str, numbers: pd.Series) -> dict[str, object]:
    """The same for a series that has a number for each value of a column of these rows."""
    return {str(name): behind(t, runs[runs[column] == name], it=value)["it"] for name, value in numbers.items()}


class Statement:
    """A sentence with {fields} for numbers that are computed, and whether it holds on the records at hand.

    `holds` is None where the records that it is about do not exist yet: the numbers are not looked at then.
    """

    def __init__(self, sentence: str, holds: bool | None, **numbers: object) -> None:
        self.sentence, self.numbers = sentence, numbers
        self.holds = None if holds is None else bool(holds)

    def __str__(self) -> str:
        return self._with(self.sentence, NO_LONGER, lambda text: text, lambda number: number)

    def html(self) -> str:
        """The text as HTML, for the inside of a paragraph."""
        return self._with(html.escape(self.sentence), MARKED, html.escape, _linked)

    def markdown(self) -> str:
        """The sentence as the Markdown that it is; text among its numbers is only text."""
        return self._with(self.sentence, MARKED, markup.escaped, _linked)

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def _with(self, sentence: str, broken: str, text: Callable[[str], str], number: Callable[[object], object]) -> str:
        if self.holds is None:
            return f"{NOT_RUN.capitalize()}."
        values = {
            name: text(value) if isinstance(value, str) else number(value) for name, value in self.numbers.items()
        }
        filled = sentence.format(**values)
        return filled if self.holds else f"{broken} {filled}"


def _linked(number: object) -> object:
    return _Linked(number.value, number.address) if isinstance(number, Behind) else number


def in_all(*conditions: pd.Series | pd.DataFrame) -> bool | None:
    """Whether all conditions hold in every row and column; None where one of them has no row to hold in."""
    if any(condition.size == 0 for condition in conditions):
        return None
    return all(bool(condition.to_numpy().all()) for condition in conditions)


def bulleted(*statements: Statement) -> str:
    """Statements as a list in Markdown."""
    return "\n".join(f"- {statement.markdown()}" for statement in statements)
