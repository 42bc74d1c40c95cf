"""Claims about the relation of loss and accuracy, and about what the objective does to the features."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from isonb.evidence import regression, statistics
from isonb.evidence.ledger.finding import (
    ALPHA,
    SEEDS,
    Finding,
    NotRun,
    Verdict,
    by_parts,
    combine,
    parts_note,
)
from isonb.evidence.ledger.select import (
    ENCODINGS,
    SETTING,
    Answers,
    chosen_correct_B,
    complete_seeds,
    gain_B,
    gap,
    grid,
    image_differences,
    needed,
    over_seeds_and_images,
    with_gain,
)
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.statistics import Interval

ENOUGH_SETTINGS = 6
ENOUGH_PATHS = 3  # the fewest settings probed along training that are counted
RESAMPLES = 400  # of the test images: for a spread, not for its ends
STRONG, CLEAR = -0.8, -0.5  # a correlation over all settings, and what its interval must stay below; one inside strata
STRATA = {"inside networks": ("network", "encoding"), "inside encodings": ("encoding", "network")}  # and what is moved


class Points(NamedTuple):
    """The K settings of Figure 4, with loss and accuracy of S seeds, and accuracy on R resamples of the test images."""

    settings: pd.DataFrame
    seeds: list[int]
    loss_SK: np.ndarray
    accuracy_SK: np.ndarray
    resampled_RSK: np.ndarray

    def only(self, is_kept_K: np.ndarray) -> Points:
        """The same of some of the settings."""
        kept = [values[..., is_kept_K] for values in (self.loss_SK, self.accuracy_SK, self.resampled_RSK)]
        return Points(self.settings[is_kept_K].reset_index(drop=True), self.seeds, *kept)

    def interval(
        self, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], level: float = statistics.LEVEL
    ) -> tuple[float, Interval]:
        """A statistic of losses and accuracies, K last: its mean over seeds, and the interval over seeds and images."""
        value_S = np.atleast_1d(statistic(self.loss_SK, self.accuracy_SK))
        draws_R = np.asarray(statistic(self.loss_SK, self.resampled_RSK)).mean(axis=-1)
        return float(value_S.mean()), statistics.crossed_statistic(value_S, draws_R, level)

    def rank_correlation(self, of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> tuple[float, Interval]:
        """The same of a rank correlation, whose interval ends where it cannot be."""
        value, interval = self.interval(of)
        return value, statistics.of_correlation(interval)


def points(t: Tables, of: Answers = chosen_correct_B) -> Points:
    """The main runs of the seeds that have every setting; raises `NotRun` where there are too few settings or seeds."""
    runs = grid(t)
    settings = runs[SETTING].drop_duplicates().sort_values(SETTING).reset_index(drop=True)
    if len(settings) < ENOUGH_SETTINGS:
        raise NotRun(f"Needs at least {ENOUGH_SETTINGS} settings with loss and accuracy; there are {len(settings)}.")
    seeds = complete_seeds(runs)
    if not seeds:
        raise NotRun("Needs one seed of which every setting has run.")
    runs = runs[runs["seed"].isin(seeds)].sort_values(["seed", *SETTING])
    correct_SKB = np.stack([of(t, run) for _, run in runs.iterrows()]).reshape(len(seeds), len(settings), -1)
    resampled_SKR = correct_SKB @ image_weights(correct_SKB.shape[2])
    loss_SK = runs["validation_loss"].to_numpy(float).reshape(len(seeds), -1)
    return Points(settings, seeds, loss_SK, correct_SKB.mean(axis=2), resampled_SKR.transpose(2, 0, 1))


@functools.lru_cache(maxsize=2)
def image_weights(images: int) -> np.ndarray:
    """B x R: how much each test image counts in each resample; the same for everything that is computed."""
    counts_RB = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    return counts_RB.T / images


def c7(t: Tables) -> Finding:
    """Spearman's correlation of loss and accuracy over all settings, seed by seed."""
    at = points(t)
    value, interval = at.rank_correlation(statistics.spearman)
    verdict = Verdict.UNDETERMINED
    if value <= STRONG and interval[1] < CLEAR:
        verdict = Verdict.SUPPORTED
    elif interval[1] < 0:
        verdict = Verdict.PARTLY
    elif interval[0] > 0:
        verdict = Verdict.CONTRADICTED
    inside = _rho(_mean_rho(at, at.settings["network"]))
    return Finding(
        verdict=verdict,
        value=value,
        unit="Spearman, mean of the seeds",
        interval=interval,
        n=len(at.settings),
        of="settings",
        seeds=len(at.seeds),
        note=f"Separated blocks alone can give such a value; inside them it is {inside} (C8).",
    )


