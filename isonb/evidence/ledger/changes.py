"""The rules that were changed after results had been seen, as data (`changes.toml`).

Book: chapters "The claims" and "Verdict".
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


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


def of(claim: str) -> tuple[Change, ...]:
    """The changes of one claim's own rule, the earliest first; without what changed for all claims at once."""
    return tuple(change for change in sorted(CHANGES, key=lambda change: change.on) if claim in change.claims)
