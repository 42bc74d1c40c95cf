"""A sentence of the book that says what was found, beside the condition on the records that makes it true.

Where the condition no longer holds, the page says so with the numbers of today, and a test fails.

Book: the first page, and every chapter that says what was found.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

import pandas as pd

from isonb.evidence import NOT_RUN, markup

NO_LONGER = "No longer holds:"
MARKED = f'<strong class="isonb-broken">{NO_LONGER}</strong>'  # by this class it is found in a built page


class Statement:
    """A sentence with {fields} for numbers that are computed, and whether it holds on the records at hand.

    `holds` is None where the records that it is about do not exist yet: the numbers are not looked at then.
    """

    def __init__(self, sentence: str, holds: bool | None, **numbers: object) -> None:
        self.sentence, self.numbers = sentence, numbers
        self.holds = None if holds is None else bool(holds)

    def __str__(self) -> str:
        return self._with(NO_LONGER, self.numbers)

    def html(self) -> str:
        """The text as HTML, for the inside of a paragraph."""
        text = html.escape(str(self))
        return text.replace(NO_LONGER, MARKED, 1) if self.holds is False else text

    def markdown(self) -> str:
        """The sentence as the Markdown that it is; text among its numbers is only text."""
        return self._with(MARKED, {name: _as_text(value) for name, value in self.numbers.items()})

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def _with(self, broken: str, numbers: Mapping[str, object]) -> str:
        if self.holds is None:
            return f"{NOT_RUN.capitalize()}."
        sentence = self.sentence.format(**numbers)
        return sentence if self.holds else f"{broken} {sentence}"


def _as_text(value: object) -> object:
    return markup.escaped(value) if isinstance(value, str) else value


def in_all(*conditions: pd.Series | pd.DataFrame) -> bool | None:
    """Whether all conditions hold in every row and column; None where one of them has no row to hold in."""
    if any(condition.size == 0 for condition in conditions):
        return None
    return all(bool(condition.to_numpy().all()) for condition in conditions)


def bulleted(*statements: Statement) -> str:
    """Statements as a list in Markdown."""
    return "\n".join(f"- {statement.markdown()}" for statement in statements)
