"""The claims ledger: every claim of the paper and of image-GPT, judged by its own rule and printed with its evidence.

Book: chapter "Verdict".
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from isonb import records, rows
from isonb.evidence import analytic, benchmarks, metrics, statistics
from isonb.evidence.ledger import blocks, encodings, gap, image_gpt, layers, loss, pairing, scale, select, untrained
from isonb.evidence.ledger.finding import (
    ALPHA,
    Claim,
    Contrast,
    Finding,
    NotRun,
    Setting,
    Verdict,
    sizes_in_words,
)
from isonb.evidence.markup import plain
from isonb.evidence.metrics import Tables

RULES = {
    **encodings.RULES,
    **blocks.RULES,
    **scale.RULES,
    **loss.RULES,
    **layers.RULES,
    **image_gpt.RULES,
    **untrained.RULES,
    **pairing.RULES,
    **gap.RULES,
}
MEASURED = {"memory": benchmarks.memory, "equivariance": benchmarks.equivariance, "palette": benchmarks.palette}


def _read_ledger() -> tuple[Claim, ...]:
    text = (Path(__file__).parent / "ledger" / "claims.toml").read_text(encoding="utf-8")
    return tuple(Claim(id=name, judge=RULES[name], **entry) for name, entry in tomllib.loads(text).items())


LEDGER = _read_ledger()
BY_ID = {claim.id: claim for claim in LEDGER}


@dataclasses.dataclass(frozen=True)
class Judged:
    """A claim with its finding, its p after Holm's correction over the ledger, and how many seeds a verdict takes."""

    claim: Claim
    finding: Finding
    p_holm: float | None
    seeds_needed: int | None


def read_sets(study: str) -> list[Tables]:
    """The tables of every set of images that a study has read, as `metrics.read_sets`, and those that need no run.

    The first one's `faults` name the measurements that cannot be read, too.
    """
    more = {"encodings": analytic.encodings(), "packing": analytic.packing(), "blocks": analytic.blocks()}
    faults = []
    for name, measured in MEASURED.items():
        try:
            more[name] = measured()
        except records.RecordError as fault:
            faults.append(str(fault))
    first, *others = (dataclasses.replace(t, more=more) for t in metrics.read_sets(study))
    return [dataclasses.replace(first, faults=(*first.faults, *faults)), *others]


def read(study: str) -> Tables:
    """The same of the set of images that most of the study's main runs read."""
    return read_sets(study)[0]


def judge(t: Tables, ledger: Sequence[Claim] | None = None) -> list[Judged]:
    """Every claim's verdict, or that of some of them, in the ledger's order.

    A verdict that rests on fewer seeds than its claim asks for, or on a p value that does not survive Holm's
    correction over the ledger, becomes "undetermined", and the note says so. The correction counts every claim whose
    rule asks for a p value, whether or not it has run.
    """
    ledger = LEDGER if ledger is None else ledger
    replicated = functools.cache(partial(select.replicated, t))
    findings = [find(claim, t, replicated) for claim in ledger]
    with_p = [i for i, claim in enumerate(ledger) if claim.p and findings[i].p is not None]
    corrected = statistics.holm([findings[i].p for i in with_p], family())
    adjusted = dict(zip(with_p, map(float, corrected), strict=True))
    tempered = [temper(claim, findings[i], adjusted.get(i)) for i, claim in enumerate(ledger)]
    return [
        Judged(claim, _in_words(finding), adjusted.get(i), _power(claim, finding))
        for i, (claim, finding) in enumerate(zip(ledger, tempered, strict=True))
    ]


def _in_words(finding: Finding) -> Finding:
    """The finding with the names that readers know in the place of those of the program."""
    texts = {name: rows.in_words(getattr(finding, name)) for name in ("note", "unit", "under")}
    return dataclasses.replace(finding, gain=finding.gain and _in_words(finding.gain), **texts)


def family() -> int:
    """How many claims ask for a p value, and so what Holm's correction over the ledger counts; fixed in its text."""
    return sum(claim.p for claim in LEDGER)


def missing(claim: Claim, t: Tables) -> list[str]:
    """The `frame.column` names that a claim's rule reads and the tables lack."""
    return [name for name in claim.columns if name.split(".")[1] not in t.frame(name.split(".")[0])]


def find(claim: Claim, t: Tables, replicated: Callable[[int], Tables] | None = None) -> Finding:
    """What one claim's rule finds, before Holm's correction and the count of seeds.

    Studies add seeds size by size. Where only some networks have as many as the claim asks for, those are judged
    without the others, if the rule can do without them; the note says which they are. `replicated` gives the tables
    without the others, by the number of seeds that is asked for.
    """
    finding = _unclear_below(claim.seeds, apply(claim, t))
    if claim.is_whole or (finding.seeds or 0) >= claim.seeds:
        return finding
    with_seeds = replicated(claim.seeds) if replicated else select.replicated(t, claim.seeds)
    judged = apply(claim, with_seeds)
    if (judged.seeds or 0) < claim.seeds:
        return finding
    under = judged.under or f"at {_sizes(with_seeds, t)}"
    note = f"{judged.note} Judged {under}, where there are {claim.seeds} seeds."
    others = {setting: contrast._replace(sign=0) for setting, contrast in finding.map.items()}
    shown = {**others, **judged.map}  # the other settings are shown beside them, without a verdict
    return dataclasses.replace(judged, note=note.strip(), under=under, map=shown)


