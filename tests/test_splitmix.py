"""The numbers drawn on a device are those of `isonb.draws`, bit for bit."""

import numpy as np
import pytest
import torch

from isonb import draws
from isonb.models import splitmix

SEEDS = (0, 1, 7, 2**31 - 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_bits_are_those_of_the_draws(seed):
    index_B, unit_U = torch.tensor([0, 1, 5, 49_999, 2**31, 2**40]), torch.arange(2000)
    expected = draws.bits(seed, "training masks", 3, index_B.numpy()[:, None], unit_U.numpy())
    key = torch.tensor(splitmix.key(seed, "training masks", 3))
    found = splitmix.bits(splitmix.bits(key, index_B)[:, None], unit_U)
    assert found.dtype == torch.int64 and np.array_equal(found.numpy().view(np.uint64), expected)
    assert np.array_equal(splitmix.bits(key, index_B[:, None], unit_U).numpy().view(np.uint64), expected)
    assert (found < 0).any() and (found > 0).any()  # both halves of what has no sign


@pytest.mark.parametrize("share", [0.15, 1 / 3, 0.5, 2.0**-53, 1 - 2.0**-53])
def test_a_share_of_numbers_lies_below_it_without_rounding(share):
    key, index_S = torch.tensor(splitmix.key(2, "shares")), torch.arange(10_000)
    expected_S = draws.uniform(2, "shares", index_S.numpy())
    drawn_S = splitmix.bits(key, index_S)
    assert np.array_equal(splitmix.uniform(drawn_S).numpy(), expected_S)
    assert np.array_equal(splitmix.is_below(share, drawn_S).numpy(), expected_S < share)
    for number in expected_S[:50]:  # equal to a number is not below it
        assert np.array_equal(splitmix.is_below(float(number), drawn_S).numpy(), expected_S < number)


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_an_order_is_that_of_the_draws(n):
    key = torch.tensor(splitmix.key(4, "probe order", n, 9))
    assert splitmix.permutation(key, n).tolist() == draws.permutation(4, "probe order", n, n, 9).tolist()
