"""Accuracy explained by loss and factors: analysis of covariance, interaction, and curves compared at equal loss.

Book: chapter "Verdict".
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from isonb.evidence.statistics import LEVEL, Interval


class Contrast(NamedTuple):
    """A difference of two group levels at equal covariate: estimate, interval, two-sided p."""

    value: float
    interval: Interval
    p: float


def ancova(
    y: np.ndarray,
    covariate: np.ndarray,
    groups: Sequence[Hashable],
    a: Hashable,
    b: Hashable,
    level: float = LEVEL,
) -> Contrast:
    """Level of group a minus level of group b in `y = level[group] + slope * covariate + error`, one common slope.

    Ordinary least squares; the interval and p are Student's with n - (number of groups) - 1 degrees of freedom.
    Raises `ValueError` when a group is missing or no degree of freedom is left.
    """
    y, covariate = np.asarray(y, float), np.asarray(covariate, float)
    levels = list(dict.fromkeys(groups))
    freedom = len(y) - len(levels) - 1
    if a not in levels or b not in levels or freedom < 1:
        raise ValueError(f"The contrast {a} - {b} needs both groups and more rows than groups plus one.")
    design = np.column_stack([*([group == level for group in groups] for level in levels), covariate]).astype(float)
    inverse = np.linalg.pinv(design.T @ design)
    estimate = inverse @ design.T @ y
    variance = np.sum((y - design @ estimate) ** 2) / freedom
    weights = np.array([(level == a) - (level == b) for level in levels] + [0], float)
    value, error = float(weights @ estimate), float(np.sqrt(variance * (weights @ inverse @ weights)))
    half = scipy.stats.t.ppf((1 + level) / 2, freedom) * error
    p = 2 * scipy.stats.t.sf(abs(value) / error, freedom) if error else float(value == 0)
    return Contrast(value, (value - half, value + half), float(p))


def at_loss(loss_E: np.ndarray, accuracy_E: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Accuracy at the wanted losses, linear between the checkpoints of one run; nan outside its range of losses."""
    order = np.argsort(loss_E)
    return np.interp(wanted, np.asarray(loss_E)[order], np.asarray(accuracy_E)[order], left=np.nan, right=np.nan)


def matched_loss_difference(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], points: int = 101
) -> float:
    """Mean accuracy of run a minus run b at equal loss, over the losses that both passed through in training.

    Each run is (loss, accuracy) by checkpoint. nan when their ranges of loss do not overlap.
    """
    low, high = max(min(a[0]), min(b[0])), min(max(a[0]), max(b[0]))
    if low > high:
        return float("nan")
    wanted = np.linspace(low, high, points)
    return float(np.mean(at_loss(*a, wanted) - at_loss(*b, wanted)))


class Interaction(NamedTuple):
    """A two-factor interaction: its largest effect in the unit of y, an upper bound of it, F and permutation p."""

    largest: float
    upper: float
    F: float
    p: float


def interaction(
    y: np.ndarray, rows: Sequence[Hashable], columns: Sequence[Hashable], seed: int = 0, permutations: int = 5000
) -> Interaction:
    """Does the effect of the column factor depend on the row factor? For a balanced layout of n > 1 values per cell.

    The effect of a cell is `mean_ij - mean_i. - mean_.j + mean`; F is the usual ratio of mean squares. p permutes the
    residuals of the additive model (Freedman & Lane, 1983). The upper bound of the largest |effect| adds the
    half-width of one effect: `t(0.975, df) sqrt(MS_error (R - 1)(C - 1) / (R C n))`.
    Raises `ValueError` for an unbalanced layout or single values.
    """
    y, rows, columns = np.asarray(y, float), np.asarray(rows), np.asarray(columns)
    order = np.lexsort((columns, rows))
    R, C = len(np.unique(rows)), len(np.unique(columns))
    n = len(y) // (R * C)
    cells, counts = np.unique(np.column_stack([rows, columns]).astype(str), axis=0, return_counts=True)
    balanced = len(cells) == R * C and (counts == n).all()
    if n < 2 or min(R, C) < 2 or not balanced:
        raise ValueError("An interaction needs two factors and the same number of values, at least two, in each cell.")
    y_RCn = y[order].reshape(R, C, n)
    means_RC = y_RCn.mean(axis=2)
    additive_RC = means_RC.mean(axis=1, keepdims=True) + means_RC.mean(axis=0, keepdims=True) - means_RC.mean()
    error = _mean_square_error(y_RCn)
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, R * C * (n - 1)) * np.sqrt(error * (R - 1) * (C - 1) / (R * C * n))
    largest = float(np.abs(means_RC - additive_RC).max())
    observed = _interaction_F(y_RCn)
    residual = (y_RCn - additive_RC[:, :, None]).ravel()
    generator = np.random.default_rng(seed)
    shuffled = np.array([_interaction_F(generator.permutation(residual).reshape(R, C, n)) for _ in range(permutations)])
    p = float((1 + (shuffled >= observed * (1 - 1e-12)).sum()) / (1 + permutations))
    return Interaction(largest, largest + float(half), float(observed), p)


def _mean_square_error(y_RCn: np.ndarray) -> float:
    R, C, n = y_RCn.shape
    return float(np.sum((y_RCn - y_RCn.mean(axis=2, keepdims=True)) ** 2) / (R * C * (n - 1)))


def _interaction_F(y_RCn: np.ndarray) -> float:
    R, C, n = y_RCn.shape
    means_RC = y_RCn.mean(axis=2)
    effect_RC = means_RC - means_RC.mean(axis=1, keepdims=True) - means_RC.mean(axis=0, keepdims=True) + means_RC.mean()
    between = n * np.sum(effect_RC**2) / ((R - 1) * (C - 1))
    error = _mean_square_error(y_RCn)
    return between / error if error else float("inf") if between else 0.0