def _mean_rho(at: Points, strata: pd.Series) -> float:
    return float(np.mean(statistics.stratified_spearman(at.loss_SK, at.accuracy_SK, list(strata))))


def _rho(rho: float) -> str:
    return "unknown" if np.isnan(rho) else f"{rho:.2f}"  # of one setting, or of equal ones


def _spread(interval: Interval) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}, " if np.isfinite(interval).all() else ""


class Inside(NamedTuple):
    """The correlation inside the levels of one factor: of all together, of each, and its exact permutation p."""

    value: float
    interval: Interval
    by_level: dict[str, float]
    p: float
    settings: int

    def verdict(self, alpha: float) -> Verdict:
        """Supported where it is strong, negative in every level and clear at `alpha`; partly where it is only clear."""
        if self.p >= alpha:
            return Verdict.UNDETERMINED
        if self.interval[0] > 0:
            return Verdict.CONTRADICTED
        if self.interval[1] >= 0:
            return Verdict.UNDETERMINED
        is_whole = self.value <= CLEAR and all(rho < 0 for rho in self.by_level.values())
        return Verdict.SUPPORTED if is_whole else Verdict.PARTLY


def inside(at: Points, level: str, moved: str) -> Inside | None:
    """Spearman inside the levels of a factor, over the sizes that all of a level's clusters share.

    A cluster is a network with one encoding, at all of these sizes: sizes of one network are near-copies of each other
    and change places together. None without two levels that have two clusters each.
    """
    settings = at.settings
    clusters = settings.groupby(level)[moved].transform("nunique")
    is_kept = (settings.groupby([level, "depth"])[moved].transform("nunique") == clusters) & (clusters > 1)
    kept = at.only(is_kept.to_numpy())
    levels = list(kept.settings[level])
    if len(set(levels)) < 2:
        return None
    value, interval = kept.rank_correlation(partial(statistics.stratified_spearman, strata=levels))
    by_level = {
        name: _mean_rho(one, one.settings[level])
        for name in dict.fromkeys(levels)
        for one in [kept.only((kept.settings[level] == name).to_numpy())]
    }
    p = regression.cluster_permutation_p(kept.loss_SK, kept.accuracy_SK, levels, list(kept.settings[moved]))
    return Inside(value, interval, by_level, p, len(levels))


def c8(t: Tables) -> Finding:
    """The same inside networks, over encodings and sizes, and inside encodings, over networks and sizes."""
    at = points(t)
    parts = {name: part for name, of in STRATA.items() if (part := inside(at, *of)) is not None}
    if len(parts) < len(STRATA):
        raise NotRun("Needs runs of at least two networks with at least two encodings each.")
    verdicts = {name: part.verdict(ALPHA) for name, part in parts.items()}
    if any(verdict != Verdict.SUPPORTED for verdict in verdicts.values()):
        verdicts = {name: part.verdict(ALPHA / len(parts)) for name, part in parts.items()}
    weakest = max(parts.values(), key=lambda part: part.value)
    notes = [
        f"Rank correlation {name}: {_rho(part.value)} ({_spread(part.interval)}exact p = {part.p:.2g}); "
        f"{', '.join(f'{one} {_rho(rho)}' for one, rho in sorted(part.by_level.items()))}."
        for name, part in parts.items()
    ]
    return Finding(
        verdict=combine(verdicts.values()),
        value=weakest.value,
        unit="Spearman inside strata, the weaker of two",
        interval=weakest.interval,
        n=weakest.settings,
        of="settings",
        p=joint_p({name: (verdicts[name], part.p) for name, part in parts.items()}),
        seeds=len(at.seeds),
        parts=verdicts,
        note=" ".join([parts_note(verdicts), *notes]),
    )