def _unclear_below(seeds: int, finding: Finding) -> Finding:
    """The finding without the signs of settings that have fewer seeds: they borrow a spread, not a verdict."""
    shown = {s: c if c.seeds >= seeds else c._replace(sign=0) for s, c in finding.map.items()}
    return dataclasses.replace(finding, map=shown) if shown else finding


def _sizes(kept: Tables, t: Tables) -> str:
    """The sizes of the grid's networks that were kept, with their names where others of that size were not."""
    networks, whole = (select.grid(tables).groupby("depth")["network"].unique() for tables in (kept, t))
    of_size = {
        size: "" if set(names) == set(whole[size]) else f" ({', '.join(sorted(names))})"
        for size, names in networks.items()
    }
    if not any(of_size.values()):
        return sizes_in_words(list(of_size))
    return " and ".join(f"size {size}{part}" for size, part in of_size.items())


def apply(claim: Claim, t: Tables) -> Finding:
    """What one claim's rule says about these tables; "not run" where its data are missing."""
    lacking = missing(claim, t)
    if lacking:
        return Finding(verdict=Verdict.NOT_RUN, note=f"Needs {claim.needs}; no record has {', '.join(lacking)} yet.")
    if claim.seeds and t.runs.empty:
        return Finding(verdict=Verdict.NOT_RUN, note=f"Needs {claim.needs}.")
    try:
        return claim.judge(t)
    except NotRun as reason:
        return Finding(verdict=Verdict.NOT_RUN, note=str(reason))


def temper(claim: Claim, finding: Finding, p_holm: float | None) -> Finding:
    """The finding, undetermined where it rests on too few seeds or on a p that does not survive Holm's correction.

    So is what it finds of the gain over untrained twins.
    """
    if finding.gain is not None:
        finding = dataclasses.replace(finding, gain=temper(claim, finding.gain, None))
    if finding.verdict in (Verdict.NOT_RUN, Verdict.UNDETERMINED):
        return finding
    reasons = []
    if claim.seeds and (finding.seeds or 0) < claim.seeds:
        seeds = finding.seeds or 0
        reasons.append(f"only {seeds} of the {claim.seeds} seeds asked for {'is' if seeds == 1 else 'are'} complete")
    if p_holm is not None and p_holm >= ALPHA:
        reasons.append(f"the p value is {p_holm:.3f} once corrected for the number of questions (Holm)")
    if not reasons:
        return finding
    note = f"The numbers alone say {finding.verdict}, but {' and '.join(reasons)}. {finding.note}".strip()
    return dataclasses.replace(finding, verdict=Verdict.UNDETERMINED, note=note)


def _power(claim: Claim, finding: Finding) -> int | None:
    """How many seeds a verdict takes by the present spread; None if unknown, or if something else is missing."""
    if not claim.seeds or not all(map(math.isfinite, finding.by_seed)):
        return None
    spread = statistics.seeds_needed(finding.by_seed, finding.threshold, finding.level)
    if spread is None:
        return None
    seeds = max(spread, claim.seeds)
    return None if finding.verdict == Verdict.UNDETERMINED and seeds <= (finding.seeds or 0) else seeds


def as_rows(findings: Sequence[Judged]) -> list[dict[str, Any]]:
    """One row per claim, for a table, JSON or the book; None where there is no such number.

    All is flat but `map`, which has a row for each setting of a claim that is made setting by setting, and `so`, which
    names the parts of a claim that are supported.
    """
    return [
        {
            "id": judged.claim.id,
            "source": judged.claim.source,
            "quotation": judged.claim.quotation,
            "statement": judged.claim.statement,
            "figure": judged.claim.figure,
            "statistic": judged.claim.statistic,
            "rule": judged.claim.rule,
            "needs": judged.claim.needs,
            "verdict": judged.finding.verdict,
            "value": _finite(judged.finding.value),
            "unit": judged.finding.unit,
            "low": _finite(judged.finding.interval[0]) if judged.finding.interval else None,
            "high": _finite(judged.finding.interval[1]) if judged.finding.interval else None,
            "n": judged.finding.n,
            "of": judged.finding.of,
            "p": _finite(judged.finding.p),
            "p_holm": _finite(judged.p_holm),
            "seeds": judged.finding.seeds,
            "seeds_asked": judged.claim.seeds,
            "seeds_needed": judged.seeds_needed,
            "images_needed": judged.finding.images_needed,
            "interval_kind": judged.finding.interval_kind,
            "under": judged.finding.under,
            "note": judged.finding.note,
            **_gain(judged.finding.gain),
            "map": _map(judged.finding.map),
            "so": [name for name, verdict in judged.finding.parts.items() if verdict == Verdict.SUPPORTED],
        }
        for judged in findings
    ]


