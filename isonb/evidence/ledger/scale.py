"""Claims about scale: what size, data and settings add, and what the blocks cost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from isonb.evidence import benchmarks, statistics
from isonb.evidence.ledger.finding import ALPHA, Finding, NotRun, Verdict, bonferroni, by_sign, combine, parts_note
from isonb.evidence.ledger.select import SIZES, complete_seeds, differences, gap, grid, needed
from isonb.evidence.metrics import MAIN, Tables

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
    """Whether an arm changes one of the settings that C24 asks about, and nothing else."""
    return " " not in arm and arm.startswith(SETTINGS)


def gap_shares(t: Tables, column: str = "test_loss") -> dict[str, GapShare]:
    """The shares of every setting asked about that has run, by arm, over the networks that have both, by seed.

    The changed transformer is compared with the unchanged conv, but for a part of the data, which both get. Networks
    with fewer seeds than others are left out, so that every seed's mean is over the same.
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
        both = both[seeds == seeds.max()]
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
    """How much of the loss gap of 1-head transformer and conv depends on one setting: positions, rate, batch, data."""
    found = gap_shares(t)
    shares = {name: one.share_S for name, one in found.items() if one.share_S is not None}
    if not shares:
        raise NotRun("Needs conv and transformer runs, and the same transformers with one setting changed.")
    mean = {name: float(share_S.mean()) for name, share_S in shares.items()}
    largest = max(mean, key=mean.__getitem__)
    level = bonferroni(len(shares))
    low, high = statistics.student_interval(shares[largest], level)
    tried = {name.split("=")[0] for name in shares}
    missing = [name for name in SETTINGS if name not in tried]
    verdict = Verdict.UNDETERMINED
    if low > SMALL_SHARE and high < 1:  # what is left is the architecture's only once all settings are tried
        verdict = Verdict.PARTLY if missing else Verdict.SUPPORTED
    elif low >= 1 or (high <= SMALL_SHARE and not missing):
        verdict = Verdict.CONTRADICTED
    notes = [_share_in_words(name, found[name]) for name in sorted(mean, key=mean.__getitem__, reverse=True)]
    return Finding(
        verdict,
        mean[largest],
        f"share of the gap, {largest}",
        (low, high),
        len(shares),
        "changed settings",
        seeds=len(shares[largest]),
        by_seed=tuple(shares[largest]),
        interval_kind=f"{100 * level:.4g} % interval",
        under=f"at size {' and '.join(map(str, found[largest].sizes))}",
        note=" ".join([*notes, f"Not tried: {', '.join(missing)}."] if missing else notes),
    )


def _share_in_words(name: str, found: GapShare) -> str:
    """What a setting does to which gap, with each encoding's share where there are several, as a sentence."""
    share, gap = float(found.share_S.mean()), float((found.changed_S if _is_part(name) else found.gap_S).mean())
    if _is_part(name):
        said = f"All images remove {share:.0%} of the gap of {gap:.3f} nats with {name}"
    elif share > 0:
        said = f"{name} removes {share:.0%} of a gap of {gap:.3f} nats"
    else:
        said = f"{name} adds {-share:.0%} to a gap of {gap:.3f} nats"
    parts = ", ".join(f"{encoding} {-part if share <= 0 else part:.0%}" for encoding, part in found.by_encoding.items())
    return f"{said} ({parts})." if len(found.by_encoding) > 1 else f"{said} ({' '.join(found.by_encoding)} only)."


RULES = {"C11": c11, "C21": c21, "C23": c23, "C24": c24}
