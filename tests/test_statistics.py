"""Tests and intervals against answers derived by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isonb.evidence import statistics

quickly = settings(deadline=None, max_examples=50)
T_2, T_1 = 4.302653, 12.706205  # Student's t, 0.975, 2 and 1 degrees of freedom, from a printed table


def mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1)


def trap(points: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three groups, each a square grid with no relation inside it, that follow each other down to the right."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(points), np.arange(points)))
    group = np.repeat([0, 1, 2], len(x))
    return np.tile(x, 3) + 10.0 * group, np.tile(y, 3) - 10.0 * group, group


def test_student_interval_of_three_values():
    # mean 2, s = 1: half-width t / sqrt(3)
    low, high = statistics.student_interval([1, 2, 3])
    assert (low, high) == pytest.approx((2 - T_2 / math.sqrt(3), 2 + T_2 / math.sqrt(3)), abs=1e-5)


def test_one_seed_decides_nothing():
    assert statistics.student_interval([0.7]) == (-math.inf, math.inf)
    assert statistics.crossed_interval([[0.0, 1.0, 1.0]]) == (-math.inf, math.inf)
    assert statistics.seeds_needed([0.7]) is None


def test_bootstrap_of_three_seeds_stays_between_them_and_the_t_interval_does_not():
    low, high = statistics.bootstrap_mean([1, 2, 3])
    assert 1 <= low < high <= 3
    assert statistics.student_interval([1, 2, 3])[0] < 0


def test_bootstrap_mean_of_many_coins_is_the_normal_interval():
    low, high = statistics.bootstrap_mean(np.tile([0, 1], 2000))
    half = 1.96 * 0.5 / math.sqrt(4000)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.002)


def test_bootstrap_is_repeatable_and_depends_on_its_seed():
    values = np.arange(20.0)
    assert statistics.bootstrap(mean, values, seed=1) == statistics.bootstrap(mean, values, seed=1)
    assert statistics.bootstrap(mean, values, seed=1) != statistics.bootstrap(mean, values, seed=2)


def test_bootstrap_draws_rows_jointly():
    x = np.arange(10.0)
    assert statistics.bootstrap(lambda a, b: np.abs(a + b).max(axis=-1), x, -x) == (0, 0)


def test_bootstrap_inside_strata_keeps_each_stratum_at_its_size():
    labels = np.array([0] * 3 + [1] * 7)
    assert statistics.bootstrap(mean, labels, strata=labels) == (0.7, 0.7)
    assert statistics.bootstrap(mean, labels)[0] < 0.6


def test_bootstrap_of_a_constant_has_no_correlation():
    assert all(map(math.isnan, statistics.bootstrap(statistics.spearman, np.ones(5), np.arange(5.0))))


def test_crossed_interval_adds_seeds_and_images():
    # seeds' means 0 and 2: s / sqrt(2) = 1, images do not differ
    assert statistics.crossed_interval([[0, 0], [2, 2]]) == pytest.approx((1 - T_1, 1 + T_1), abs=1e-5)
    # seeds do not differ; images' means 0, 2, 0, 2: s / sqrt(4) = sqrt(1 / 3)
    low, high = statistics.crossed_interval([[0, 2, 0, 2]] * 3)
    assert (low, high) == pytest.approx((1 - 1.959964 / math.sqrt(3), 1 + 1.959964 / math.sqrt(3)), abs=1e-5)
    # both at once: half-widths add in squares
    low, high = statistics.crossed_interval([[0, 2, 0, 2], [1, 3, 1, 3], [2, 4, 2, 4]])
    assert high - 2 == pytest.approx(math.hypot(T_2 / math.sqrt(3), 1.959964 / math.sqrt(3)), abs=1e-5)
    assert low == pytest.approx(4 - high)


def test_mcnemar_counts_images_that_one_network_alone_gets_right():
    # 8 against 2 of 10: 2 (1 + 10 + 45) / 1024
    a = np.array([True] * 8 + [False] * 2 + [True] * 5)
    b = np.array([False] * 8 + [True] * 2 + [True] * 5)
    assert statistics.mcnemar(a, b) == pytest.approx(112 / 1024)
    assert statistics.mcnemar(b, a) == pytest.approx(112 / 1024)
    assert statistics.mcnemar(a, a) == 1


def test_paired_difference_removes_what_two_networks_share():
    hard = np.random.default_rng(0).normal(size=500)
    value, (low, high) = statistics.paired_difference(hard + 0.01, hard)
    assert value == pytest.approx(0.01)
    assert high - low < 1e-9


def test_sign_test_of_nine_equal_signs():
    assert statistics.sign_test([1] * 9 + [0]) == pytest.approx(2 / 512)
    assert statistics.sign_test([1, -1]) == 1
    assert statistics.sign_test([0, 0]) == 1


def test_wilcoxon_of_five_positive_differences():
    # the all-positive assignment and its mirror among 2^5
    assert statistics.wilcoxon([1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    # ranks of the negatives {1}: sums 0 and 1 and their mirrors
    assert statistics.wilcoxon([-1, 2, 3, 4, 5, 0]) == pytest.approx(4 / 32)
    assert statistics.wilcoxon([1, -2, -3, -4, -5]) == pytest.approx(4 / 32)
    assert statistics.wilcoxon([0.0, 0.0]) == 1


def test_spearman_of_four_ranks():
    # 1 - 6 (0 + 1 + 1 + 0) / (4 * 15)
    assert statistics.spearman([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)
    assert math.isnan(statistics.spearman([1, 1, 1], [1, 2, 3]))


def test_stratified_spearman_weighs_strata():
    # two strata of three, rho 1 and 1/2
    x, y = [1, 2, 3, 1, 2, 3], [1, 2, 3, 2, 1, 3]
    assert statistics.stratified_spearman(x, y, "aaabbb") == pytest.approx(0.75)
    # strata of two (rho 1) and four (rho 0.8): (1/18 + 4/25) / (1/18 + 1/5)
    x, y = [1, 2, 1, 2, 3, 4], [5, 6, 1, 3, 2, 4]
    assert statistics.stratified_spearman(x, y, "aabbbb") == pytest.approx(97 / 115)


def test_the_trap_of_three_separated_groups():
    x, y, group = trap()
    # nine tied ranks 2, 5, ... 26 have variance 60, the groups' mean ranks 5, 14, 23 variance 54
    assert statistics.spearman(x, y) == pytest.approx(-54 / 60)
    assert statistics.stratified_spearman(x, y, group) == pytest.approx(0)
    assert statistics.stratified_spearman_p(x, y, group) > 0.9
    low, high = statistics.bootstrap(lambda x, y: statistics.stratified_spearman(x, y, group), x, y, strata=group)
    assert low < 0 < high


def test_the_trap_with_noise():
    generator = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 30)
    x, y = generator.normal(size=90) + 6 * group, generator.normal(size=90) - 6 * group
    assert statistics.spearman(x, y) == pytest.approx(-0.87, abs=0.04)
    assert abs(statistics.stratified_spearman(x, y, group)) < 0.25
    assert statistics.stratified_spearman_p(x, y, group) > 0.05


def test_stratified_permutation_p_counts_orders():
    # three in order: 2 of 3! orders are as extreme; two such strata: 2 of 36
    assert statistics.stratified_spearman_p([1, 2, 3], [1, 2, 3], "aaa") == pytest.approx(1 / 3, abs=0.02)
    x = [1, 2, 3, 11, 12, 13]
    assert statistics.stratified_spearman_p(x, x, "aaabbb") == pytest.approx(1 / 18, abs=0.01)


def test_a_permutation_p_is_never_zero():
    x = np.arange(20)
    assert statistics.stratified_spearman_p(x, x, x // 10, permutations=99) == pytest.approx(1 / 100)


def test_page_trend_of_three_rising_rows():
    assert statistics.page_trend(np.array([[1, 2, 3]] * 3)) == pytest.approx((1 / 6) ** 3)
    assert statistics.page_trend(np.array([[3, 2, 1]] * 3)) == pytest.approx(1)


def test_holm_by_hand():
    # 4 x .005, 3 x .01, 2 x .03, then .04 is lifted to .06
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([]).size == 0


@quickly
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_holm_never_helps_and_keeps_the_order(p_values):
    adjusted = statistics.holm(p_values)
    assert (adjusted >= np.asarray(p_values)).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p_values)]) >= 0).all()
    assert adjusted.min() == pytest.approx(min(1, len(p_values) * min(p_values)))


def test_seeds_needed_by_hand():
    # mean 2, s 1: (3.182 + 0.978) / sqrt(4) = 2.08 is too wide, (2.776 + 0.941) / sqrt(5) = 1.66 is not
    assert statistics.seeds_needed([1, 2, 3]) == 5
    assert statistics.seeds_needed([1, 2, 3], threshold=2) is None
    assert statistics.seeds_needed([5, 5, 5]) == 2
    assert statistics.seeds_needed([-1, 1.001], most=50) is None


def test_images_needed_by_hand():
    # mean 1/2, s 1/sqrt(3) x ... of 0, 0, 1, 1: s^2 = 1/3; (1.96 + 0.8416)^2 / 3 / (1/2)^2 = 10.47
    assert statistics.images_needed([0, 0, 1, 1]) == 11
    # a quarter as far away takes sixteen times as many: 167.4
    assert statistics.images_needed([0, 0, 1, 1], threshold=0.375) == 168
    assert statistics.images_needed([0, 0, 1, 1], threshold=0.5) is None


columns = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=12)


@quickly
@given(columns)
def test_spearman_sees_ranks_only_and_one_stratum_is_pooled(pairs):
    x, y = np.array(pairs, float).T
    rho = statistics.spearman(x, y)
    assert math.isnan(rho) or -1 - 1e-12 <= rho <= 1 + 1e-12
    assert statistics.spearman(np.exp(x / 9), y) == pytest.approx(rho, nan_ok=True)
    assert statistics.spearman(-x, y) == pytest.approx(-rho, nan_ok=True)
    assert statistics.stratified_spearman(x, y, ["all"] * len(x)) == pytest.approx(rho, nan_ok=True)


@quickly
@given(columns, st.integers(-50, 50))
def test_a_shift_of_one_stratum_changes_nothing_inside(pairs, shift):
    x, y = np.array(pairs, float).T
    label = np.arange(len(x)) % 2
    before = statistics.stratified_spearman(x, y, label)
    assert statistics.stratified_spearman(x + shift * label, y, label) == pytest.approx(before, nan_ok=True)


@quickly
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=15))
def test_sign_test_does_not_depend_on_the_side(differences):
    differences = np.array(differences, float)
    assert statistics.sign_test(differences) == pytest.approx(statistics.sign_test(-differences))
