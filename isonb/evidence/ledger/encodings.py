"""Claims about what an encoding keeps of the distance of pixel values: fixed ones and learned ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from isonb.evidence import analytic, statistics
from isonb.evidence.ledger.finding import Finding, NotRun, Verdict, by_parts, by_sign, combine, decide, parts_note
from isonb.evidence.ledger.loss import image_weights
from isonb.evidence.ledger.select import (
    NETWORKS,
    SETTING,
    TRANSFORMERS,
    chosen_correct_B,
    complete_seeds,
    grid,
    needed,
    setting_means,
)
from isonb.evidence.metrics import Tables
from isonb.evidence.statistics import Interval

KEPT, LOST = 0.9, 0.3  # a rank correlation at or above KEPT keeps distance, one at or below LOST in size does not
RED = 0  # the channel of the paper's Figure 5


def _encodings(t: Tables) -> pd.DataFrame:
    return needed(t.frame("encodings"), "the table of fixed encodings")


def _one(rows: pd.DataFrame, encoding: str) -> pd.Series:
    return rows[rows["encoding"] == encoding].iloc[0]


def _fourier(rows: pd.DataFrame, sigma: float, column: str) -> tuple[float, tuple[float, float]]:
    """The mean of a column over the draws of random frequencies, and its t interval."""
    values = rows.loc[(rows["encoding"] == "rff") & np.isclose(rows["sigma"], sigma), column].to_numpy(float)
    return float(values.mean()), statistics.student_interval(values)


def _keeps(interval: tuple[float, float]) -> str:
    """Is a correlation at least KEPT? Partly if it surely lies between LOST and KEPT, contradicted if it is lower."""
    if interval[0] >= KEPT:
        return Verdict.SUPPORTED
    if interval[0] > LOST and interval[1] < KEPT:
        return Verdict.PARTLY
    return Verdict.CONTRADICTED if interval[1] <= LOST else Verdict.UNDETERMINED


def _loses(interval: tuple[float, float]) -> str:
    """Is a correlation surely at most LOST in size? Contradicted if it is surely at least KEPT."""
    return decide(max(map(abs, interval)) <= LOST, interval[0] >= KEPT)


def c2(t: Tables) -> Finding:
    """Distance kept by one-hot, continuous (in two readings) and random Fourier features of sigma 1."""
    rows = _encodings(t)
    one_hot, literal, distance = (
        _one(rows, name)["kept"] for name in ("one-hot", "continuous", "continuous, distance")
    )
    near, near_interval = _fourier(rows, 1.0, "kept_near")
    far, far_interval = _fourier(rows, 1.0, "kept_far")
    verdicts = {
        "one-hot destroys it": _loses((one_hot, one_hot)),
        "continuous keeps it, read as distance": _keeps((distance, distance)),
        "continuous keeps it, read as cosine": _keeps((literal, literal)),
        "sigma 1 keeps it up to 25 levels": _keeps(near_interval),
        "sigma 1 loses it from 100 levels": _loses(far_interval),
    }
    note = (
        f"The caption says cosine similarity, but the cosine of two numbers p, q is sign(p q): +1 or -1, two flat "
        f"halves with a rank correlation of {literal:.2f} with distance. A picture that keeps "
        f"distance as the caption says is 1 - |p - q| / 2, with {distance:.2f}. One-hot {one_hot:.2f}; "
        f"sigma 1 {near:.2f} near, {far:.2f} far. "
    )
    return Finding(
        verdict=combine(verdicts.values()),
        value=near,
        unit="rank correlation, sigma 1 near",
        interval=near_interval,
        n=analytic.DRAWS,
        of="draws of frequencies",
        parts=verdicts,
        note=note + parts_note(verdicts),
    )


def c3(t: Tables) -> Finding:
    """Sigma 0.1 keeps distance without rank, 1 keeps it locally with rank, 10 loses it; and the limits of sigma."""
    rows = _encodings(t)
    one_hot, continuous = _one(rows, "one-hot"), _one(rows, "continuous")
    rank_1 = _fourier(rows, 1.0, "rank")
    few = 0.02 * one_hot["rank"]
    verdicts = {
        "sigma 0.1 keeps distance": _keeps(_fourier(rows, 0.1, "kept")[1]),
        "sigma 0.1 does not expand rank": by_sign(tuple(few - b for b in _fourier(rows, 0.1, "rank")[1][::-1])),
        "sigma 1 keeps distance locally": _keeps(_fourier(rows, 1.0, "kept_near")[1]),
        "sigma 1 expands rank": by_sign(rank_1[1], few),
        "sigma 10 loses distance": _loses(_fourier(rows, 10.0, "kept")[1]),
        "sigma 0.01 is continuous-like": combine(
            [
                _keeps(_fourier(rows, 0.01, "kept")[1]),
                by_sign(tuple(continuous["rank"] + 1.5 - b for b in _fourier(rows, 0.01, "rank")[1][::-1])),
            ]
        ),
        "sigma 100 is one-hot-like": combine(
            [
                _loses(_fourier(rows, 100.0, "kept")[1]),
                by_sign(_fourier(rows, 100.0, "rank")[1], one_hot["rank"] / 2),
            ]
        ),
    }
    return Finding(
        verdict=combine(verdicts.values()),
        value=rank_1[0],
        unit="rank at 99 % energy, sigma 1",
        interval=rank_1[1],
        n=analytic.DRAWS,
        of="draws of frequencies",
        parts=verdicts,
        note=parts_note(verdicts),
    )


def c4(t: Tables) -> Finding:
    """Rank: one-hot above random Fourier (sigma 1) above continuous, and rising with sigma."""
    rows = _encodings(t)
    names = ("one-hot", "continuous", "continuous, distance")
    one_hot, literal, distance = (_one(rows, name)["rank"] for name in names)
    rank, interval = _fourier(rows, 1.0, "rank")
    fourier = rows[rows["encoding"] == "rff"]
    by_draw = fourier.pivot(index="draw", columns="sigma", values="rank").to_numpy(float)
    steps = np.diff(by_draw, axis=1)
    rises = statistics.student_interval(np.diff(by_draw[:, [0, -1]], axis=1)[:, 0])
    monotone = np.diff(by_draw.mean(axis=0)).min() >= 0
    verdicts = {
        "one-hot above random Fourier": by_sign((one_hot - interval[1], one_hot - interval[0])),
        "random Fourier above continuous, read literally": by_sign(interval, literal),
        "random Fourier above continuous, read as distance": by_sign(interval, distance),
        "monotone in sigma": by_sign(rises) if monotone or rises[1] < 0 else Verdict.UNDETERMINED,
    }
    by_sigma = ", ".join(f"{value:.0f}" for value in by_draw.mean(axis=0))
    note = (
        f"One-hot {one_hot:.0f}. One number spans {literal:.0f} direction, and so does its cosine similarity; features "
        f"with the distance-keeping similarity 1 - |p - q| / 2 would span {distance:.0f}. Mean rank by sigma "
        f"{by_sigma}; {np.mean(steps >= 0):.0%} of the single steps do not fall. "
    )
    return Finding(
        verdict=combine(verdicts.values()),
        value=rank,
        unit="rank at 99 % energy, sigma 1",
        interval=interval,
        n=len(by_draw),
        of="draws of frequencies",
        parts=verdicts,
        note=note + parts_note(verdicts),
    )


def c19(t: Tables) -> Finding:
    """The Welch bound for 256 vectors in 128 dimensions, and the largest |cosine| of random tables."""
    rows = needed(t.frame("packing"), "the table of packed vectors")
    bound, smallest = float(rows["bound"].iloc[0]), float(rows["largest"].min())
    verdict = Verdict.SUPPORTED if smallest >= bound > 0 else Verdict.CONTRADICTED
    low, high = float(rows["largest"].min()), float(rows["largest"].max())
    return Finding(
        verdict=verdict,
        value=bound,
        unit="smallest possible largest |cosine|",
        interval=(low, high),
        n=len(rows),
        of="random tables",
        interval_kind="range of the random tables",
    )


def _learned(t: Tables, runs: pd.DataFrame, stage: str = "after", channels: tuple[int, ...] = (RED,)) -> pd.DataFrame:
    """What the learned tables of some runs keep of distance: one row per run, means over the channels."""
    rows = t.learned[(t.learned["stage"] == stage) & t.learned["channel"].isin(channels)]
    means = rows.groupby("run_id")[["kept", "kept_off_band"]].mean()
    return runs.set_index("run_id")[["network", "seed"]].join(means).set_index(["network", "seed"])


def _none_kept(kept_S: np.ndarray, level: float) -> Interval:
    """LOST minus the size of a mean correlation, as an interval: above 0 where it is surely within LOST of 0."""
    low, high = statistics.student_interval(kept_S, level)
    largest, smallest = max(abs(low), abs(high)), max(low, -high, 0.0)
    return LOST - largest, LOST - smallest


def c17(t: Tables) -> Finding:
    """Distance kept by learned tables at L = 3, red channel: conv > mixer > transformers, these none off the band."""
    runs = needed(grid(t, encoding="pix2vec", depth=3), "pix2vec runs of size 3")
    missing = [name for name in NETWORKS if name not in set(runs["network"])]
    if missing:
        raise NotRun(f"Needs pix2vec runs of size 3 of {', '.join(missing)}.")
    seeds = complete_seeds(runs)
    after, before = _learned(t, runs), _learned(t, runs, "before")
    kept, off_band = (after[column].unstack("network") for column in ("kept", "kept_off_band"))
    pairs = (("conv", "mixer"), *(("mixer", name) for name in TRANSFORMERS))
    gaps = {f"{a} above {b}": (kept[a] - kept[b]).loc[seeds].to_numpy() for a, b in pairs}
    parts: dict[str, Callable[[float], Interval]] = {
        name: partial(statistics.student_interval, values) for name, values in gaps.items()
    }
    for name in TRANSFORMERS:
        parts[f"{name} keeps none off the band"] = partial(_none_kept, off_band[name].loc[seeds].to_numpy())
    verdicts = by_parts(parts)
    smallest = min(gaps.values(), key=np.mean) if seeds else np.array([np.nan])
    control = f"Before training they keep {before['kept'].abs().max():.2f} at most. "
    means = ", ".join(f"{name} {kept[name].mean():.2f}" for name in NETWORKS)
    return Finding(
        verdict=combine(verdicts.values()),
        value=float(smallest.mean()),
        unit="smallest gap of rank correlation",
        interval=statistics.student_interval(smallest),
        n=len(runs),
        of="runs",
        seeds=len(seeds),
        by_seed=tuple(smallest),
        parts=verdicts,
        note=f"Kept: {means}. {control}{parts_note(verdicts)}",
    )


def c18(t: Tables) -> Finding:
    """Spearman's correlation, over networks and sizes, of the distance that the learned table keeps and accuracy.

    It is computed for every seed by itself; its interval is over seeds, and over test images by drawing them anew.
    """
    runs = needed(grid(t, encoding="pix2vec"), "pix2vec runs of several networks and sizes").copy()
    runs["kept"] = _learned(t, runs, channels=(0, 1, 2))["kept"].to_numpy()
    settings = len(setting_means(runs))
    if settings < 5:
        raise NotRun(f"Needs at least 5 pix2vec settings of networks and sizes; there are {settings}.")
    seeds = complete_seeds(runs)
    if not seeds:
        raise NotRun("Needs one seed with the pix2vec runs of every network and size.")
    runs = runs[runs["seed"].isin(seeds)].sort_values(["seed", *SETTING])
    kept_SK, accuracy_SK = (runs[name].to_numpy(float).reshape(len(seeds), -1) for name in ("kept", "test_accuracy"))
    value_S = statistics.spearman(kept_SK, accuracy_SK)
    draws_SR = statistics.spearman(kept_SK[:, None], _redrawn_accuracy_SRK(t, runs, len(seeds)))
    value = float(value_S.mean())
    interval = statistics.of_correlation(statistics.crossed_statistic(value_S, draws_SR.mean(axis=0)))
    verdict = by_sign(interval)
    if verdict == Verdict.SUPPORTED and value < 0.6:
        verdict = Verdict.UNDETERMINED
    return Finding(
        verdict=verdict,
        value=value,
        unit="Spearman, mean over seeds",
        interval=interval,
        n=settings,
        of="settings",
        seeds=len(seeds),
        note=f"Seed by seed: {', '.join(f'{rho:.2f}' for rho in value_S)}.",
    )


def _redrawn_accuracy_SRK(t: Tables, runs: pd.DataFrame, seeds: int) -> np.ndarray:
    """The accuracy of runs, which are sorted by seed, on R samples of the test images, drawn with replacement."""
    correct_NB = np.stack([chosen_correct_B(t, run) for _, run in runs.iterrows()])
    accuracy_NR = correct_NB @ image_weights(correct_NB.shape[1])
    return accuracy_NR.reshape(seeds, -1, accuracy_NR.shape[1]).swapaxes(1, 2)


RULES = {"C2": c2, "C3": c3, "C4": c4, "C17": c17, "C18": c18, "C19": c19}
