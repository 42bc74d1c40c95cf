"""The stateless draws: known answers from plain integers, and what the rest of the project relies on."""

import zlib
from math import cos, log1p, pi, sqrt

import numpy as np
import pytest

from isonb import draws

WORD = 2**64


def splitmix64(state: int) -> int:
    """The published finaliser, in Python's unbounded integers."""
    z = state % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def bits_by_hand(seed, purpose, *indices):
    gamma = 0x9E3779B97F4A7C15
    key = splitmix64(seed * gamma + zlib.crc32(purpose.encode()))
    for index in indices:
        key = splitmix64(key + (index + 1) * gamma)
    return key


def test_the_finaliser_gives_the_published_sequence():
    # The first outputs of SplitMix64 from state 1234567, the known answers that its ports are checked against.
    gamma = 0x9E3779B97F4A7C15
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [splitmix64(1234567 + (step + 1) * gamma) for step in range(4)] == published
    states = np.array([(1234567 + (step + 1) * gamma) % WORD for step in range(4)], np.uint64)
    assert draws._mix(states).tolist() == published


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
@pytest.mark.parametrize("indices", [(), (0,), (7, 3), (50_000, 2, 1023)])
def test_bits_equal_plain_integers(seed, indices):
    assert int(draws.bits(seed, "masks", *indices)) == bits_by_hand(seed, "masks", *indices)


def test_indices_broadcast_to_the_numbers_of_each_combination():
    bits_AB = draws.bits(5, "order", np.arange(3)[:, None], np.arange(4))
    assert bits_AB.shape == (3, 4)
    assert bits_AB.dtype == np.uint64
    assert bits_AB.tolist() == [[bits_by_hand(5, "order", a, b) for b in range(4)] for a in range(3)]
    assert draws.uniform(5, "order", 2).shape == ()
    assert draws.normal(5, "order", np.arange(6).reshape(2, 3)).shape == (2, 3)


def test_a_number_does_not_depend_on_what_it_is_drawn_with():
    together = draws.uniform(0, "masks", np.arange(100))
    assert together[37] == draws.uniform(0, "masks", 37)
    assert together[::-1].tolist() == draws.uniform(0, "masks", np.arange(99, -1, -1)).tolist()


def test_uniform_numbers_are_the_top_53_bits_and_fill_the_interval_evenly():
    assert float(draws.uniform(3, "weights", 11)) == (bits_by_hand(3, "weights", 11) >> 11) / 2**53
    uniform_N = draws.uniform(0, "weights", np.arange(64_000))
    assert uniform_N.min() >= 0
    assert uniform_N.max() < 1
    counts = np.bincount((uniform_N * 64).astype(int), minlength=64)
    chi_squared = ((counts - 1000) ** 2 / 1000).sum()
    assert 30 < chi_squared < 110  # 63 degrees of freedom: both tails beyond 1 in 5 000


def test_normal_numbers_are_the_box_muller_transform_with_the_normal_moments():
    radius, angle = (draws.uniform(9, f"frequencies/{part}", 4) for part in ("radius", "angle"))
    assert draws.normal(9, "frequencies", 4) == pytest.approx(
        sqrt(-2 * log1p(-radius)) * cos(2 * pi * angle), rel=1e-14
    )
    normal_N = draws.normal(0, "frequencies", np.arange(100_000))
    moments = [normal_N.mean(), (normal_N**2).mean(), (normal_N**3).mean(), (normal_N**4).mean()]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.1)


@pytest.mark.parametrize("other", [(1, "masks", 0), (0, "order", 0), (0, "masks", 1)])
def test_other_seeds_purposes_and_indices_give_unrelated_numbers(other):
    here = draws.uniform(0, "masks", 0, np.arange(20_000))
    there = draws.uniform(*other, np.arange(20_000))
    assert not np.isin(here, there).any()
    assert abs(np.corrcoef(here, there)[0, 1]) < 0.03  # four standard errors
    assert abs(np.corrcoef(here[1:], here[:-1])[0, 1]) < 0.03


def test_a_permutation_holds_every_number_once_and_depends_on_its_indices():
    orders = [draws.permutation(seed, "order", 500, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(500))
    assert len({tuple(order) for order in orders}) == 4
    keys = [bits_by_hand(1, "order", 1, i) for i in range(500)]
    assert orders[3].tolist() == sorted(range(500), key=keys.__getitem__)


def test_every_place_of_a_permutation_is_equally_likely():
    first = [int(draws.permutation(0, "order", 3, epoch)[0]) for epoch in range(3000)]
    assert all(abs(first.count(place) - 1000) < 110 for place in range(3))  # four standard deviations
