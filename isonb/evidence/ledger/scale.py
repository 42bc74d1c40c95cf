"""Claims about scale: what size, data and settings add, and what the blocks cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from isonb.config import ENCODINGS
from isonb.evidence import benchmarks, statistics
from isonb.evidence.ledger.finding import (
    ALPHA,
    SEEDS,
    Finding,
    NotRun,
    Verdict,
    bonferroni,
    by_sign,
    combine,
    decide,
    parts_note,
)
from isonb.evidence.ledger.select import SIZES, complete_seeds, differences, gap, grid, needed
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.statistics import Interval

MONOTONE = 0.8
SMALL_SHARE = 0.05
KEPT = "attention, every weight kept"  # what the benchmark calls attention as the paper computed it
QUADRATIC = 1.5  # a slope above it is nearer to a square than to a line
SETTINGS = ("positions", "learning_rate", "batch_size", "data_fraction")  # what C24 asks about


def c11(t: Tables) -> Finding:
    """Page's trend of accuracy over the paper's sizes, each network and encoding a row."""
    runs = grid(t, depth=SIZES)
    row = ["network", "encoding"]
    paired = runs.pivot(index=[*row, "seed"], columns="depth", values="test_accuracy").reindex(columns=SIZES).dropna()
    by_size = paired.groupby(level=row).mean()
    if len(by_size) < 2:
        raise NotRun("Needs runs of sizes 1, 3 and 6 of at least two networks or encodings.")
    values = by_size.to_numpy()
    rises, falls = statistics.page_trend(values), statistics.page_trend(values[:, ::-1])
    p = min(1.0, 2 * min(rises, falls))
    share = float((np.diff(values, axis=1) > 0).all(axis=1).mean())
    verdict = Verdict.UNDETERMINED
    if p < ALPHA:
        verdict = Verdict.CONTRADICTED if falls < rises else Verdict.SUPPORTED if share >= MONOTONE else Verdict.PARTLY
    used = runs.set_index(row).loc[by_size.index].reset_index()
    gain = gap(differences(used, "test_accuracy", "depth", SIZES[-1], SIZES[0]))
    return Finding(
        verdict,
        gain.value,
        "accuracy, largest minus smallest size",
        gain.over_cells,
        len(values),
        "rows",
        p,
        len(complete_seeds(used)),
        note=f"{share:.0%} of the rows rise at every step.",
    )


def c21(t: Tables) -> Finding:
    """How peak memory grows with the number of positions: attention with all its weights in memory, and the mixer."""
    rows = needed(t.frame("memory"), "measured memory (make bench)")
    kinds = {kind: part for kind, part in rows.groupby("kind", sort=False)}
    naive = [kind for kind in kinds if kind.startswith(KEPT)]
    if not naive or "mixer" not in kinds:
        raise NotRun(f"Needs the memory of '{KEPT}' and of 'mixer' (make bench).")
    slopes = {kind: benchmarks.memory_slope(part) for kind, part in kinds.items()}
    verdicts = {kind: by_sign(slopes[kind][1], QUADRATIC) for kind in naive}
    low, high = slopes["mixer"][1]
    verdicts["mixer"] = by_sign((-high, -low), -QUADRATIC)
    steepest = max(naive, key=lambda kind: slopes[kind][0])
    return Finding(
        combine(verdicts.values()),
        slopes[steepest][0],
        f"slope of log memory against log positions, {steepest}",
        slopes[steepest][1],
        len(kinds[steepest]),
        "measurements",
        threshold=QUADRATIC,
        note=parts_note(verdicts)
        + " Slopes: "
        + ", ".join(f"{kind} {value:.2f} ({low:.2f} to {high:.2f})" for kind, (value, (low, high)) in slopes.items())
        + ".",
    )


def c23(t: Tables) -> Finding:
    """Counts of one block at n = 1024, d = 128."""
    rows = needed(t.frame("blocks"), "the table of block counts")
    equal = {name: rows[name].nunique() == 1 for name in ("nonlinearities", "largest_activation")}
    verdict = (
        Verdict.SUPPORTED if all(equal.values()) else Verdict.PARTLY if any(equal.values()) else Verdict.CONTRADICTED
    )
    note = "; ".join(
        f"{row.block}: {row.nonlinearities} non-linearities, largest activation {row.largest_activation}, {row.macs} "
        "multiply-accumulates"
        for row in rows.itertuples()
    )
    ratio = rows["largest_activation"].max() / rows["largest_activation"].min()
    return Finding(
        verdict,
        float(ratio),
        "largest activation, most over least",
        None,
        len(rows),
        "blocks",
        note=note + ". The softmax counts as a non-linearity, its weights as an activation.",
    )


class GapShare(NamedTuple):
    """What one setting does to the test loss (nats) or accuracy by which the 1-head transformer trails conv, by seed.

    `gap_S` and `changed_S` are means over the networks compared. `share_S`: the share of the grid's gap that the
    changed setting removes, below 0 where it adds to it; for a part of the images, the share of the part's gap that all
    images remove. None where there is no such gap in every seed. `by_encoding`: each encoding's share alone.
    """

    pairs: int
    sizes: tuple[int, ...]
    gap_S: np.ndarray
    changed_S: np.ndarray
    share_S: np.ndarray | None
    by_encoding: dict[str, float]


def _is_part(arm: str) -> bool:
    """Whether an arm trains on a part of the images, which both blocks then get."""
    return arm.startswith("data_fraction")


def is_asked(arm: str) -> bool:
    """Whether an arm changes one of the settings that C24 asks about, and nothing else.

    A part of the images may be passed over more often, so that it is trained on for as many steps.
    """
    changed = {name.split("=")[0] for name in arm.split()}
    if _is_part(arm):
        changed -= {"epochs", "warmup_epochs"}
    return len(changed) == 1 and changed < {*SETTINGS}


def gap_shares(t: Tables, column: str = "test_loss") -> dict[str, GapShare]:
    """The shares of every setting asked about that has run, by arm, over the networks that have both, by seed.

    The changed transformer is compared with the unchanged conv, but for a part of the data, which both get. A size of
    which a network has fewer seeds than others is left out, so that every seed's mean is over the same, and does not
    depend on which encoding was first.
    """
    cell = ["encoding", "depth", "seed"]
    losses = t.runs.pivot(index=[*cell, "arm"], columns="network", values=column)
    losses = losses.reindex(columns=["conv", "transformer-1"]).reset_index("arm")
    main = losses[losses["arm"] == MAIN].dropna()
    found = {}
    for name, arm in losses[losses["arm"] != MAIN].groupby("arm"):
        if not is_asked(name):
            continue
        both = main.join(arm.drop(columns="arm").add_suffix(" of arm"), how="inner")
        if not _is_part(name):
            both["conv of arm"] = both["conv"]  # the paper's, whether or not an arm of conv has run
        both = both.drop(columns="arm").dropna()
        if both.empty:
            continue
        seeds = both.groupby(level=["encoding", "depth"])["conv"].transform("size")
        both = both[seeds.groupby(level="depth").transform("min") == seeds.max()]
        if both.empty:
            continue
        behind = 1 if column == "test_loss" else -1  # a higher loss, or a lower accuracy
        gaps = pd.DataFrame({
            "gap": behind * (both["transformer-1"] - both["conv"]),
            "changed": behind * (both["transformer-1 of arm"] - both["conv of arm"]),
        })  # fmt: skip
        before, after = ("changed", "gap") if _is_part(name) else ("gap", "changed")
        by_seed, by_encoding = (gaps.groupby(level=level).mean() for level in ("seed", "encoding"))
        share_S = 1 - by_seed[after] / by_seed[before]
        trailing = by_encoding[by_encoding[before] > 0]
        found[name] = GapShare(
            len(gaps),
            tuple(sorted(set(gaps.index.get_level_values("depth")))),
            by_seed["gap"].to_numpy(),
            by_seed["changed"].to_numpy(),
            share_S.to_numpy() if (by_seed[before] > 0).all() else None,
            (1 - trailing[after] / trailing[before]).to_dict(),
        )
    return found


def c24(t: Tables) -> Finding:
    """Does lack of data make a part of the loss gap of 1-head transformer and conv, and is a part of it no setting's?

    A setting counts once it has the seeds that the ledger asks for; until one has, those at hand are shown.
    """
    found = {name: one for name, one in gap_shares(t).items() if one.share_S is not None}
    found = {name: one for name, one in found.items() if len(one.share_S) >= SEEDS} or found
    if not found:
        raise NotRun("Needs conv and transformer runs, and the same transformers with one setting changed.")
    mean = {name: float(one.share_S.mean()) for name, one in found.items()}
    missing = [name for name in SETTINGS if name not in {arm.split("=")[0] for arm in found}]
    of_data = [name for name in found if _is_part(name)]
    intervals = _intervals(found, found)
    verdicts = {
        "lack of data": _of_data(_intervals(found, of_data)),
        "architecture": _of_architecture(intervals, found, bool(missing)),
    }
    shown = max(of_data or mean, key=mean.__getitem__)
    level = bonferroni(len(of_data or found))
    encodings = tuple(found[shown].by_encoding) if len(found[shown].by_encoding) < len(ENCODINGS) else ()
    notes = [_share_in_words(name, found[name]) for name in sorted(mean, key=mean.__getitem__, reverse=True)]
    return Finding(
        combine(verdicts.values()),
        mean[shown],
        f"share of the gap, {shown}",
        statistics.student_interval(found[shown].share_S, level),
        len(found),
        "changed settings",
        seeds=min(len(one.share_S) for one in found.values()),
        by_seed=tuple(found[shown].share_S),
        threshold=SMALL_SHARE,
        level=level,
        interval_kind=f"{100 * level:.4g} % interval",
        under=(f"with {' and '.join(encodings)} input, " if encodings else "")
        + f"at size {' and '.join(map(str, found[shown].sizes))}",
        note=" ".join([
            parts_note(verdicts),
            *notes,
            *([f"Not tried with {SEEDS} seeds: {', '.join(missing)}."] if missing else []),
        ]),
    )  # fmt: skip


def _intervals(found: Mapping[str, GapShare], names: Iterable[str]) -> dict[str, Interval]:
    """The intervals of some shares over their seeds, which together hold with 95 %."""
    names = list(names)
    return {name: statistics.student_interval(found[name].share_S, bonferroni(len(names))) for name in names}


def _of_data(intervals: Mapping[str, Interval]) -> Verdict:
    """Whether all images take more than a small share off the gap that there is with a part of them."""
    if not intervals:
        return Verdict.NOT_RUN
    return decide(
        any(low > SMALL_SHARE for low, _ in intervals.values()),
        all(high <= SMALL_SHARE for _, high in intervals.values()),
    )


def _of_architecture(intervals: Mapping[str, Interval], found: Mapping[str, GapShare], is_part: bool) -> Verdict:
    """Whether every setting leaves something of the gap, with each encoding; in part as long as some are not tried."""
    if any(low >= 1 for low, _ in intervals.values()):
        return Verdict.CONTRADICTED
    is_left = all(high < 1 for _, high in intervals.values()) and all(
        share < 1 for one in found.values() for share in one.by_encoding.values()
    )
    if not is_left:
        return Verdict.UNDETERMINED
    return Verdict.PARTLY if is_part else Verdict.SUPPORTED


def _share_in_words(name: str, found: GapShare) -> str:
    """What a setting does to which gap, with each encoding's share where there are several, as a sentence."""
    share, gap = float(found.share_S.mean()), float((found.changed_S if _is_part(name) else found.gap_S).mean())
    if _is_part(name):
        does = f"remove {share:.0%} of" if share > 0 else f"add {-share:.0%} to"
        said = f"All images {does} the gap of {gap:.3f} nats with {name}"
    elif share > 0:
        said = f"{name} removes {share:.0%} of a gap of {gap:.3f} nats"
    else:
        said = f"{name} adds {-share:.0%} to a gap of {gap:.3f} nats"
    parts = ", ".join(f"{encoding} {-part if share <= 0 else part:.0%}" for encoding, part in found.by_encoding.items())
    return f"{said} ({parts})." if len(found.by_encoding) > 1 else f"{said} ({' '.join(found.by_encoding)} only)."


RULES = {"C11": c11, "C21": c21, "C23": c23, "C24": c24}
