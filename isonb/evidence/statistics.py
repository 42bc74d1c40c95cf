"""Tests and intervals on plain arrays, on which the claims ledger rests its verdicts.

Every random choice comes from a generator seeded by the caller, so a page shows the same interval at every build.
`Interval` is always (low, high), at the 95 % level unless another is asked for.

Book: chapter "Verdict".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

LEVEL = 0.95
RESAMPLES = 2000
SMALLEST_P = 1e-12  # below it p values are not told apart
SMALLEST_FREEDOM = 1e-3  # stands in where there is none, for a quantile that is not used
Interval = tuple[float, float]


def percentiles(draws: np.ndarray, level: float = LEVEL) -> Interval:
    """The central share `level` of bootstrap draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap(
    statistic: Callable[..., np.ndarray],
    *columns: np.ndarray,
    strata: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Percentile bootstrap interval of `statistic(*columns)`: rows are drawn jointly, inside their stratum if given.

    The statistic works along the last axis; a drawn row replaces one of its own stratum. Draws without a value (a
    constant column has no correlation) are left out.
    """
    columns = tuple(np.asarray(column) for column in columns)
    n = len(columns[0])
    label_n = np.zeros(n, int) if strata is None else _codes(strata)
    generator = np.random.default_rng(seed)
    rows_Rn = np.empty((resamples, n), int)
    for label in np.unique(label_n):
        member = np.flatnonzero(label_n == label)
        rows_Rn[:, member] = generator.choice(member, (resamples, len(member)))
    values_R = np.asarray(statistic(*(column[rows_Rn] for column in columns)), float)
    values_R = values_R[np.isfinite(values_R)]
    return percentiles(values_R) if len(values_R) else (np.nan, np.nan)


def bootstrap_mean(values_B: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Percentile bootstrap interval of the mean of many values; `student_interval` is for a handful, such as seeds."""
    return bootstrap(lambda values: values.mean(axis=-1), np.asarray(values_B, float), seed=seed, resamples=resamples)


def wilson(share: float, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share observed in n trials, such as an accuracy over n test images."""
    interval = scipy.stats.binomtest(round(share * n), n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def student_interval(values: np.ndarray, level: float = LEVEL) -> Interval:
    """Student's t interval of a mean: `mean +- t(0.975, n - 1) s / sqrt(n)` at 95 %; unbounded for one value.

    Used over seeds: a percentile bootstrap of three values cannot reach beyond the smallest and the largest of them,
    so it would take three seeds of equal sign for a certainty, which happens one time in four without any effect.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return -np.inf, np.inf
    half = scipy.stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def crossed_interval(difference_SB: np.ndarray, level: float = LEVEL) -> Interval:
    """Interval of the mean of a difference that was measured with S seeds on the same B test images.

    Both the seeds and the images are samples, so their variances add: the half-width is
    `sqrt((t(0.975, S - 1) s_S / sqrt(S))^2 + (1.96 s_B / sqrt(B))^2)`, with s_S the spread of the seeds' means and
    s_B the spread of the images' means. Slightly wide: the residual is counted in both. Unbounded for one seed.
    """
    difference_SB = np.asarray(difference_SB, float)
    mean = float(difference_SB.mean())
    low, high = student_interval(difference_SB.mean(axis=1), level)
    per_image_B = difference_SB.mean(axis=0)
    images = scipy.special.ndtri((1 + level) / 2) * per_image_B.std(ddof=1) / np.sqrt(len(per_image_B))
    half = float(np.hypot((high - low) / 2, images))
    return mean - half, mean + half


def crossed_statistic(value_S: np.ndarray, image_draws_R: np.ndarray, level: float = LEVEL) -> Interval:
    """The same of any statistic: computed once for each of S seeds, and of all seeds on R resamples of the test images.

    The half-width is `sqrt((t(0.975, S - 1) s_S / sqrt(S))^2 + (1.96 s_R)^2)` around the mean over seeds, with s_R the
    spread of the resamples; without a single resample that has a value it is unbounded, as it is for one seed.
    """
    value_S, image_draws_R = np.asarray(value_S, float), np.asarray(image_draws_R, float)
    image_draws_R = image_draws_R[np.isfinite(image_draws_R)]
    low, high = student_interval(value_S, level)
    if not len(image_draws_R) or not np.isfinite(high - low):
        return -np.inf, np.inf
    half = float(np.hypot((high - low) / 2, scipy.special.ndtri((1 + level) / 2) * image_draws_R.std()))
    return float(value_S.mean() - half), float(value_S.mean() + half)


def of_correlation(interval: Interval) -> Interval:
    """The part of an interval that a correlation can have: it holds the truth as often. Unbounded means unknown."""
    low, high = interval
    return (max(low, -1.0), min(high, 1.0)) if np.isfinite(interval).all() else interval


def moderated(variance_K: np.ndarray, freedom_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The variances of K rows, each known from few values, drawn towards each other as far as they are alike.

    `s^2 = (d_0 s_0^2 + d s_k^2) / (d_0 + d)` with d_0 + d degrees of freedom, at most those of all rows together. s_0
    and d_0 are fitted to the rows' log variances: alike as samples of one variance would be they are pooled
    (d_0 infinite), as different as can be each stands by itself (d_0 = 0). A row's own variance is kept where it is
    larger, so that one row that scatters is not taken for calm. A row of one value, d = 0, borrows s_0 and d_0, and is
    left without a degree of freedom where there are not two rows to fit them to. Where the true variances fall into
    groups, rows of the wider group are still judged too narrowly: what that comes to in this study is measured in
    made-up worlds with its own spreads.

    Source: Smyth, Statistical Applications in Genetics and Molecular Biology 3 (2004), article 3.
    """
    variance_K, freedom_K = np.asarray(variance_K, float), np.asarray(freedom_K, float)
    total, is_known_K = freedom_K.sum(), freedom_K > 0
    variance_K = np.where(is_known_K, variance_K, 0.0)
    if is_known_K.sum() < 2:
        return variance_K, freedom_K
    if not variance_K.any():
        return variance_K, np.full(len(freedom_K), total)
    floor = 1e-5 * np.median(variance_K[variance_K > 0])
    half_K = freedom_K[is_known_K] / 2
    log_K = np.log(np.maximum(variance_K[is_known_K], floor)) - scipy.special.digamma(half_K) + np.log(half_K)
    excess = log_K.var(ddof=1) - scipy.special.polygamma(1, half_K).mean()
    if excess <= 0:
        return np.maximum(variance_K, (freedom_K @ variance_K) / total), np.full(len(freedom_K), total)
    half_prior = _inverse_trigamma(excess)
    prior = np.exp(log_K.mean() + scipy.special.digamma(half_prior) - np.log(half_prior))
    drawn_K = (2 * half_prior * prior + freedom_K * variance_K) / (2 * half_prior + freedom_K)
    return np.maximum(variance_K, drawn_K), np.minimum(2 * half_prior + freedom_K, total)


def _inverse_trigamma(value: float) -> float:
    """The y with trigamma(y) = value > 0, by Newton's method on 1 / trigamma, which is nearly straight."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = scipy.special.polygamma(1, y)
        step = trigamma * (1 - trigamma / value) / scipy.special.polygamma(2, y)
        y += step
        if abs(step) < 1e-10 * y:
            break
    return float(y)


class _Rows(NamedTuple):
    """Of K rows: means, standard errors over seeds and over images, and the degrees of freedom of those over seeds."""

    mean_K: np.ndarray
    seeds_K: np.ndarray
    images_K: np.ndarray
    freedom_K: np.ndarray

    def halves(self, alpha_K: float | np.ndarray) -> np.ndarray:
        """Half the width of each row's interval at the level 1 - alpha."""
        quantile_K = 1 - np.asarray(alpha_K) / 2
        t_K = scipy.special.stdtrit(np.maximum(self.freedom_K, SMALLEST_FREEDOM), quantile_K)
        half_K = np.hypot(t_K * self.seeds_K, scipy.special.ndtri(quantile_K) * self.images_K)
        return np.where(self.freedom_K > 0, half_K, np.inf)

    def intervals(self, level: float) -> list[Interval]:
        half_K = self.halves(1 - level)
        return list(zip((self.mean_K - half_K).tolist(), (self.mean_K + half_K).tolist(), strict=True))

    def p_values(self) -> np.ndarray:
        """The smallest alpha at which each row's interval excludes 0, by bisection of its logarithm."""
        low_K, high_K = np.full(len(self.mean_K), np.log(SMALLEST_P)), np.zeros(len(self.mean_K))
        for _ in range(50):
            middle_K = (low_K + high_K) / 2
            is_excluded_K = self.halves(np.exp(middle_K)) < abs(self.mean_K)
            low_K, high_K = np.where(is_excluded_K, low_K, middle_K), np.where(is_excluded_K, middle_K, high_K)
        return np.where((self.mean_K == 0) | (self.freedom_K == 0), 1.0, np.exp(high_K))


def _over_seeds(rows: Sequence[np.ndarray], images_K: Sequence[float] | None = None) -> _Rows:
    rows = [np.asarray(row_S, float) for row_S in rows]
    seeds_K = np.array([len(row_S) for row_S in rows])
    variance_K, freedom_K = moderated([row_S.var(ddof=1) if len(row_S) > 1 else 0.0 for row_S in rows], seeds_K - 1)
    images_K = np.zeros(len(rows)) if images_K is None else np.asarray(images_K, float)
    return _Rows(np.array([row_S.mean() for row_S in rows]), np.sqrt(variance_K / seeds_K), images_K, freedom_K)


def _over_seeds_and_images(difference_KSB: Sequence[np.ndarray]) -> _Rows:
    rows = [np.asarray(row_SB, float) for row_SB in difference_KSB]
    images_K = [row_SB.mean(axis=0).std(ddof=1) / np.sqrt(row_SB.shape[1]) for row_SB in rows]
    return _over_seeds([row_SB.mean(axis=1) for row_SB in rows], images_K)


def moderated_intervals(difference_KS: Sequence[np.ndarray], level: float = LEVEL) -> list[Interval]:
    """Student's interval of the mean of each of K rows over its seeds, with `moderated` variances.

    Rows may differ in their number of seeds. Unbounded for a row of one seed where no two rows have more.
    """
    return _over_seeds(difference_KS).intervals(level)


def moderated_p(difference_KS: Sequence[np.ndarray]) -> np.ndarray:
    """Two-sided p of each of K rows: the smallest alpha at which its interval of `moderated_intervals` excludes 0."""
    return _over_seeds(difference_KS).p_values()


def moderated_crossed_intervals(difference_KSB: Sequence[np.ndarray], level: float = LEVEL) -> list[Interval]:
    """The same for rows measured on B test images, S_k x B each, with the images' part as in `crossed_interval`.

    The half-width is `sqrt((t s / sqrt(S_k))^2 + (1.96 s_B / sqrt(B))^2)`; only s, over seeds, is moderated.
    """
    return _over_seeds_and_images(difference_KSB).intervals(level)


def moderated_crossed_p(difference_KSB: Sequence[np.ndarray]) -> np.ndarray:
    """Two-sided p of each of K rows: the smallest alpha at which its `moderated_crossed_intervals` exclude 0."""
    return _over_seeds_and_images(difference_KSB).p_values()


def mcnemar(correct_a_B: np.ndarray, correct_b_B: np.ndarray) -> float:
    """Exact two-sided McNemar p: are images that only one of two networks gets right split as by a fair coin?"""
    only_a = int(np.sum(correct_a_B & ~correct_b_B))
    only_b = int(np.sum(correct_b_B & ~correct_a_B))
    return float(scipy.stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def paired_difference(a_B: np.ndarray, b_B: np.ndarray, seed: int = 0) -> tuple[float, Interval]:
    """Mean of a - b over the same images, and its bootstrap interval over images."""
    difference_B = np.asarray(a_B, float) - np.asarray(b_B, float)
    return float(difference_B.mean()), bootstrap_mean(difference_B, seed)


def spearman(x: np.ndarray, y: np.ndarray) -> float | np.ndarray:
    """Spearman's rank correlation along the last axis, without regard to groups; nan where a column is constant."""
    return stratified_spearman(x, y, np.zeros(np.shape(x)[-1], int))


def stratified_spearman(x: np.ndarray, y: np.ndarray, strata: Sequence[Hashable]) -> float | np.ndarray:
    """Spearman's correlation inside strata: separated groups without a relation inside them give about 0.

    In each stratum of n rows the ranks are centred and divided by n + 1 (van Elteren's weights); the result is
    `sum r_x r_y / sqrt(sum r_x^2 sum r_y^2)` over all strata together, along the last axis.
    """
    label = _codes(strata)
    rank_x, rank_y = _ranks_within(x, label), _ranks_within(y, label)
    length = np.sqrt((rank_x**2).sum(axis=-1) * (rank_y**2).sum(axis=-1))
    product = (rank_x * rank_y).sum(axis=-1)
    rho = np.divide(product, length, out=np.full(np.shape(product), np.nan), where=length > 0)
    return rho if rho.ndim else float(rho)


def _codes(labels: Sequence[Hashable]) -> np.ndarray:
    order = {label: code for code, label in enumerate(dict.fromkeys(labels))}
    return np.array([order[label] for label in labels], int)


def _ranks_within(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    ranks = np.empty(values.shape)
    for stratum in np.unique(label):
        member = label == stratum
        n = int(member.sum())
        ranks[..., member] = (scipy.stats.rankdata(values[..., member], axis=-1) - (n + 1) / 2) / (n + 1)
    return ranks


def holm(p_values: Sequence[float], family: int | None = None) -> np.ndarray:
    """Holm's adjusted p values: `max over j <= i of min(1, (m - j + 1) p_(j))` in ascending order.

    m is the number of p values, or `family` where that many hypotheses were fixed beforehand: those without a p value
    count as p = 1. Raises `ValueError` where there are more p values than hypotheses.
    """
    p_values = np.asarray(p_values, float)
    hypotheses = len(p_values) if family is None else family
    if hypotheses < len(p_values):
        raise ValueError(f"{len(p_values)} p values are too many for a family of {hypotheses}: count all hypotheses.")
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    factors = hypotheses - np.arange(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def images_needed(difference_B: np.ndarray, threshold: float = 0.0, power: float = 0.8) -> int | None:
    """How many test images would put the interval of a mean difference clear of `threshold` with the given power.

    `((1.96 + z(power)) s / (mean - threshold))^2`, taking the present mean and spread over images as true; it says
    nothing about other seeds. None where mean and threshold are equal.
    """
    difference_B = np.asarray(difference_B, float)
    away = abs(difference_B.mean() - threshold)
    quantiles = scipy.special.ndtri((1 + LEVEL) / 2) + scipy.special.ndtri(power)
    return int(np.ceil((quantiles * difference_B.std(ddof=1) / away) ** 2)) if away else None


def seeds_needed(
    by_seed: Sequence[float], threshold: float = 0.0, level: float = LEVEL, power: float = 0.8, most: int = 1000
) -> int | None:
    """How many seeds would put the t interval of the mean clear of `threshold` with the given power.

    The smallest n >= 2 with `(t((1 + level) / 2, n - 1) + t(power, n - 1)) s / sqrt(n) <= |mean - threshold|`, taking
    the present mean and spread s as true. None with fewer than two seeds, or beyond `most`.
    """
    by_seed = np.asarray(by_seed, float)
    if len(by_seed) < 2:
        return None
    n = np.arange(2, most + 1)
    quantiles = scipy.stats.t.ppf((1 + level) / 2, n - 1) + scipy.stats.t.ppf(power, n - 1)
    enough = quantiles * by_seed.std(ddof=1) / np.sqrt(n) <= abs(by_seed.mean() - threshold)
    return int(n[np.argmax(enough)]) if enough.any() and by_seed.mean() != threshold else None
