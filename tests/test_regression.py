"""Covariance analysis, permutations of clusters, matched loss and interaction against answers derived by hand."""

import itertools
import math

import numpy as np
import pytest

from isonb.evidence import regression, statistics


def test_contrast_of_parallel_lines():
    x = np.array([0, 1, 2, 5, 6, 7.0])
    groups = ["a"] * 3 + ["b"] * 3
    y = 1 - 2 * x + np.where(x > 4, 3, 0)
    assert regression.ancova_weights(x, groups, "b", "a") @ y == pytest.approx(3)
    assert regression.ancova_weights(x, groups, "a", "b") @ y == pytest.approx(-3)


def test_the_weights_are_those_of_least_squares():
    generator = np.random.default_rng(0)
    x_SK, groups = generator.normal(size=(4, 9)), list("aabbbcccc")
    weights_SK = regression.ancova_weights(x_SK, groups, "c", "a")
    for x_K, weights_K in zip(x_SK, weights_SK, strict=True):
        design = np.column_stack([*(np.array(groups) == group for group in "abc"), x_K]).astype(float)
        y_K = generator.normal(size=9)
        level_a, _, level_c, _ = np.linalg.lstsq(design, y_K)[0]
        assert weights_K @ y_K == pytest.approx(level_c - level_a)


def test_a_pooled_difference_that_the_covariate_explains():
    x = np.array([0, 1, 2, 3, 4, 5.0])
    noise = 0.01 * np.array([1, -1, 1, -1, 1, -1])
    assert abs(regression.ancova_weights(x, "aaabbb", "a", "b") @ (10 - x + noise)) < 0.05


def test_groups_of_one_covariate_each_are_compared_as_they_are():
    weights = regression.ancova_weights(np.array([1, 1, 5.0]), "aab", "a", "b")
    assert weights == pytest.approx([0.5, 0.5, -1])


@pytest.mark.parametrize("groups", ["aaa", "bbb", "ccc"])
def test_a_contrast_needs_both_groups(groups):
    with pytest.raises(ValueError, match="needs both groups"):
        regression.ancova_weights(np.arange(3.0), groups, "a", "b")


