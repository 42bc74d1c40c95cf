"""Tests and intervals on plain arrays, on which the claims ledger rests its verdicts.

Every random choice comes from a generator seeded by the caller, so a page shows the same interval at every build.
`Interval` is always (low, high), at the 95 % level unless another is asked for.

Book: chapter "Verdict".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import scipy

LEVEL = 0.95
RESAMPLES = 2000
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


def mcnemar(correct_a_B: np.ndarray, correct_b_B: np.ndarray) -> float:
    """Exact two-sided McNemar p: are images that only one of two networks gets right split as by a fair coin?"""
    only_a = int(np.sum(correct_a_B & ~correct_b_B))
    only_b = int(np.sum(correct_b_B & ~correct_a_B))
    return float(scipy.stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def paired_difference(a_B: np.ndarray, b_B: np.ndarray, seed: int = 0) -> tuple[float, Interval]:
    """Mean of a - b over the same images, and its bootstrap interval over images."""
    difference_B = np.asarray(a_B, float) - np.asarray(b_B, float)
    return float(difference_B.mean()), bootstrap_mean(difference_B, seed)


def sign_test(differences: np.ndarray) -> float:
    """Exact two-sided sign test p: are positive and negative differences equally likely? Zeros are left out."""
    differences = np.asarray(differences, float)
    positive, negative = int((differences > 0).sum()), int((differences < 0).sum())
    return float(scipy.stats.binomtest(positive, positive + negative).pvalue) if positive + negative else 1.0


def wilcoxon(differences: np.ndarray) -> float:
    """Two-sided Wilcoxon signed-rank p, exact up to 50 differences without ties. Zeros are left out."""
    differences = np.asarray(differences, float)
    differences = differences[differences != 0]
    return float(scipy.stats.wilcoxon(differences).pvalue) if len(differences) else 1.0


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


def stratified_spearman_p(
    x: np.ndarray, y: np.ndarray, strata: Sequence[Hashable], seed: int = 0, permutations: int = 10_000
) -> float:
    """Two-sided permutation p of `stratified_spearman`: y is shuffled inside each stratum.

    `p = (1 + #{|rho*| >= |rho|}) / (1 + permutations)`, so never zero.
    """
    label = _codes(strata)
    rank_x, rank_y = _ranks_within(x, label), _ranks_within(y, label)
    generator = np.random.default_rng(seed)
    total = np.zeros(permutations)
    for stratum in np.unique(label):
        member = label == stratum
        total += generator.permuted(np.tile(rank_y[member], (permutations, 1)), axis=1) @ rank_x[member]
    observed = abs(rank_x @ rank_y)
    return float((1 + (np.abs(total) >= observed * (1 - 1e-12)).sum()) / (1 + permutations))


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


def page_trend(values_RT: np.ndarray) -> float:
    """One-sided p of Page's test that the columns of every row tend to rise from left to right."""
    return float(scipy.stats.page_trend_test(values_RT).pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values: `max over j <= i of min(1, (m - j + 1) p_(j))` in ascending order."""
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    factors = len(p_values) - np.arange(len(p_values))
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
