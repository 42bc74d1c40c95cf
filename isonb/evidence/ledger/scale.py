"""Claims about scale: what size and parameters add, and what the blocks cost."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from isonb.evidence import benchmarks, statistics
from isonb.evidence.ledger.finding import (
    Finding,
    NotRun,
    Setting,
    Verdict,
    bonferroni,
    by_sign,
    combine,
    parts_note,
)
from isonb.evidence.ledger.gap import change
from isonb.evidence.ledger.pairing import in_both
from isonb.evidence.ledger.select import (
    SIZES,
    TRANSFORMERS,
    chosen_correct_B,
    complete_seeds,
    grid,
    needed,
)
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.statistics import LEVEL, Interval

MONOTONE = 0.8  # the share of rows that must improve at every step
EQUAL = 0.05  # by which share two numbers of parameters may differ and count as equal
KEPT = benchmarks.KEPT
QUADRATIC = 1.5  # a slope above it is closer to a square than to a line
ENOUGH_SIZES = 4  # the fewest numbers of positions over which memory's growth is judged


class Growth(NamedTuple):
    """What the largest size improves over the smallest: its mean, its interval by level, and the rows that rise."""

    value: float
    interval: Callable[[float], Interval]
    share: float

    def verdict(self, level: float) -> Verdict:
        verdict = by_sign(self.interval(level))
        return Verdict.PARTLY if verdict == Verdict.SUPPORTED and self.share < MONOTONE else verdict


def c11(t: Tables) -> Finding:
    """How much lower the loss and how much higher the accuracy of size 6 is than that of size 1, over the same rows."""
    runs = grid(t, depth=SIZES)
    row = ["network", "encoding"]
    sizes = runs.groupby(row)["depth"].transform("nunique")
    runs = runs[sizes == len(SIZES)].sort_values([*row, "depth", "seed"])
    seeds = complete_seeds(runs)
    rows = runs[row].drop_duplicates()
    if len(rows) < 2 or not seeds:
        raise NotRun("Needs runs of sizes 1, 3 and 6 of at least two networks or encodings, with the same seeds.")
    runs = runs[runs["seed"].isin(seeds)]
    shape = (len(rows), len(SIZES), len(seeds))
    loss_KTS = runs["validation_loss"].to_numpy(float).reshape(shape)
    accuracy_KTS = runs["test_accuracy"].to_numpy(float).reshape(shape)
    ends = [_correct_SB(t, runs[runs["depth"] == size], shape) for size in (SIZES[-1], SIZES[0])]
    lower_S = (loss_KTS[:, 0] - loss_KTS[:, -1]).mean(axis=0)
    halves = {
        "lower loss": _growth(-loss_KTS, lower_S, partial(statistics.student_interval, lower_S)),
        "higher accuracy": _growth(
            accuracy_KTS, ends[0] - ends[1], partial(statistics.crossed_interval, ends[0] - ends[1])
        ),
    }
    verdicts = {name: half.verdict(LEVEL) for name, half in halves.items()}
    if any(verdict != Verdict.SUPPORTED for verdict in verdicts.values()):
        verdicts = {name: half.verdict(bonferroni(len(halves))) for name, half in halves.items()}
    accuracy = halves["higher accuracy"]
    shown = "; ".join(
        f"{name} by {half.value:.3f}{unit}{_in_words(half.interval(LEVEL))}, at every step in {half.share:.0%} of the "
        "rows"
        for (name, half), unit in zip(halves.items(), (" nats", ""), strict=True)
    )
    return Finding(
        verdict=combine(verdicts.values()),
        value=accuracy.value,
        unit="accuracy, largest minus smallest size",
        interval=accuracy.interval(LEVEL),
        n=len(rows),
        of="rows",
        seeds=len(seeds),
        parts=verdicts,
        note=f"{parts_note(verdicts)} From the smallest to the largest size: {shown}.",
    )


def _correct_SB(t: Tables, runs: pd.DataFrame, shape: tuple[int, ...]) -> np.ndarray:
    """What the rows of one size get right, S x B, a mean over the rows."""
    correct = np.stack([chosen_correct_B(t, run) for _, run in runs.iterrows()])
    return correct.reshape(shape[0], shape[2], -1).mean(axis=0)


def _growth(better_KTS: np.ndarray, difference: np.ndarray, interval: Callable[..., Interval]) -> Growth:
    rises = (np.diff(better_KTS.mean(axis=2), axis=1) > 0).all(axis=1)
    return Growth(float(difference.mean()), lambda level: interval(level=level), float(rises.mean()))


def _in_words(interval: Interval) -> str:
    return f" ({interval[0]:.3f} to {interval[1]:.3f})" if np.isfinite(interval).all() else ""


def c21(t: Tables) -> Finding:
    """How peak memory grows with the positions: of what attention's kept weights add, and of the whole mixer."""
    measured = needed(t.frame("memory"), "measured memory (make bench)")
    alone = benchmarks.weights_alone(measured)
    if alone.empty or "mixer" not in set(measured["kind"]):
        raise NotRun(f"Needs the memory of '{KEPT}', of memory-efficient attention and of 'mixer' (make bench).")
    kinds = dict(tuple(pd.concat([alone, measured[measured["kind"] == "mixer"]]).groupby("kind", sort=False)))
    if any(of_kind.groupby("batch")["positions"].nunique().min() < ENOUGH_SIZES for of_kind in kinds.values()):
        raise NotRun(f"Needs the memory at {ENOUGH_SIZES} numbers of positions of each kind (make bench).")
    slopes = {kind: benchmarks.memory_slope(of_kind) for kind, of_kind in kinds.items()}
    verdicts = {kind: by_sign(slope[1], QUADRATIC) for kind, slope in slopes.items()}
    low, high = slopes["mixer"][1]
    verdicts["mixer"] = by_sign((-high, -low), -QUADRATIC)
    flattest = min(set(alone["kind"]), key=lambda kind: slopes[kind][0])
    others = {
        kind: benchmarks.memory_slope(of_kind)
        for kind, of_kind in measured.groupby("kind", sort=False)
        if kind != "mixer"
    }
    return Finding(
        verdict=combine(verdicts.values()),
        value=slopes[flattest][0],
        unit=f"slope of log memory against log positions, {flattest}",
        interval=slopes[flattest][1],
        n=len(kinds[flattest]),
        of="measurements",
        threshold=QUADRATIC,
        parts=verdicts,
        note=f"{parts_note(verdicts)} Slopes: {_slopes(slopes)}. Of whole networks: {_slopes(others)}.",
    )