def joint_p(parts: Mapping[str, tuple[Verdict, float]]) -> float:
    """The p of a claim in several parts: the largest where all are supported, else the smallest, times the parts."""
    p_values = [p for _, p in parts.values()]
    if all(verdict == Verdict.SUPPORTED for verdict, _ in parts.values()):
        return max(p_values)
    return min(1.0, len(p_values) * min(p_values))


def c9(t: Tables) -> Finding:
    """At equal loss: continuous minus random Fourier, and random Fourier minus pix2vec."""
    return with_gain(_at_equal_loss(t, chosen_correct_B), t, lambda twins: _at_equal_loss(twins, gain_B))


def _at_equal_loss(t: Tables, of: Answers) -> Finding:
    at = points(t, of)
    steps = {f"{a} above {b}": (a, b) for a, b in (("continuous", "rff"), ("rff", "pix2vec"))}
    if not set(ENCODINGS) <= set(at.settings["encoding"]):
        raise NotRun("Needs runs of all three encodings.")
    contrasts = {name: partial(_contrast, list(at.settings["encoding"]), *step) for name, step in steps.items()}
    intervals = {name: partial(_interval, at, contrast) for name, contrast in contrasts.items()}
    along = {}
    if of is chosen_correct_B:  # untrained networks have no path
        along = {
            name: gap(path) for name, step in steps.items() if len(path := matched_loss(t, grid(t), "encoding", *step))
        }
    for name, path in along.items():
        if len(path.settings) >= ENOUGH_PATHS and len(path.by_seed) >= SEEDS:
            intervals[f"{name} along training"] = partial(statistics.student_interval, path.by_seed)
    verdicts = by_parts(intervals)
    smallest = min(steps, key=lambda name: at.interval(contrasts[name])[0])
    value, interval = at.interval(contrasts[smallest])
    return Finding(
        verdict=combine(verdicts.values()),
        value=value,
        unit=f"accuracy at equal loss, {smallest}",
        interval=interval,
        n=len(at.settings),
        of="settings",
        seeds=len(at.seeds),
        parts=verdicts,
        note=" ".join([parts_note(verdicts), *_in_words({name: path.settings for name, path in along.items()})]),
    )


def _contrast(encodings: list[str], a: str, b: str, loss_K: np.ndarray, accuracy_K: np.ndarray) -> np.ndarray:
    """The contrast of two encodings at equal loss, for any number of leading axes."""
    return (regression.ancova_weights(loss_K, encodings, a, b) * accuracy_K).sum(axis=-1)


def _interval(at: Points, contrast: Callable[..., np.ndarray], level: float) -> Interval:
    return at.interval(contrast, level)[1]


def _in_words(along: Mapping[str, pd.Series]) -> list[str]:
    """The accuracy gained at equal loss along training, as a sentence, or an empty list without any."""
    gains = ", ".join(
        f"{name} by {by_setting.mean():+.3f} ({len(by_setting)} setting{'s' * (len(by_setting) > 1)})"
        for name, by_setting in along.items()
    )
    return [f"Accuracy at equal loss along training: {gains}."] * bool(gains)


def matched_loss(t: Tables, runs: pd.DataFrame, factor: str, a: object, b: object) -> pd.Series:
    """Accuracy at level a minus level b of a factor, at equal loss along training, by setting and seed with both."""
    probed = t.curves.dropna(subset=["probe_accuracy"])
    paths = {
        run_id: (path["validation_loss"].to_numpy(float), path["probe_accuracy"].to_numpy(float))
        for run_id, path in probed.groupby("run_id")
    }
    index = [name for name in (*SETTING, "seed") if name != factor]
    wide = runs[runs["run_id"].isin(paths)].pivot(index=index, columns=factor, values="run_id")
    wide = wide.reindex(columns=[a, b]).dropna()
    values = [regression.matched_loss_difference(paths[x], paths[y]) for x, y in zip(wide[a], wide[b], strict=True)]
    return pd.Series(values, wide.index, dtype=float).dropna()


def c20(t: Tables) -> Finding:
    """Accuracy of networks trained on discrete values minus that of their twins trained by squared error."""
    runs = needed(grid(t, (MAIN, "objective=mse")), "runs with objective=mse beside the main ones")
    return over_seeds_and_images(image_differences(t, runs, "objective", "bert", "mse", chosen_correct_B))


RULES = {"C7": c7, "C8": c8, "C9": c9, "C20": c20}
