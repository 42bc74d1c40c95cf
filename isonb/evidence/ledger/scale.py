"""Claims about scale: what size, data and settings add, and what the blocks cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

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
from isonb.evidence.ledger.select import ENCODINGS, SIZES, complete_seeds, differences, gap, grid, needed
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.statistics import Interval

MONOTONE = 0.8  # the share of rows that must rise at every step
SMALL_SHARE = 0.05  # of the gap; a cause removes more
KEPT = "attention, every weight kept"  # what the benchmark calls attention as the paper computed it
QUADRATIC = 1.5  # a slope above it is closer to a square than to a line
SETTINGS = ("positions", "learning_rate", "batch_size", "data_fraction")  # those that C24 asks about


def c11(t: Tables) -> Finding:
    """Page's trend of accuracy over the paper's sizes, one row per network and encoding."""
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
        verdict=verdict,
        value=gain.value,
        unit="accuracy, largest minus smallest size",
        interval=gain.over_settings,
        n=len(values),
        of="rows",
        p=p,
        seeds=len(complete_seeds(used)),
        note=f"{share:.0%} of the rows rise at every step.",
    )


def c21(t: Tables) -> Finding:
    """How peak memory grows with the number of positions: of attention that keeps all its weights, and of the mixer."""
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
        verdict=combine(verdicts.values()),
        value=slopes[steepest][0],
        unit=f"slope of log memory against log positions, {steepest}",
        interval=slopes[steepest][1],
        n=len(kinds[steepest]),
        of="measurements",
        threshold=QUADRATIC,
        note=parts_note(verdicts)
        + " Slopes: "
        + ", ".join(f"{kind} {value:.2f} ({low:.2f} to {high:.2f})" for kind, (value, (low, high)) in slopes.items())
        + ".",
    )


def c23(t: Tables) -> Finding:
    """Counts of one block at 1024 positions and 128 channels."""
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
        verdict=verdict,
        value=float(ratio),
        unit="largest activation, most over least",
        n=len(rows),
        of="blocks",
        note=note + ". The softmax counts as a non-linearity, its weights as an activation.",
    )


class GapShare(NamedTuple):
    """What one setting does to the gap in test loss (nats) or accuracy by which the 1-head transformer trails conv.

    `gap_S` and `changed_S` are the gaps of each seed without and with the change, means over the networks compared.
    `share_S` is the share of the gap that the change removes, below 0 where it adds to it; for a part of the images,
    the share of that part's gap that all images remove; None where some seed has no such gap. `by_encoding` has the
    share of each encoding alone.
    """

    pairs: int
    sizes: tuple[int, ...]
    gap_S: np.ndarray
    changed_S: np.ndarray
    share_S: np.ndarray | None
    by_encoding: dict[str, float]


def _is_part(arm: str) -> bool:
    """Whether an arm trains on a part of the images; both blocks are then given that part."""
    return arm.startswith("data_fraction")


def is_asked(arm: str) -> bool:
    """Whether an arm changes one of the settings that C24 asks about, and nothing else.

    A part of the images may be passed over more often, so that training takes as many steps.
    """
    changed = {name.split("=")[0] for name in arm.split()}
    if _is_part(arm):
        changed -= {"epochs", "warmup_epochs"}
    return len(changed) == 1 and changed < {*SETTINGS}


def gap_shares(t: Tables, column: str = "test_loss") -> dict[str, GapShare]:
    """The share of every arm that C24 asks about, over the networks that have run with and without the change.

    The changed transformer is compared with the unchanged conv, except where both are given a part of the images. A
    size at which an encoding has fewer seeds than others is left out, so that every seed's mean is over the same
    networks and does not depend on which encoding came first.
    """
    cell = ["encoding", "depth", "seed"]
    runs = t.runs[t.runs["encoding"].isin(ENCODINGS)]
    losses = runs.pivot(index=[*cell, "arm"], columns="network", values=column)
    losses = losses.reindex(columns=["conv", "transformer-1"]).reset_index("arm")
    main = losses[losses["arm"] == MAIN].dropna()
    shares = {}
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
        shares[name] = GapShare(
            len(gaps),
            tuple(sorted(set(gaps.index.get_level_values("depth")))),
            by_seed["gap"].to_numpy(),
            by_seed["changed"].to_numpy(),
            share_S.to_numpy() if (by_seed[before] > 0).all() else None,
            (1 - trailing[after] / trailing[before]).to_dict(),
        )
    return shares


def c24(t: Tables) -> Finding:
    """Is lack of data a part of the loss gap of 1-head transformer and conv, and does no setting remove all of it?

    A setting counts once it has the seeds that the ledger asks for; until one has, those at hand are shown.
    """
    shares = {name: of_arm for name, of_arm in gap_shares(t).items() if of_arm.share_S is not None}
    shares = {name: of_arm for name, of_arm in shares.items() if len(of_arm.share_S) >= SEEDS} or shares
    if not shares:
        raise NotRun("Needs conv and transformer runs, and the same transformers with one setting changed.")
    mean = {name: float(of_arm.share_S.mean()) for name, of_arm in shares.items()}
    missing = [name for name in SETTINGS if name not in {arm.split("=")[0] for arm in shares}]
    of_data = [name for name in shares if _is_part(name)]
    intervals = _intervals(shares, shares)
    verdicts = {
        "lack of data": _of_data(_intervals(shares, of_data)),
        "architecture": _of_architecture(intervals, shares, bool(missing)),
    }
    shown = max(of_data or mean, key=mean.__getitem__)
    level = bonferroni(len(of_data or shares))
    encodings = tuple(shares[shown].by_encoding) if len(shares[shown].by_encoding) < len(ENCODINGS) else ()
    notes = [_share_in_words(name, shares[name]) for name in sorted(mean, key=mean.__getitem__, reverse=True)]
    return Finding(
        verdict=combine(verdicts.values()),
        value=mean[shown],
        unit=f"share of the gap, {shown}",
        interval=statistics.student_interval(shares[shown].share_S, level),
        n=len(shares),
        of="changed settings",
        seeds=min(len(of_arm.share_S) for of_arm in shares.values()),
        by_seed=tuple(shares[shown].share_S),
        threshold=SMALL_SHARE,
        level=level,
        interval_kind=f"{100 * level:.4g} % interval",
        under=(f"with {' and '.join(encodings)} input, " if encodings else "")
        + f"at size {' and '.join(map(str, shares[shown].sizes))}",
        note=" ".join([
            parts_note(verdicts),
            *notes,
            *([f"Not tried with {SEEDS} seeds: {', '.join(missing)}."] if missing else []),
        ]),
    )  # fmt: skip


def _intervals(shares: Mapping[str, GapShare], names: Iterable[str]) -> dict[str, Interval]:
    """The intervals of some shares over their seeds, which hold together at 95 %."""
    names = list(names)
    return {name: statistics.student_interval(shares[name].share_S, bonferroni(len(names))) for name in names}


def _of_data(intervals: Mapping[str, Interval]) -> Verdict:
    """Whether all images remove more than a small share of the gap that there is with a part of them."""
    if not intervals:
        return Verdict.NOT_RUN
    return decide(
        any(low > SMALL_SHARE for low, _ in intervals.values()),
        all(high <= SMALL_SHARE for _, high in intervals.values()),
    )


def _of_architecture(intervals: Mapping[str, Interval], shares: Mapping[str, GapShare], is_part: bool) -> Verdict:
    """Whether every setting leaves a part of the gap, with each encoding; partly as long as some are not tried."""
    if any(low >= 1 for low, _ in intervals.values()):
        return Verdict.CONTRADICTED
    is_left = all(high < 1 for _, high in intervals.values()) and all(
        share < 1 for of_arm in shares.values() for share in of_arm.by_encoding.values()
    )
    if not is_left:
        return Verdict.UNDETERMINED
    return Verdict.PARTLY if is_part else Verdict.SUPPORTED


def _share_in_words(name: str, of_arm: GapShare) -> str:
    """What a setting does to which gap, with the share of each encoding if there are several, as a sentence."""
    share, gap = float(of_arm.share_S.mean()), float((of_arm.changed_S if _is_part(name) else of_arm.gap_S).mean())
    if _is_part(name):
        does = f"remove {share:.0%} of" if share > 0 else f"add {-share:.0%} to"
        clause = f"All images {does} the gap of {gap:.3f} nats with {name}"
    elif share > 0:
        clause = f"{name} removes {share:.0%} of a gap of {gap:.3f} nats"
    else:
        clause = f"{name} adds {-share:.0%} to a gap of {gap:.3f} nats"
    parts = ", ".join(
        f"{encoding} {-part if share <= 0 else part:.0%}" for encoding, part in of_arm.by_encoding.items()
    )
    return f"{clause} ({parts})." if len(of_arm.by_encoding) > 1 else f"{clause} ({' '.join(of_arm.by_encoding)} only)."


RULES = {"C11": c11, "C21": c21, "C23": c23, "C24": c24}