def _gain(gain: Finding | None) -> dict[str, Any]:
    """The same statistic on the gain over the untrained twin, as columns, None without one, and as a sentence."""
    low, high = gain.interval if gain and gain.interval else (None, None)
    return {
        "gain_verdict": gain.verdict if gain else None,
        "gain_value": _finite(gain.value) if gain else None,
        "gain_low": _finite(low),
        "gain_high": _finite(high),
        "gain_note": gain_words(gain),
    }


def _map(contrasts: Mapping[Setting, Contrast]) -> list[dict[str, Any]]:
    """One row per setting of a claim that is made setting by setting; no bounds where one seed has no interval."""
    rows = [setting._asdict() | contrast._asdict() for setting, contrast in contrasts.items()]
    return [row | {"low": _finite(row["low"]), "high": _finite(row["high"])} for row in rows]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def as_json(sets: Sequence[Tables]) -> str:
    """The ledger judged on each set of images, as JSON: `{"claims": [...], "faults": [...]}` of the first.

    Only where there are others, the first has its `"images"`, and `"others"` holds `{"images": ..., "claims": [...]}`
    of each. `"remarks"` on a set's images, where there are any, stand beside its claims.
    """
    first, *others = sets
    content = _content(first) | {"faults": list(first.faults)}
    if others:
        content |= {"images": first.images, "others": [{"images": t.images} | _content(t) for t in others]}
    return json.dumps(content, indent=1, ensure_ascii=False)


def _content(t: Tables) -> dict[str, Any]:
    return {"claims": as_rows(judge(t))} | ({"remarks": list(t.remarks)} if t.remarks else {})


def as_text(sets: Sequence[Tables]) -> str:
    """The ledger judged on each set of images, as plain tables; each below a heading where there are several."""
    parts = [_one_as_text(t) for t in sets]
    if len(sets) > 1:
        headings = [f"On {plain(t.images)} (training/validation/test)" for t in sets]
        parts = [f"{heading}\n\n{part}" for heading, part in zip(headings, parts, strict=True)]
    return "\n\n\n".join(parts)


def _one_as_text(t: Tables) -> str:
    """One table, the count of each verdict, remarks on the images, and what could not be read."""
    judged = judge(t)
    header = ("id", "verdict", "value", "interval", "n", "Holm p", "seeds", "need", "claim")
    lines = [header] + [
        (
            row["id"],
            row["verdict"],
            _number(row["value"]),
            _interval(row["low"], row["high"]),
            counted(row),
            _number(row["p_holm"]),
            "" if row["seeds"] is None else str(row["seeds"]),
            "" if row["seeds_needed"] is None else str(row["seeds_needed"]),
            row["statement"],
        )
        for row in as_rows(judged)
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header) - 1)]
    table = ["  ".join([*map(str.ljust, line, widths), line[-1]]) for line in lines]
    counts = Counter(one.finding.verdict for one in judged)
    total = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
    return "\n".join([
        *table,
        "",
        *(f"{one.claim.id}: {note}" for one in judged if (note := _note(one.finding))),
        "",
        f"{total}.",
        "Intervals are of 95 % unless a note says otherwise, each by itself; Holm p is corrected over the",
        f"{family()} claims whose rule asks for a p value, run or not;",
        "'need' is the number of seeds that a verdict takes.",
        *(plain(f"On {t.images}: {remark}") for remark in t.remarks),
        *(plain(f"Skipped: {fault}") for fault in t.faults),
    ])  # fmt: skip


def _note(finding: Finding) -> str:
    """The note, preceded by what the interval is where it is not one of 95 %, then the gain over the untrained twin."""
    kind = "" if finding.interval_kind == Finding.interval_kind else f"The interval: {finding.interval_kind}."
    return " ".join(filter(None, [kind, finding.note, gain_words(finding.gain)]))


def gain_words(gain: Finding | None) -> str:
    """One sentence on the gain over the untrained twin; empty without one."""
    if gain is None:
        return ""
    value, interval = _finite(gain.value), _interval(*map(_finite, gain.interval or (None, None)))
    number = f", {_number(value)} {gain.unit}{f' ({interval})' if interval else ''}"
    under = f", {gain.under}" if gain.under else ""
    return f"Of the gain over the untrained twin{under}: {gain.verdict}{number if value is not None else ''}."


def counted(row: Mapping[str, Any]) -> str:
    """What a verdict counts, such as "9 cells"; empty where it counts nothing."""
    return f"{row['n']} {row['of'].removesuffix('s') if row['n'] == 1 else row['of']}" if row["n"] else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None or low >= high else f"{low:.3g} to {high:.3g}"