def _slopes(slopes: dict[str, tuple[float, Interval]]) -> str:
    return ", ".join(f"{kind} {value:.2f} ({low:.2f} to {high:.2f})" for kind, (value, (low, high)) in slopes.items())


def c23(t: Tables) -> Finding:
    """Counts of one block at 1024 positions and 128 channels."""
    rows = needed(t.frame("blocks"), "the table of block counts")
    equal = {name: rows[name].nunique() == 1 for name in ("nonlinearities", "largest_activation")}
    verdict = (
        Verdict.SUPPORTED if all(equal.values()) else Verdict.PARTLY if any(equal.values()) else Verdict.CONTRADICTED
    )
    note = "; ".join(
        f"{row.block}: {row.nonlinearities} non-linearities, largest activation {row.largest_activation:,}, "
        f"{row.macs:,} multiply-accumulates"
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


def c39(t: Tables) -> Finding:
    """conv against transformers whose blocks have as many parameters together, in loss and in accuracy."""
    arms = tuple(arm for arm in t.runs["arm"].unique() if arm == MAIN or change(arm) == "capacity")
    runs = grid(t, arms, network=("conv", *TRANSFORMERS))
    runs = runs.assign(weights=runs["parameters_per_block"].astype(float) * runs["depth"].astype(float))
    kinds = [(Kind(*key), of_kind) for key, of_kind in runs.groupby(list(Kind._fields), sort=False)]
    loss, accuracy = {}, {}
    for (conv, of_conv), (other, of_other) in itertools.product(kinds, kinds):
        if not conv.is_equal_to(other):
            continue
        one, another = (frame.set_index("seed").sort_index() for frame in (of_conv, of_other))
        pairs = [(one.loc[seed], another.loc[seed]) for seed in one.index.intersection(another.index)]
        if pairs:
            setting = Setting(f"{conv} before {other}", conv.encoding, conv.depth)
            loss[setting] = np.array([b["validation_loss"] - a["validation_loss"] for a, b in pairs])
            accuracy[setting] = np.array([chosen_correct_B(t, a) - chosen_correct_B(t, b) for a, b in pairs])
    if not loss:
        raise NotRun("Needs conv and transformers with equally many parameters in all blocks, such as sizes 1 and 3.")
    compared = {setting.pair for setting in loss}
    absent = [f"conv before {name}" for name in TRANSFORMERS if not any(name in pair for pair in compared)]
    return in_both(loss, accuracy, absent)


class Kind(NamedTuple):
    """A network of some size and arm with one encoding, and the parameters of all its blocks."""

    network: str
    arm: str
    depth: int
    encoding: str
    weights: float

    def is_equal_to(self, other: Kind) -> bool:
        """Whether this is a conv and the other a transformer with the same encoding and as many parameters."""
        is_pair = self.network == "conv" != other.network and self.encoding == other.encoding
        return is_pair and abs(other.weights / self.weights - 1) <= EQUAL

    def __str__(self) -> str:
        return f"{self.network} of size {self.depth}" + ("" if self.arm == MAIN else f" with {self.arm}")


RULES = {"C11": c11, "C21": c21, "C23": c23, "C39": c39}
