"""The rules that were changed after results had been seen, as data (`changes.toml`).

Book: chapters "The claims" and "Verdict".
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from isonb.evidence.ledger.finding import Claim
from isonb.evidence.markup import listed


@dataclass(frozen=True)
class Change:
    """One change: the claims concerned (all about trained networks if none is named), the day, both rules, the reason.

    `verdicts` has, by claim, what the rule before said of the study's records on that day, where that is known.
    """

    claims: tuple[str, ...]
    on: datetime.date
    was: str
    now: str
    why: str
    verdicts: Mapping[str, str] = field(default_factory=dict)


def _read() -> tuple[Change, ...]:
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return tuple(Change(**entry | {"claims": tuple(entry["claims"])}) for entry in tomllib.loads(text)["change"])


CHANGES = _read()


@dataclass(frozen=True)
class Mark:
    """That a claim or its rule is of a day on which results had been seen.

    `first` is what the rule before any change said of the study `cpu` on the day of the first one, where that was kept.
    """

    days: tuple[datetime.date, ...]
    is_added: bool = False
    first: str = ""

    def __str__(self) -> str:
        return f"{'claim added' if self.is_added else 'rule changed'} {in_words(*self.days)}"


def in_words(*days: datetime.date) -> str:
    """Days such as "22 and 27 November 2026"; each month is named once."""
    months: dict[str, list[int]] = {}
    for day in days:
        months.setdefault(f"{day:%B %Y}", []).append(day.day)
    return listed([f"{listed(of_month)} {month}" for month, of_month in months.items()])


def mark(claim: Claim) -> Mark | None:
    """The mark of a claim; None where the claim and its rule are as they were before the first run."""
    if claim.added:
        return Mark((datetime.date.fromisoformat(claim.added),), is_added=True)
    of_claim = of(claim.id)
    if not of_claim:
        return None
    days = tuple(dict.fromkeys(change.on for change in of_claim))
    return Mark(days, first=of_claim[0].verdicts.get(claim.id, ""))


def of(claim: str) -> tuple[Change, ...]:
    """The changes of one claim's own rule, the earliest first; without what changed for all claims at once."""
    return tuple(change for change in sorted(CHANGES, key=lambda change: change.on) if claim in change.claims)
