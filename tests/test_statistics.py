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


def test_rows_that_scatter_alike_share_their_spread_and_keep_their_own_seeds():
    # variances 1 and 1.28 of 2 and 1 degrees of freedom are alike: (2 x 1 + 1.28) / 3, t(0.975, 3) = 3.182446; the
    # second row's own is larger, and the row of one seed borrows
    rows = [[1, 2, 3], [-0.8, 0.8], [5]]
    spreads = [3.28 / 3, 1.28, 3.28 / 3]
    halves = [3.182446 * math.sqrt(spread / seeds) for spread, seeds in zip(spreads, (3, 2, 1), strict=True)]
    expected = [(mean - half, mean + half) for mean, half in zip((2, 0, 5), halves, strict=True)]
    assert np.array(statistics.moderated_intervals(rows)) == pytest.approx(np.array(expected), abs=1e-5)
    # t(0.95, 3) = 2.353363, from the same table
    low, high = statistics.moderated_intervals(rows, 0.9)[2]
    assert (high - low) / 2 == pytest.approx(2.353363 * math.sqrt(3.28 / 3), abs=1e-5)


def test_variances_are_drawn_towards_each_other_as_far_as_they_are_alike():
    # of 2 degrees each, log variances pi sqrt(2/3) apart have a variance of pi^2/3, of which trigamma(1) = pi^2/6 is
    # sampling: the rest is trigamma(d_0 / 2) for d_0 = 2, and s_0^2 is the geometric mean
    smaller, larger = 1.0, math.exp(math.pi * math.sqrt(2 / 3))
    variance, freedom = statistics.moderated([smaller, larger], [2, 2])
    assert variance == pytest.approx([(math.sqrt(larger) + smaller) / 2, larger])  # its own, where that is larger
    assert freedom == pytest.approx([4, 4])
    # alike: pooled with all degrees; a thousand times apart: hardly drawn at all
    variance, freedom = statistics.moderated([1, 1, 1], [2, 2, 2])
    assert variance == pytest.approx([1, 1, 1]) and freedom == pytest.approx([6, 6, 6])
    variance, freedom = statistics.moderated([1e-6, 1, 1e6], [2, 2, 2])
    assert variance[0] < 1 and variance[2] == 1e6 and (freedom < 2.2).all()


def test_one_row_alone_is_students_and_rows_without_a_second_seed_have_no_interval():
    assert statistics.moderated_intervals([[1, 2, 3]])[0] == pytest.approx(statistics.student_interval([1, 2, 3]))
    assert statistics.moderated_intervals([[1.0], [2.0]]) == [(-math.inf, math.inf)] * 2
    assert statistics.moderated_p([[1.0], [2.0]]).tolist() == [1, 1]
    assert statistics.moderated_p([[1.0, 2.0], [2.0]])[1] == 1
    assert statistics.moderated_crossed_intervals([np.ones((1, 4))]) == [(-math.inf, math.inf)]
    assert statistics.moderated_crossed_p([np.ones((1, 4))]).tolist() == [1]
    assert statistics.moderated_intervals([[1, 1], [2, 2]]) == [(1, 1), (2, 2)]  # no spread at all


def test_moderated_p_is_students():
    # t = 2 sqrt(3): with 2 degrees of freedom p = 1 - t / sqrt(t^2 + 2)
    t = 2 * math.sqrt(3)
    assert statistics.moderated_p([[1, 2, 3]]) == pytest.approx([1 - t / math.sqrt(t**2 + 2)])
    # s^2 = 1 in both rows: the same t with 4 degrees, F(t) = 1/2 + (3/8) u (1 - u^2 / 12), u = 2 t / sqrt(t^2 + 4)
    u = 2 * t / math.sqrt(t**2 + 4)
    expected = 2 * (1 - (1 / 2 + 3 / 8 * u * (1 - u**2 / 12)))
    assert statistics.moderated_p([[-3, -2, -1], [-1, 0, 1]]) == pytest.approx([expected, 1])


def test_moderated_rows_on_the_same_images_add_the_images_part():
    # seeds' means 0, 2 and 0, 1, 2: variances 2 and 1 of 1 and 2 degrees are alike: (2 + 2) / 3 or its own 2, on 3
    # degrees; images differ in the second row alone
    first_SB = np.array([[0, 0, 0, 0], [2, 2, 2, 2]])
    second_SB = np.array([[-1, 1, -1, 1], [0, 2, 0, 2], [1, 3, 1, 3]])
    halves = [3.182446, math.hypot(3.182446 * math.sqrt(4 / 3 / 3), 1.959964 / math.sqrt(3))]
    expected = [(1 - half, 1 + half) for half in halves]
    intervals = statistics.moderated_crossed_intervals([first_SB, second_SB])
    assert np.array(intervals) == pytest.approx(np.array(expected), abs=1e-5)
    one_SB = np.random.default_rng(0).normal(size=(3, 50))
    assert statistics.moderated_crossed_intervals([one_SB])[0] == pytest.approx(statistics.crossed_interval(one_SB))


