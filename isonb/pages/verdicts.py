"""Verdicts in words: what a study says to each claim, for the pages of the book.

Book: chapters "The claims", "Results", "Why do the transformers fail?" and "Verdict", and the first page.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from isonb import config, studies
from isonb.evidence import claims
from isonb.evidence.ledger.finding import Claim, Verdict
from isonb.evidence.metrics import Tables

AGREES = {
    Verdict.SUPPORTED: "Ours agrees",
    Verdict.PARTLY: "Ours agrees in part",
    Verdict.UNDETERMINED: "Ours cannot tell",
    Verdict.CONTRADICTED: "Ours disagrees",
    Verdict.NOT_RUN: "Not run",
}
SOURCES = {"P": "the paper", "G": "image-GPT"}


@dataclass(frozen=True)
class Study:
    """A profile's tables and, by claim, the row of its verdict with the columns of `claims.as_rows`."""

    profile: str
    tables: Tables
    rows: Mapping[str, Mapping[str, Any]]

    @property
    def command(self) -> str:
        """What runs everything that this profile lacks."""
        return f"make study PROFILE={self.profile}"


def read(profile: str) -> Study:
    """A profile's results, judged."""
    t = claims.read(profile)
    return Study(profile, t, {row["id"]: row for row in claims.as_rows(claims.judge(t))})


def read_all() -> list[Study]:
    """Every profile's results, judged."""
    return [read(profile) for profile in config.PROFILES]


def summary(studies: Sequence[Study]) -> pd.DataFrame:
    """How many claims have each verdict: a row a verdict, a column a profile."""
    counts = {study.profile: Counter(row["verdict"] for row in study.rows.values()) for study in studies}
    columns = {profile: [count[verdict] for verdict in Verdict] for profile, count in counts.items()}
    return pd.DataFrame(columns, index=pd.Index(list(Verdict), name="verdict"))


def sentence(study: Study) -> str:
    """The counts in words, in Markdown."""
    counts = Counter(row["verdict"] for row in study.rows.values())
    trained = counts.total() - sum(row["seeds_asked"] == 0 for row in study.rows.values())
    runs, own = len(study.tables.runs), {cell.run.run_id for cell in studies.cells(study.profile)}
    found = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
    networks = f"{runs or 'no'} finished network{'' if runs == 1 else 's'}"
    if more := (~study.tables.runs["run_id"].isin(own)).sum():
        networks += f" ({more} of them not of the study)"
    return (
        f"**{study.profile}**, from {networks}: of {counts.total()} claims ({trained} need trained networks) {found}."
    )


def number(row: Mapping[str, Any]) -> str:
    """A verdict's value with its unit, interval, n and corrected p, or nothing."""
    if row["value"] is None:
        return ""
    parts = [f"{row['value']:.3g} ({row['unit']})"]
    if row["low"] is not None and row["high"] is not None and row["low"] < row["high"]:
        parts.append(f"{row['interval_kind']} {row['low']:.3g} to {row['high']:.3g}")
    if row["n"]:
        parts.append(f"n = {claims.counted(row)}")
    if row["p_holm"] is not None:
        parts.append(f"p = {row['p_holm']:.2g} after Holm")
    if row["seeds_asked"]:
        parts.append(f"{row['seeds'] or 0} of at least {row['seeds_asked']} seeds")
    return "; ".join(parts) + "."


def listed(values: Sequence[object]) -> str:
    """Values with commas and, before the last, "and"."""
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def answers(study: Study, *ids: str) -> str:
    """What a study says to some claims, as HTML; where nothing is there, what would run it."""
    return "\n".join([
        '<dl class="isonb-verdicts">',
        *(_answer(study, study.rows[name]) for name in ids),
        "</dl>",
    ])  # fmt: skip


def _answer(study: Study, row: Mapping[str, Any]) -> str:
    how = f" {_how(study, row['id'])}" if row["verdict"] == Verdict.NOT_RUN else ""
    counted = number(row)
    return (
        f"<dt>{badge(row['verdict'])} {link(row)}: {html.escape(row['statement'])}</dt>"
        f"<dd><strong>{AGREES[row['verdict']]}.</strong> {html.escape(row['note'])}{how}</dd>"
        + (f'<dd class="isonb-number">{html.escape(counted)}</dd>' if counted else "")
    )