def naive_p(x_SK, y_SK, strata, clusters):
    """The share of all ways to move whole clusters of y inside their stratum that give as large a mean correlation."""
    labels = list(zip(strata, clusters, strict=True))
    names = {stratum: list(dict.fromkeys(c for s, c in labels if s == stratum)) for stratum in dict.fromkeys(strata)}
    place = {label: [k for k, other in enumerate(labels) if other == label] for label in labels}
    rhos = []
    for orders in itertools.product(*(itertools.permutations(of) for of in names.values())):
        moved = np.empty(len(labels), int)
        for (stratum, clusters_of_it), order in zip(names.items(), orders, strict=True):
            for to, source in zip(clusters_of_it, order, strict=True):
                moved[place[stratum, to]] = place[stratum, source]
        rhos.append(
            np.mean([statistics.stratified_spearman(x, y[moved], strata) for x, y in zip(x_SK, y_SK, strict=True)])
        )
    return np.mean(np.abs(rhos) >= abs(rhos[0]) - 1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_clusters_change_places_whole_inside_their_stratum(seed):
    generator = np.random.default_rng(seed)
    strata, clusters = list("aaaaaabbbb"), list("uuvvwwuuvv")  # 3! x 2! ways
    x_SK, y_SK = generator.normal(size=(2, 3, 10))
    p = regression.cluster_permutation_p(x_SK, y_SK, strata, clusters)
    assert p == pytest.approx(naive_p(x_SK, y_SK, strata, clusters))
    order = generator.permutation(10)  # columns may come in another order, sizes alike in every cluster
    order = sorted(order, key=lambda k: k % 2)
    again = regression.cluster_permutation_p(
        x_SK[:, order], y_SK[:, order], [strata[k] for k in order], [clusters[k] for k in order]
    )
    assert again == pytest.approx(p)


def test_a_perfect_relation_of_clusters_is_one_of_all_ways():
    x_SK = np.arange(12.0)[None]
    # of the 3! ways in each of two strata only one keeps all ranks, and reversed clusters keep the order inside them
    assert regression.cluster_permutation_p(x_SK, -x_SK, list("aaaaaabbbbbb"), list("uuvvww" * 2)) == 1 / 36
    assert regression.cluster_permutation_p(x_SK, 0 * x_SK, list("aaaaaabbbbbb"), list("uuvvww" * 2)) == 1


def test_accuracy_at_a_loss_between_checkpoints():
    loss, accuracy = np.array([3, 2, 1.0]), np.array([0.1, 0.3, 0.7])
    assert regression.at_loss(loss, accuracy, np.array([1.5, 2.0])) == pytest.approx([0.5, 0.3])
    assert np.isnan(regression.at_loss(loss, accuracy, np.array([0.9, 3.1]))).all()


def test_matched_loss_sees_through_a_run_that_is_merely_further():
    loss = np.linspace(5, 1, 9)
    ahead = (loss, 1 - loss / 10)
    behind = (loss[:6], 1 - loss[:6] / 10)
    better = (loss[:6], 1.2 - loss[:6] / 10)
    assert regression.matched_loss_difference(ahead, behind) == pytest.approx(0)
    assert regression.matched_loss_difference(better, ahead) == pytest.approx(0.2)
    assert math.isnan(regression.matched_loss_difference((loss + 9, loss), ahead))


def test_interaction_of_a_two_by_two_table():
    # cell means 1 0 / 0 1, seeds +-0.1: effects +-1/2; MS_error = 4 x 2 x 0.01 / 4 = 0.02 with 4 degrees of freedom
    mean_RC, seed_S = np.array([[1, 0], [0, 1.0]]), np.array([0.1, -0.1])
    y_RCSB = (mean_RC[:, :, None] + seed_S)[..., None] * np.ones(50)
    effect = regression.interaction(y_RCSB)
    assert effect.effect_RC == pytest.approx(np.array([[0.5, -0.5], [-0.5, 0.5]]))
    assert effect.freedom == 4
    # standard error sqrt(0.02 x 1 x 1 / (2 x 2 x 2)); t(0.975, 4) = 2.776445
    assert effect.half_RC() == pytest.approx(np.full((2, 2), 2.776445 * math.sqrt(0.02 / 8)), abs=1e-6)


def test_images_widen_the_effects_of_an_interaction_by_their_own_spread():
    # cell 1 1 is 1 on half of 100 images, all others never: effect 1/4 of that image by image, so s_B = 0.25 s
    y_RCSB = np.zeros((2, 2, 3, 100))
    y_RCSB[0, 0, :, :50] = 1
    effect = regression.interaction(y_RCSB)
    s = 0.5 * math.sqrt(100 / 99)
    assert effect.effect_RC == pytest.approx(0.125 * np.array([[1, -1], [-1, 1]]))
    assert effect.half_RC() == pytest.approx(np.full((2, 2), 1.959964 * 0.25 * s / 10), abs=1e-6)


def test_main_effects_are_no_interaction():
    y_RC = np.array([1, 5.0])[:, None] + np.array([0, 1, 7.0])
    assert regression.interaction(np.ones((2, 3, 2, 4)) * y_RC[:, :, None, None]).effect_RC == pytest.approx(
        np.zeros((2, 3))
    )


def test_the_reach_of_an_interaction_in_a_two_by_three_table():
    # six cells of +-0.1: MS_error = 0.12 / 6, half-width t(0.975, 6) sqrt(0.02 x 1 x 2 / (2 x 3 x 2))
    effect = regression.interaction(np.ones((2, 3, 1, 9)) * np.array([0.1, -0.1])[:, None])
    assert effect.half_RC() == pytest.approx(np.full((2, 3), 2.446912 * math.sqrt(0.04 / 12)), abs=1e-6)


def test_one_seed_leaves_an_interaction_open():
    assert np.isinf(regression.interaction(np.zeros((2, 2, 1, 5))).half_RC()).all()
