"""What encodings keep and blocks cost, against small cases by hand and the numbers of the paper's setting."""

import math

import numpy as np
import pytest

from isonb import config, features
from isonb.evidence import analytic
from isonb.models import blocks


def test_a_similarity_that_falls_with_distance_keeps_all_of_it():
    i = np.arange(6)
    nearness_VV = -np.abs(i[:, None] - i).astype(float)
    assert features.distance_kept(nearness_VV) == pytest.approx(1)
    assert features.distance_kept(-nearness_VV) == pytest.approx(-1)
    assert features.distance_kept(features.one_hot()) == 0


def test_distance_can_be_kept_near_and_lost_far():
    i = np.arange(6)
    distance_VV = np.abs(i[:, None] - i)
    # falls over distances 0 to 2, rises from there on
    similarity_VV = np.abs(distance_VV - 2.5)
    assert features.distance_kept(similarity_VV, furthest=2) == pytest.approx(1)
    assert features.distance_kept(similarity_VV, nearest=3) == pytest.approx(-1)
    assert -1 < features.distance_kept(similarity_VV) < 1


def test_the_fixed_encodings_of_the_paper():
    rows = analytic.encodings().set_index("encoding")
    one_hot, literal, distance = (rows.loc[name] for name in ("one-hot", "continuous", "continuous, distance"))
    assert (one_hot["kept"], one_hot["rank"], one_hot["half_width"]) == (0, 254, 1)  # 99 % of 256 equal energies
    assert distance["kept"] == pytest.approx(1)
    assert literal["rank"] == 1
    # the sign of p q: 128 x 128 pairs of unlike halves among 32640; their rank correlation with distance
    assert 0.5 < literal["kept"] < 0.9
    rff = rows.loc["rff"].groupby("sigma")[["kept_near", "half_width", "rank"]].mean()
    # exp(-2 pi^2 sigma^2 delta^2) = 1/2 at delta = sqrt(ln 2 / 2) / (pi sigma), 127.5 levels to a unit
    for sigma in (1.0, 3.0, 10.0):
        assert rff.loc[sigma, "half_width"] == pytest.approx(
            127.5 * math.sqrt(math.log(2) / 2) / (math.pi * sigma), abs=2
        )
    assert (np.diff(rff["rank"]) >= 0).all()


def test_welch_bound_by_hand():
    assert analytic.welch_bound(256, 128) == pytest.approx(math.sqrt(128 / (128 * 255)))
    assert analytic.welch_bound(3, 2) == pytest.approx(0.5)  # three lines in a plane, 60 degrees apart
    assert analytic.welch_bound(2, 2) == 0


def test_random_tables_stay_above_the_bound_and_keep_nothing():
    rows = analytic.packing()
    assert (rows["largest"] > rows["bound"]).all()
    assert rows["kept"].abs().max() < 0.05


def test_counts_of_the_blocks():
    rows = analytic.blocks().set_index("block")
    assert rows.loc["conv", "macs"] == rows.loc["mixer", "macs"] == 301_989_888
    assert rows.loc["transformer", "macs"] == 369_098_752
    assert list(rows["largest_activation"]) == [1024 * 128, 1024 * 128, 1024 * 1024]
    assert analytic.blocks(heads=4).set_index("block").loc["transformer", "largest_activation"] == 4 * 1024 * 1024


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("size", "width", "heads"), [(32, 128, 1), (16, 64, 4)])
def test_counts_by_hand_are_those_of_the_program(size, width, heads, kernel):
    counted = analytic.blocks(size**2, width, heads, kernel).set_index("block")["macs"]
    own = {"conv": {"kernel_size": kernel}, "mixer": {}, "transformer": {"heads": heads}}
    assert list(counted.index) == list(own)
    for name, settings in own.items():
        run = config.RunConfig(block=name, image_size=size, width=width, **settings)
        assert counted[name] == blocks.multiply_accumulates(run)