def link(row: Mapping[str, Any]) -> str:
    """A claim's id, leading to its place in the ledger, as HTML."""
    return f'<a href="verdict.html#claim-{row["id"]}">{row["id"]}</a>'


def _how(study: Study, name: str) -> str:
    """What would run a claim's data: the study or the measurements."""
    command = "make bench" if claims.BY_ID[name].seeds == 0 else study.command
    return f"To run it: <code>{command}</code>"


def badge(verdict: str, profile: str = "") -> str:
    """A verdict as a small label."""
    text = f"{profile}: {verdict}" if profile else verdict
    return f'<span class="isonb-verdict isonb-{verdict.replace(" ", "-")}">{text}</span>'


def ledger(studies: Sequence[Study], source: str) -> str:
    """Every claim of a source ("P" or "G") as it was written before the runs, and what each study says, as HTML."""
    ids = [name for name, row in studies[0].rows.items() if row["source"].startswith(source)]
    return "\n".join(_entry(studies, name) for name in ids)


def as_written(source: str) -> str:
    """Every claim of a source ("P" or "G") without its result, as HTML: words, place, statistic and rule."""
    return "\n".join(_as_written(claim) for claim in claims.LEDGER if claim.source.startswith(source))


def _as_written(claim: Claim) -> str:
    basis = f"From at least {claim.seeds} seeds." if claim.seeds else "Nothing has to be trained for it."
    return "\n".join([
        f'<details class="isonb-claim" id="written-{claim.id}">',
        f"<summary><b>{claim.id}</b> {html.escape(claim.statement)}</summary>",
        _words(claim.source, claim.quotation),
        "<dl>",
        f"<dt>Statistic</dt><dd>{html.escape(claim.statistic)}.</dd>",
        f"<dt>Supported if</dt><dd>{html.escape(claim.rule)}. {basis}</dd>",
        f'<dt>Today</dt><dd><a href="verdict.html#claim-{claim.id}">what the results say</a></dd>',
        "</dl>",
        "</details>",
    ])  # fmt: skip


def _words(source: str, quotation: str) -> str:
    """A quotation with its place, or the place that a statement paraphrases."""
    whose, place = SOURCES[source[0]], html.escape(source.removeprefix(f"{source[0]}, "))
    if not quotation:
        return f"<p>After {whose}, {place}.</p>"
    return f"<blockquote><p>{html.escape(quotation)}</p><p>-- {whose}, {place}</p></blockquote>"


def _entry(studies: Sequence[Study], name: str) -> str:
    rows = {study.profile: study.rows[name] for study in studies}
    claim, said = next(iter(rows.values())), {profile: row["verdict"] for profile, row in rows.items()}
    found = [
        f"<dt>{badge(row['verdict'], profile)}</dt><dd>{html.escape(_evidence(row))}{_power(row)}</dd>"
        for profile, row in _distinct(rows).items()
    ]
    return "\n".join([
        f'<details class="isonb-claim" id="claim-{name}">',
        f"<summary><b>{name}</b> {html.escape(claim['statement'])} "
        + " ".join(badge(verdict, profile) for profile, verdict in _distinct(said).items())
        + "</summary>",
        _words(claim["source"], claim["quotation"]),
        "<dl>",
        f"<dt>Statistic</dt><dd>{html.escape(claim['statistic'])}.</dd>",
        f"<dt>Supported if</dt><dd>{html.escape(claim['rule'])}.</dd>",
        f"<dt>Needs</dt><dd>{html.escape(claim['needs'])}.</dd>",
        *found,
        "</dl>",
        "</details>",
    ])  # fmt: skip


def _evidence(row: Mapping[str, Any]) -> str:
    return f"{number(row)} {row['note']}".strip()


def _distinct(said: Mapping[str, Any]) -> dict[str, Any]:
    """What each profile says; a single entry, without a profile's name, where all say the same."""
    values = list(said.values())
    return {"": values[0]} if all(one == values[0] for one in values) else dict(said)


def _power(row: Mapping[str, Any]) -> str:
    if row["verdict"] != Verdict.UNDETERMINED:
        return ""
    seeds, images = row["seeds_needed"], row["images_needed"]
    return (f" The present spread would need {seeds} seeds for a verdict." if seeds else "") + (
        f" To tell these networks apart would take {images:,} test images." if images else ""
    )
