"""The features of pixel values against naive loops and closed forms."""

from math import cos, exp, pi, sin

import numpy as np
import pytest

from isonb import draws, features


def test_values_are_scaled_to_the_whole_of_either_range():
    symmetric_V, unit_V = features.scaled_values(), features.scaled_values("unit")
    assert (symmetric_V[0], symmetric_V[255], unit_V[0], unit_V[255]) == (-1, 1, 0, 1)
    assert symmetric_V[51] == pytest.approx((51 - 127.5) / 127.5)
    assert unit_V[51] == pytest.approx(0.2)


def test_random_fourier_features_are_sines_then_cosines():
    beta_k = np.array([0.5, -2.0, 3.25])
    features_VF = features.random_fourier(beta_k, "unit")
    assert features_VF.shape == (256, 6)
    for value in (0, 1, 200):
        phases = [2 * pi * beta * value / 255 for beta in beta_k]
        assert features_VF[value] == pytest.approx([sin(p) for p in phases] + [cos(p) for p in phases], abs=1e-12)


def test_frequencies_are_one_draw_scaled_by_sigma():
    beta_k = features.draw_frequencies(10.0, 64, seed=3)
    assert beta_k == pytest.approx(10 * draws.normal(3, "random Fourier frequencies", np.arange(64)))
    assert beta_k[:8] == pytest.approx(features.draw_frequencies(10.0, 8, seed=3))


def test_cosine_similarity_equals_the_naive_loop():
    features_VF = draws.normal(0, "test", np.arange(5)[:, None], np.arange(3))
    for i, a in enumerate(features_VF):
        for j, b in enumerate(features_VF):
            naive = sum(a * b) / (sum(a * a) * sum(b * b)) ** 0.5
            assert features.cosine_similarity(features_VF)[i, j] == pytest.approx(naive)


def test_a_row_of_zeros_has_no_similarity():
    with pytest.raises(ValueError, match="no direction"):
        features.cosine_similarity(np.array([[1.0, 0.0], [0.0, 0.0]]))


def test_similarity_of_random_fourier_features_depends_on_the_difference_alone():
    beta_k = features.draw_frequencies(1.0, 16, seed=1)
    similarity_VV = features.cosine_similarity(features.random_fourier(beta_k))
    for i, j in ((0, 0), (3, 90), (255, 10)):
        assert similarity_VV[i, j] == pytest.approx(np.mean([cos(2 * pi * b * 2 * (i - j) / 255) for b in beta_k]))


def test_the_three_encodings_at_their_extremes():
    assert (features.cosine_similarity(features.one_hot()) == np.eye(256)).all()
    signs_V = np.sign(features.continuous()[:, 0])
    assert features.cosine_similarity(features.continuous()) == pytest.approx(np.outer(signs_V, signs_V))


@pytest.mark.parametrize(("power", "rank"), [([98, 1, 1], 2), ([99, 1, 0], 1), ([50, 50, 0], 2), ([1, 1, 1], 3)])
def test_rank_counts_the_directions_that_hold_the_energy(power, rank):
    assert features.rank_at_energy(np.diag(np.sqrt(power)), 0.985) == rank


def test_rank_at_99_percent_of_known_encodings():
    assert features.rank_at_energy(features.continuous()) == 1
    assert features.rank_at_energy(features.one_hot()) == 254  # 253 of 256 equal directions are 98.8 %


def test_the_profile_is_the_mean_over_equal_distances():
    similarity_VV = np.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.0]])
    assert features.similarity_profile(similarity_VV) == pytest.approx([1.0, 0.4, 0.1])


def test_the_continuous_profile_follows_from_counting_signs():
    profile_V = features.similarity_profile(features.cosine_similarity(features.continuous()))
    # Of the 256 - d pairs that are d <= 128 levels apart, d straddle zero and count -1.
    assert profile_V[:129] == pytest.approx([(256 - 3 * d) / (256 - d) for d in range(129)])


@pytest.mark.parametrize(("value_range", "step"), [("symmetric", 2 / 255), ("unit", 1 / 255)])
def test_the_expected_profile_is_the_mean_over_many_draws(value_range, step):
    expected_V = features.expected_profile(1.5, value_range)
    assert expected_V[20] == pytest.approx(exp(-2 * pi**2 * 1.5**2 * (20 * step) ** 2))
    beta_k = features.draw_frequencies(1.5, 4096, seed=0)
    drawn_V = features.similarity_profile(features.cosine_similarity(features.random_fourier(beta_k, value_range)))
    assert np.abs(drawn_V - expected_V).max() < 0.06  # four standard errors of a mean of 4096 cosines, 256 times


def test_half_width_is_the_first_distance_below_a_half():
    assert features.half_width(np.array([1.0, 0.7, 0.5, 0.49, 0.8, 0.1])) == 3
    assert features.half_width(np.array([1.0, 0.9, 0.5])) is None
    assert features.half_width(features.similarity_profile(np.eye(256))) == 1
    # exp(-2 pi^2 (2 d / 255)^2) = 1/2 at d = 23.9
    assert features.half_width(features.expected_profile(1.0)) == 24


def test_learned_positions_are_kept_as_maps_of_their_cosines():
    by_row_ND = np.repeat(np.eye(5), 5, axis=0)  # a position knows its row and nothing else
    by_row_ND[7] = 0  # the third of the second row
    maps_QHW = features.unpack_positions(features.pack_positions(by_row_ND))
    assert maps_QHW.shape == (25, 5, 5)  # of a picture of 5 by 5 every position is mapped
    np.testing.assert_array_equal(maps_QHW[24], np.repeat([[0, 0, 0, 0, 1]], 5, axis=0).T)
    assert not maps_QHW[7].any()
    assert features.mapped_places(32).tolist() == [3, 9, 16, 22, 28]


def test_near_positions_are_the_four_beside():
    maps_QHW = features.unpack_positions(features.pack_positions(np.repeat(np.eye(5), 5, axis=0)))
    near, apart = features.near_and_apart(maps_QHW)
    assert near == 0.5  # of 2 x 5 x 4 pairs in either direction, those in a row
    assert apart == pytest.approx(
        5 * (5 * 4 - 8) / (25 * 24 - 80)
    )  # the others in a row, of all that are no neighbours