@pytest.mark.parametrize("spreads", [(1,) * 9, (1,) * 8 + (6,), (1, 4, 16) * 3, (1, 10)])
def test_without_any_effect_hardly_one_family_of_rows_in_twenty_has_a_clear_one_above(spreads):
    generator = np.random.default_rng(0)
    clear = 0
    for _ in range(1000):
        rows = np.array(spreads)[:, None] * generator.normal(size=(len(spreads), 3))
        clear += bool((rows.mean(axis=1)[statistics.holm(statistics.moderated_p(rows)) < 0.05] > 0).any())
    assert clear <= 50 + 2 * 7  # 5 % and twice the standard error of a count of 1 000


@quickly
@given(st.lists(st.lists(st.integers(-9, 9), min_size=2, max_size=3), min_size=1, max_size=4), st.floats(0.01, 0.99))
def test_p_is_below_alpha_just_where_the_interval_excludes_zero(rows, level):
    for p_of, intervals_of, made in (
        (statistics.moderated_p, statistics.moderated_intervals, rows),
        (
            statistics.moderated_crossed_p,
            statistics.moderated_crossed_intervals,
            [np.add.outer(row, [-1.0, 0.0, 1.5]) for row in rows],
        ),
    ):
        for p, (low, high) in zip(p_of(made), intervals_of(made, level), strict=True):
            if abs(p - (1 - level)) > 1e-6:
                assert (p < 1 - level) == (low > 0 or high < 0)


def test_a_statistic_over_seeds_and_resampled_images_adds_both():
    # of 1, 2, 3: t s / sqrt(3); the draws 0, 0, 2, 2 have a spread of 1
    low, high = statistics.crossed_statistic([1, 2, 3], [0, 0, 2, 2, math.nan])
    half = math.hypot(T_2 / math.sqrt(3), 1.959964)
    assert (low, high) == pytest.approx((2 - half, 2 + half), abs=1e-5)
    assert statistics.crossed_statistic([1], [0, 2]) == (-math.inf, math.inf)
    assert statistics.crossed_statistic([1, 2, 3], [math.nan]) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    "interval, kept",
    [
        ((-0.5, 0.5), (-0.5, 0.5)),
        ((-0.566, 1.02), (-0.566, 1.0)),
        ((-1.57, 1.41), (-1.0, 1.0)),
        ((-1.2, -0.1), (-1.0, -0.1)),
        ((-math.inf, math.inf), (-math.inf, math.inf)),
    ],
)
def test_the_interval_of_a_correlation_ends_where_none_can_be(interval, kept):
    assert statistics.of_correlation(interval) == kept


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
    low, high = statistics.bootstrap(lambda x, y: statistics.stratified_spearman(x, y, group), x, y, strata=group)
    assert low < 0 < high


def test_the_trap_with_noise():
    generator = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 30)
    x, y = generator.normal(size=90) + 6 * group, generator.normal(size=90) - 6 * group
    assert statistics.spearman(x, y) == pytest.approx(-0.87, abs=0.04)
    assert abs(statistics.stratified_spearman(x, y, group)) < 0.25


def test_holm_by_hand():
    # 4 x .005, 3 x .01, 2 x .03, then .04 is lifted to .06
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([]).size == 0


def test_holm_of_a_fixed_family_counts_hypotheses_that_have_not_run():
    # 5 x .01, 4 x .02; the three others count as p = 1
    assert statistics.holm([0.02, 0.01], family=5) == pytest.approx([0.08, 0.05])
    assert statistics.holm([0.02, 0.01], family=5) == pytest.approx(statistics.holm([0.02, 0.01, 1, 1, 1])[:2])
    with pytest.raises(ValueError, match="2 p values are too many for a family of 1"):
        statistics.holm([0.02, 0.01], family=1)


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


def test_a_row_of_one_seed_borrows_from_two_rows_or_from_none():
    # a single row of known spread 0 is no ground for certainty about another row
    assert statistics.moderated_intervals([np.array([1.0, 1.0]), np.array([2.0])])[1] == (-np.inf, np.inf)
    assert statistics.moderated_p([np.array([1.0, 1.0]), np.array([2.0])])[1] == 1
