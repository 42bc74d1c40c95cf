"""The claims ledger: every claim of the paper and of image-GPT, judged by its own rule and printed with its evidence.

Book: chapter "Verdict".
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isonb.evidence import analytic, benchmarks, metrics, statistics
from isonb.evidence.ledger import blocks, encodings, image_gpt, layers, loss, scale, select
from isonb.evidence.ledger.finding import ALPHA, Claim, Finding, NotRun, Verdict
from isonb.evidence.metrics import Tables

RULES = {
    **encodings.RULES,
    **blocks.RULES,
    **scale.RULES,
    **loss.RULES,
    **layers.RULES,
    **image_gpt.RULES,
}


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
    """The tables of every set of images that a study has read, as `metrics.read_sets`, and those that need no run."""
    more = {
        "encodings": analytic.encodings(),
        "packing": analytic.packing(),
        "blocks": analytic.blocks(),
        "memory": benchmarks.memory(),
        "equivariance": benchmarks.equivariance(),
        "palette": benchmarks.palette(),
    }
    return [dataclasses.replace(t, more=more) for t in metrics.read_sets(study)]


def read(study: str) -> Tables:
    """The same of the set of images that most of the study's main runs read."""
    return read_sets(study)[0]


def judge(t: Tables) -> list[Judged]:
    """Every claim's verdict, in the ledger's order.

    A verdict that rests on fewer seeds than its claim asks for, or on a p value that does not survive Holm's
    correction over the ledger, becomes "undetermined", and the note says so.
    """
    findings = [find(claim, t) for claim in LEDGER]
    with_p = [i for i, finding in enumerate(findings) if finding.p is not None]
    adjusted = dict(zip(with_p, statistics.holm([findings[i].p for i in with_p]), strict=True))
    tempered = [temper(claim, findings[i], adjusted.get(i)) for i, claim in enumerate(LEDGER)]
    return [
        Judged(claim, finding, adjusted.get(i), _power(claim, finding))
        for i, (claim, finding) in enumerate(zip(LEDGER, tempered, strict=True))
    ]


def missing(claim: Claim, t: Tables) -> list[str]:
    """The `frame.column` names that a claim's rule reads and the tables lack."""
    return [name for name in claim.columns if name.split(".")[1] not in t.frame(name.split(".")[0])]


def find(claim: Claim, t: Tables) -> Finding:
    """What one claim's rule finds, before Holm's correction and the count of seeds.

    Studies add seeds size by size. Where only some networks have as many as the claim asks for, those are judged
    without the others, if the rule can do without them; the note says which they are.
    """
    finding = apply(claim, t)
    if claim.is_whole or (finding.seeds or 0) >= claim.seeds:
        return finding
    with_seeds = select.replicated(t, claim.seeds)
    replicated = apply(claim, with_seeds)
    if (replicated.seeds or 0) < claim.seeds:
        return finding
    under = replicated.under or f"at {_sizes(with_seeds, t)}"
    note = f"{replicated.note} Judged {under}, where there are {claim.seeds} seeds."
    return dataclasses.replace(replicated, note=note.strip(), under=under)


def _sizes(kept: Tables, t: Tables) -> str:
    """The sizes of the grid's networks that were kept, with their names where others of that size were not."""
    networks, whole = (select.grid(tables).groupby("depth")["network"].unique() for tables in (kept, t))
    of_size = {
        size: "" if set(names) == set(whole[size]) else f" ({', '.join(sorted(names))})"
        for size, names in networks.items()
    }
    if not any(of_size.values()):
        return f"size{'s' * (len(of_size) > 1)} {' and '.join(map(str, of_size))}"
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
    """The finding, undetermined where it rests on too few seeds or on a p that does not survive Holm's correction."""
    if finding.verdict in (Verdict.NOT_RUN, Verdict.UNDETERMINED):
        return finding
    reasons = []
    if claim.seeds and (finding.seeds or 0) < claim.seeds:
        complete = f"{finding.seeds or 0} complete seed{'' if finding.seeds == 1 else 's'}"
        reasons.append(f"{complete}; the rule asks for {claim.seeds}.")
    if p_holm is not None and p_holm >= ALPHA:
        reasons.append(f"p after Holm is {p_holm:.3f}.")
    if not reasons:
        return finding
    note = f"Would be {finding.verdict}, but {' '.join(reasons)} {finding.note}".strip()
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
    """One flat row per claim, for a table, JSON or the book; None where there is no such number."""
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
        }
        for judged in findings
    ]


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
        headings = [f"On {t.images} (training/validation/test)" for t in sets]
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
        "Intervals are of 95 % unless a note says otherwise, each by itself; Holm p is corrected over the ledger;",
        "'need' is the number of seeds that a verdict takes.",
        *(f"On {t.images}: {remark}" for remark in t.remarks),
        *(f"Skipped: {fault}" for fault in t.faults),
    ])  # fmt: skip


def _note(finding: Finding) -> str:
    """The note, preceded by what the interval is where it is not one of 95 %."""
    kind = "" if finding.interval_kind == Finding.interval_kind else f"The interval: {finding.interval_kind}."
    return f"{kind} {finding.note}".strip()


def counted(row: Mapping[str, Any]) -> str:
    """What a verdict counts, such as "9 cells"; empty where it counts nothing."""
    return f"{row['n']} {row['of'].removesuffix('s') if row['n'] == 1 else row['of']}" if row["n"] else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None or low >= high else f"{low:.3g} to {high:.3g}"
