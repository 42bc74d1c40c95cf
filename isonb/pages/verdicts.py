"""Verdicts in words: what a study says about each claim, for the pages of the book.

Book: chapters "The claims", "Results", "Why do the transformers fail?" and "Verdict", and the first page.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from isonb import config
from isonb import studies as study_cells
from isonb.evidence import NOT_RUN, claims, markup
from isonb.evidence.ledger import changes
from isonb.evidence.ledger.finding import Claim, Verdict
from isonb.evidence.metrics import Tables
from isonb.pages import judged, readings

AGREES = {
    Verdict.SUPPORTED: "Ours agrees",
    Verdict.PARTLY: "Ours agrees in part",
    Verdict.UNDETERMINED: "Ours cannot tell",
    Verdict.CONTRADICTED: "Ours disagrees",
    Verdict.NOT_RUN: NOT_RUN.capitalize(),
}
CPU = ("cpu", "")  # the study, on its main images, that readings and the verdicts of earlier rules are about
LATER = "of these by a later rule"
NOT_RECORDED = "not recorded"
SOURCES = {"P": "the paper", "G": "image-GPT", "O": "this study"}


@dataclass(frozen=True)
class Study:
    """The tables of one set of images of a study and, by claim, the row of its verdict as `claims.as_rows` gives it.

    `images` is empty for the study's main set, and otherwise says which images these are.
    """

    name: str
    tables: Tables
    rows: Mapping[str, Mapping[str, Any]]
    images: str = ""

    @property
    def title(self) -> str:
        """What tables and labels call it: the study's name and, for another than its main set, the images."""
        return markup.plain(f"{self.name}, on {self.images}" if self.images else self.name)

    @property
    def command(self) -> str:
        """What runs everything that this study lacks."""
        return f"make study STUDY={self.name}"


def _judged(name: str, t: Tables, images: str = "") -> Study:
    return Study(name, t, judged.rows(t), images)


def read(name: str) -> Study:
    """A study's results on its main set of images, judged."""
    return _judged(name, claims.read(name))


def read_sets(name: str) -> list[Study]:
    """A study's results on each set of images that its runs have read, judged; its main set, as of `read`, first."""
    first, *others = claims.read_sets(name)
    return [_judged(name, first), *(_judged(name, t, t.images) for t in others)]


def read_all(with_others: bool = False) -> list[Study]:
    """Every study's results, judged; `with_others` has each study's other sets of images after its main one."""
    return [study for name in config.STUDIES for study in (read_sets(name) if with_others else [read(name)])]


def summary(studies: Sequence[Study]) -> pd.DataFrame:
    """How many claims have each verdict: one row per verdict, one column per study.

    The last row counts those with a verdict whose rule, or which themselves, came after results had been seen.
    """
    columns = {}
    for study in studies:
        verdicts = [row["verdict"] for row in study.rows.values()]
        columns[study.title] = {verdict: verdicts.count(verdict) for verdict in Verdict} | {LATER: len(_later(study))}
    return pd.DataFrame(columns).rename_axis("verdict")


def _later(study: Study) -> list[str]:
    """The claims that a study has a verdict on, and that were added or given another rule with results in sight."""
    return [
        name
        for name, row in study.rows.items()
        if row["verdict"] != Verdict.NOT_RUN and changes.mark(claims.BY_ID[name])
    ]


def kept_rules() -> str:
    """How many claims are judged as was laid down before the first run, in words."""
    marks = [changes.mark(claim) for claim in claims.LEDGER]
    added = sum(mark is not None and mark.is_added for mark in marks)
    return (
        f"{marks.count(None)} of {len(marks)} rules are as they were before the first run. "
        f"{len(marks) - marks.count(None) - added} were changed, and {added} claims were added, after results had been "
        "seen."
    )


def in_short(study: Study) -> str:
    """What a study says about the claims, counted in one sentence, and on how many changed rules that rests."""
    counts = Counter(row["verdict"] for row in study.rows.values())
    supported, partly, undetermined, contradicted, not_run = (counts[verdict] for verdict in Verdict)
    tried = counts.total() - not_run
    return (
        f"Of {counts.total()} claims, {supported} hold at this scale, {partly} hold in part and "
        f"{contradicted or 'none'} {'is' if contradicted < 2 else 'are'} contradicted; these networks cannot tell "
        f"about {undetermined}, and {not_run} have not been tried. {len(_later(study))} of the {tried} verdicts "
        "rest on rules that were changed or added after results had been seen."
    )


