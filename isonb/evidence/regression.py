"""Accuracy explained by loss and factors: analysis of covariance, interaction, and curves compared at equal loss.

Book: chapter "Verdict".
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from isonb.evidence.statistics import LEVEL


def ancova_weights(covariate: np.ndarray, groups: Sequence[Hashable], a: Hashable, b: Hashable) -> np.ndarray:
    """Weights w, so that `w @ y` is the level of group a minus that of b in `y = level[group] + slope * covariate`.

    Least squares with one common slope, that inside the groups; along the last axis. Where the covariate does not vary
    inside any group, the slope is taken as 0. Raises `ValueError` when a group is missing.
    """
    covariate = np.asarray(covariate, float)
    label = np.array([str(group) for group in groups])
    is_a, is_b = label == str(a), label == str(b)
    if not (is_a.any() and is_b.any()):
        raise ValueError(f"The contrast {a} - {b} needs both groups.")
    difference = is_a / is_a.sum() - is_b / is_b.sum()
    inside = covariate.copy()
    for group in set(label):
        inside[..., label == group] -= covariate[..., label == group].mean(axis=-1, keepdims=True)
    squares = (inside**2).sum(axis=-1, keepdims=True)
    per_unit = np.divide(inside, squares, out=np.zeros_like(inside), where=squares > 0)
    return difference - (difference * covariate).sum(axis=-1, keepdims=True) * per_unit


def cluster_permutation_p(
    x_SK: np.ndarray, y_SK: np.ndarray, strata: Sequence[Hashable], clusters: Sequence[Hashable]
) -> float:
    """Exact two-sided p of the mean over seeds of Spearman inside strata: inside each, whole clusters change places.

    All clusters of a stratum have the same number of columns, in the same order. Every way of giving the clusters of y
    to those of x counts, in all strata and with all seeds alike: `p = #{|rho*| >= |rho|} / #`, so never zero.
    """
    stratum_K, cluster_K = (np.array([str(label) for label in labels]) for labels in (strata, clusters))
    members = [np.flatnonzero(stratum_K == stratum) for stratum in dict.fromkeys(stratum_K)]
    ranks = [[_centred_ranks(values[:, member]) for member in members] for values in (x_SK, y_SK)]
    length_S = np.sqrt(np.prod([sum((of**2).sum(axis=1) for of in one) for one in ranks], axis=0))
    length_S = np.where(length_S > 0, length_S, 1.0)
    total = np.zeros(1)
    for rank_x, rank_y, member in zip(*ranks, members, strict=True):
        places = [np.flatnonzero(cluster_K[member] == cluster) for cluster in dict.fromkeys(cluster_K[member])]
        x_SCn, y_SCn = (rank[:, np.array(places)] / np.sqrt(length_S)[:, None, None] for rank in (rank_x, rank_y))
        product_CC = np.einsum("scn,sdn->cd", x_SCn, y_SCn)
        orders = np.array(list(itertools.permutations(range(len(places)))))
        of_stratum = product_CC[np.arange(len(places)), orders].sum(axis=1)  # the first order is that at hand
        total = (total[:, None] + of_stratum).ravel()
    return float((np.abs(total) >= abs(total[0]) * (1 - 1e-12)).mean())


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, centred and divided by n + 1, as in `statistics.stratified_spearman`."""
    n = values.shape[-1]
    return (scipy.stats.rankdata(values, axis=-1) - (n + 1) / 2) / (n + 1)


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
    """The effects of a two-factor interaction, R x C, and their standard errors over seeds and over test images."""

    effect_RC: np.ndarray
    seeds_error: float
    images_error_RC: np.ndarray
    freedom: int

    def half_RC(self, level: float = LEVEL) -> np.ndarray:
        """Half the width of each effect's own interval; unbounded for one seed."""
        if not self.freedom:
            return np.full(self.effect_RC.shape, np.inf)
        t, z = scipy.stats.t.ppf((1 + level) / 2, self.freedom), scipy.special.ndtri((1 + level) / 2)
        return np.hypot(t * self.seeds_error, z * self.images_error_RC)


def interaction(y_RCSB: np.ndarray) -> Interaction:
    """How much the effect of the column factor depends on the row factor, over S seeds on the same B test images.

    The effect of a cell is `mean_ij - mean_i. - mean_.j + mean`. Its variances over seeds and images add, as in
    `crossed_interval`: that over seeds is `MS_error (R - 1)(C - 1) / (R C S)` with R C (S - 1) degrees of freedom.
    """
    R, C, S, B = y_RCSB.shape
    mean_RCS = y_RCSB.mean(axis=3)
    freedom = R * C * (S - 1)
    squares = np.sum((mean_RCS - mean_RCS.mean(axis=2, keepdims=True)) ** 2)
    seeds_error = float(np.sqrt(squares / freedom * (R - 1) * (C - 1) / (R * C * S))) if freedom else float("inf")
    images_error_RC = _double_centred(y_RCSB.mean(axis=2)).std(axis=2, ddof=1) / np.sqrt(B)
    return Interaction(_double_centred(mean_RCS.mean(axis=2)), seeds_error, images_error_RC, freedom)


def _double_centred(values: np.ndarray) -> np.ndarray:
    """Without the means over rows and over columns, the first two axes."""
    rows, columns = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    return values - rows - columns + values.mean(axis=(0, 1), keepdims=True)
