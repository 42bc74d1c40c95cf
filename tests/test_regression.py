"""Covariance analysis, matched loss and interaction against answers derived by hand."""

import math

import numpy as np
import pytest

from isonb.evidence import regression


def test_contrast_of_parallel_lines():
    x = np.array([0, 1, 2, 5, 6, 7.0])
    groups = ["a"] * 3 + ["b"] * 3
    y = 1 - 2 * x + np.where(x > 4, 3, 0)
    contrast = regression.ancova(y, x, groups, "b", "a")
    assert contrast.value == pytest.approx(3)
    assert regression.ancova(y, x, groups, "a", "b").value == pytest.approx(-3)


def test_interval_of_a_contrast():
    # residuals (1, -2, 1) e in both groups: s^2 = 12 e^2 / 3, contrast variance s^2 (1/3 + 1/3), t(0.975, 3) = 3.182446
    e = 0.1
    x = np.array([-1, 0, 1, -1, 0, 1.0])
    y = 5 + 2 * x + e * np.array([1, -2, 1, 1, -2, 1]) + np.array([0, 0, 0, 3, 3, 3])
    contrast = regression.ancova(y, x, "aaabbb", "b", "a")
    half = 3.182446 * e * math.sqrt(4 * 2 / 3)
    assert contrast.interval == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert contrast.p < 0.001


def test_a_pooled_difference_that_the_covariate_explains():
    x = np.array([0, 1, 2, 3, 4, 5.0])
    noise = 0.01 * np.array([1, -1, 1, -1, 1, -1])
    contrast = regression.ancova(10 - x + noise, x, "aaabbb", "a", "b")
    assert abs(contrast.value) < 0.05
    assert contrast.p > 0.05


@pytest.mark.parametrize(("groups", "a"), [("aaab", "a"), ("aaaaaa", "b")])
def test_a_contrast_needs_both_groups_and_freedom(groups, a):
    values = np.arange(len(groups), dtype=float)
    with pytest.raises(ValueError, match="needs both groups"):
        regression.ancova(values[:3], values[:3], groups[:3], a, "b")


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


ROWS, COLUMNS = list("aaaabbbb"), list("xxyyxxyy")


def test_interaction_of_a_two_by_two_table():
    # cell means 1 0 / 0 1, residuals +-0.1: effects +-1/2, MSE = 0.08 / 4, F = 2 * 4 / 4 / 0.02, t(0.975, 4) = 2.776445
    y = np.array([1.1, 0.9, 0.1, -0.1, 0.1, -0.1, 1.1, 0.9])
    effect = regression.interaction(y, ROWS, COLUMNS)
    assert effect.largest == pytest.approx(0.5)
    assert pytest.approx(100) == effect.F
    assert effect.upper == pytest.approx(0.5 + 2.776445 * math.sqrt(0.02 / 8), abs=1e-5)
    assert effect.p < 0.05
    order = np.random.default_rng(0).permutation(8)
    shuffled = regression.interaction(y[order], np.array(ROWS)[order], np.array(COLUMNS)[order])
    assert shuffled[:3] == pytest.approx(effect[:3])


def test_main_effects_are_no_interaction():
    y = np.array([1.1, 0.9, 2.1, 1.9, 5.1, 4.9, 6.1, 5.9])
    effect = regression.interaction(y, ROWS, COLUMNS)
    assert effect.largest == pytest.approx(0)
    assert effect.p > 0.9


def test_the_reach_of_an_interaction_in_a_two_by_three_table():
    # six cells of +-0.1: MSE = 0.12 / 6, half-width t(0.975, 6) sqrt(0.02 * 1 * 2 / (2 * 3 * 2))
    effect = regression.interaction(np.tile([0.1, -0.1], 6), list("aaaaaabbbbbb"), list("xxyyzzxxyyzz"))
    assert effect.largest == pytest.approx(0)
    assert effect.upper == pytest.approx(2.446912 * math.sqrt(0.04 / 12), abs=1e-5)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [("aabb", "xyxy"), ("aaaabbbb", "xxxyxxyy"), ("aaaa", "xxyy"), ("aaaaaabb", "xxyyyyxx")],
)
def test_interaction_refuses_unbalanced_tables(rows, columns):
    with pytest.raises(ValueError, match="same number of values"):
        regression.interaction(np.arange(len(rows)), list(rows), list(columns))