def sentence(study: Study) -> str:
    """How many networks a study's verdicts rest on, the counts in words, and remarks on the images, in Markdown."""
    groups: dict[str, list[Mapping[str, Any]]] = {"about trained networks": [], "that need no training": []}
    for row in study.rows.values():
        groups["that need no training" if row["seeds_asked"] == 0 else "about trained networks"].append(row)
    runs, own = len(study.tables.runs), {cell.run.run_id for cell in study_cells.cells(study.name)}
    networks = f"{runs or 'no'} finished network{'' if runs == 1 else 's'}"
    if more := (~study.tables.runs["run_id"].isin(own)).sum():
        networks += f" ({more} of them not of the study)"
    counted = "; ".join(f"of {len(rows)} claims {what} {_counts(rows)}" for what, rows in groups.items() if rows)
    remarks = "".join(f" {markup.escaped(remark)}" for remark in study.tables.remarks)
    return f"**{markup.escaped(study.title)}**, from {networks}: {counted}.{remarks}"


def _counts(rows: Sequence[Mapping[str, Any]]) -> str:
    """How often each verdict was reached, in words; one that was not is left out."""
    counts = Counter(row["verdict"] for row in rows)
    if counts[Verdict.NOT_RUN] == len(rows):
        return "none has run"
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])


def number(row: Mapping[str, Any]) -> str:
    """A verdict's value with its unit, interval, n and corrected p; empty without a value."""
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


def answers(study: Study, *ids: str) -> str:
    """What a study says about some claims, as HTML; where a claim has not run, what would run it."""
    return "\n".join(_entry([study], name, link(study.rows[name]), _how(study, name)) for name in ids)


def ledger(studies: Sequence[Study], *ids: str) -> str:
    """Some claims, what each study says of them, and behind a fold how that was decided, as HTML."""
    return "\n".join(f'<div id="claim-{name}">{_entry(studies, name, f"<b>{name}</b>")}</div>' for name in ids)


def _entry(studies: Sequence[Study], name: str, title: str, how: str = "") -> str:
    """A claim: its verdicts, its mark, its statement and what the study shows; all else is folded."""
    rows = {study.title: study.rows[name] for study in studies}
    claim = next(iter(rows.values()))
    labels = " ".join(badge(verdict, study) for study, verdict in _labels(rows).items())
    evidence = [
        f"<dt>{badge(row['verdict'], study)}</dt><dd>{html.escape(_evidence(row))}{_power(row)}</dd>"
        for study, row in _distinct(_run(rows)).items()
    ]
    return "\n".join([
        '<div class="isonb-claim">',
        f"<p>{title} {labels} {_mark(name)}<br><strong>{html.escape(claim['statement'])}</strong></p>",
        f'<p class="isonb-reading">{_reading(studies, name)}{how}</p>',
        f"<details><summary>How {name} was decided</summary>",
        _words(claim["source"], claim["quotation"]),
        "<dl>",
        f"<dt>Statistic</dt><dd>{html.escape(claim['statistic'])}.</dd>",
        f"<dt>Supported if</dt><dd>{html.escape(claim['rule'])}.</dd>",
        f"<dt>Needs</dt><dd>{html.escape(claim['needs'])}.</dd>",
        _history(name, studies),
        *evidence,
        "</dl>",
        "</details>",
        "</div>",
    ])  # fmt: skip


def _labels(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The verdicts of the studies that have one, and "not run" where none has; the study `cpu` alone needs no title."""
    verdicts = {study: row["verdict"] for study, row in _run(rows).items()}
    if len(verdicts) == 1 < len(rows) and CPU[0] not in verdicts:
        return verdicts
    return _distinct(verdicts)


def _run(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The rows of the studies that have a verdict; where none has, the first one's, without a study's title."""
    run = {study: row for study, row in rows.items() if row["verdict"] != Verdict.NOT_RUN}
    return run or {"": next(iter(rows.values()))}


def _reading(studies: Sequence[Study], name: str) -> str:
    """What the study `cpu` shows, or any study about a claim that needs no training; else what each study says."""
    for study in studies:
        row = study.rows[name]
        if (study.name, study.images) == CPU or row["seeds_asked"] == 0:
            reading = readings.of(study.tables, row)
            return reading.html() if reading.holds else f"{reading.html()} {AGREES[row['verdict']]}."
    agrees = _distinct({study.title: AGREES[study.rows[name]["verdict"]] for study in studies})
    return " ".join(f"{html.escape(f'{title}: {what}' if title else what)}." for title, what in agrees.items())


def _mark(name: str) -> str:
    """That a claim or its rule came after results had been seen, with the day and the verdict of the first rule."""
    mark = changes.mark(claims.BY_ID[name])
    if mark is None:
        return ""
    first = "" if mark.is_added else f"; first rule: {mark.first or NOT_RECORDED}"
    return f'<span class="isonb-changed">{html.escape(f"{mark}{first}")}</span>'


def _history(name: str, studies: Sequence[Study]) -> str:
    """What earlier rules said of the study `cpu` beside today's verdict, as HTML; empty without an earlier rule."""
    mark = changes.mark(claims.BY_ID[name])
    if mark is None:
        return ""
    today = "".join(f" Today: {study.rows[name]['verdict']}." for study in studies if (study.name, study.images) == CPU)
    if mark.is_added:
        lines = [f"Added on {changes.in_words(mark.days[0])}, after results had been seen: there is no earlier rule."]
    else:
        lines = [
            f"Changed on {changes.in_words(change.on)}, after results had been seen; the {which} said of the study cpu "
            f"that day: {change.verdicts.get(name, NOT_RECORDED)}."
            for which, change in zip(("first rule", *["rule before"] * 9), changes.of(name), strict=False)
        ]
    where = '<a href="claims.html#changed-after-the-first-results">The list</a> has both rules.'
    return f"<dt>Rule</dt><dd>{html.escape(' '.join(lines))}{html.escape(today)} {where}</dd>"


def link(row: Mapping[str, Any]) -> str:
    """A claim's id as a link to its place in the ledger, as HTML."""
    return f'<a href="verdict.html#claim-{row["id"]}">{row["id"]}</a>'


def _how(study: Study, name: str) -> str:
    """What would get the data of a claim that has not run: the study or the measurements."""
    if study.rows[name]["verdict"] != Verdict.NOT_RUN:
        return ""
    command = "make bench" if claims.BY_ID[name].seeds == 0 else study.command
    return f" To run it: <code>{command}</code>"


def badge(verdict: str, title: str = "") -> str:
    """A verdict as a small label, with the title of its study if there is one."""
    text = html.escape(f"{title}: {verdict}" if title else verdict)
    return f'<span class="isonb-verdict isonb-{verdict.replace(" ", "-")}">{text}</span>'


def changed_rules() -> str:
    """Every change of a rule after results had been seen, the latest first, as HTML."""
    return "\n".join(_changed(change) for change in sorted(changes.CHANGES, key=lambda one: one.on, reverse=True))


def _changed(change: changes.Change) -> str:
    concerned = ", ".join(change.claims) or "All claims about trained networks"
    then = ", ".join(f"{name} {verdict}" for name, verdict in change.verdicts.items())
    verdict = (
        f"<p>By the rule before, the study <code>cpu</code> said on that day: {html.escape(then)}.</p>" if then else ""
    )
    return (
        f"<details><summary><b>{concerned}</b>, {changes.in_words(change.on)}</summary>"
        f"<p><i>Before:</i> {html.escape(change.was)}</p><p><i>Now:</i> {html.escape(change.now)}</p>"
        f"<p><i>Why:</i> {html.escape(change.why)}</p>{verdict}</details>"
    )


def as_written(source: str) -> str:
    """Every claim of a source ("P", "G" or "O") without its result, as HTML: words, place, statistic and rule."""
    return "\n".join(_as_written(claim) for claim in claims.LEDGER if claim.source.startswith(source))


def _as_written(claim: Claim) -> str:
    basis = f"From at least {claim.seeds} seeds." if claim.seeds else "Nothing has to be trained for it."
    return "\n".join([
        f'<details class="isonb-claim" id="written-{claim.id}">',
        f"<summary><b>{claim.id}</b> {html.escape(claim.statement)} {_mark(claim.id)}</summary>",
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
        return f"<p>A question of {whose}: {place}.</p>" if source[0] == "O" else f"<p>After {whose}, {place}.</p>"
    return f"<blockquote><p>{html.escape(quotation)}</p><p>-- {whose}, {place}</p></blockquote>"


def _evidence(row: Mapping[str, Any]) -> str:
    return " ".join(filter(None, [number(row), row["note"], row["gain_note"]]))


def _distinct(by_study: Mapping[str, Any]) -> dict[str, Any]:
    """What each study says; a single entry, without the study's title, where all say the same."""
    values = list(by_study.values())
    return {"": values[0]} if all(one == values[0] for one in values) else dict(by_study)


def _power(row: Mapping[str, Any]) -> str:
    if row["verdict"] != Verdict.UNDETERMINED:
        return ""
    seeds, images = row["seeds_needed"], row["images_needed"]
    return (f" The present spread would need {seeds} seeds for a verdict." if seeds else "") + (
        f" To tell these networks apart would take {images:,} test images." if images else ""
    )
