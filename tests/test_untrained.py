"""What pre-training adds to a network with its initial weights: in which settings, and to which networks most."""

import dataclasses

import numpy as np
import pytest
from simulated_study import NETWORKS, sign_of, study

from isonb.evidence import claims
from isonb.evidence.ledger import select
from isonb.evidence.ledger.finding import NotRun, Setting, Verdict

SUPPORTED, PARTLY, UNDETERMINED, CONTRADICTED, NOT_RUN = Verdict
LITTLE = {"conv": 0, "mixer": 1, "transformer-1": 2, "transformer-4": 3}


def gain(effect, **changes):
    """Networks that are right on 80 % of the images; `effect` is what they gain over their untrained twins."""
    settings = dict(accuracy=lambda **_: 0.8, networks=NETWORKS, depths=(1, 3)) | changes
    return study(untrained=lambda **c: 0.8 - effect(c), **settings)


def judged(name, t):
    return claims.apply(claims.BY_ID[name], t)


def test_the_gain_is_judged_setting_by_setting():
    finding = judged("C37", gain(lambda c: 0.2 if c["network"] != "conv" else -0.1 if c["depth"] == 1 else 0.3))
    assert (finding.verdict, finding.n, finding.seeds, finding.value) == (PARTLY, 24, 3, pytest.approx(-0.1))
    assert list(finding.map)[:2] == [Setting("conv", "continuous", 1), Setting("conv", "continuous", 3)]
    assert {setting for setting, contrast in finding.map.items() if contrast.sign < 0} == {
        Setting("conv", encoding, 1) for encoding in ("continuous", "rff", "pix2vec")
    }
    assert "Convolution: clearly so in 3 of 6 settings (continuous, rff and pix2vec at size 3), " in finding.note
    assert "clearly the opposite in 3 of 6 settings (continuous, rff and pix2vec at size 1). " in finding.note
    assert "Mean accuracy, untrained to trained: conv 70.0% to 80.0%, mixer 60.0% to 80.0%" in finding.note


def test_each_of_the_two_is_read_at_its_own_best_layer():
    t = gain(lambda c: 0.2, depths=(3,), layer_accuracy=lambda **c: 0.8 if c["layer"] == 3 else 0.1)
    assert (set(t.runs["best_layer"]), set(t.runs["untrained_best_layer"])) == ({3}, {1})
    assert judged("C37", t).value == pytest.approx(0.2)


def test_a_network_whose_seeds_disagree_does_not_hide_the_gain_of_another():
    def scattered(c):
        return 0.2 + (0.1 * sign_of(c["seed"]) if c["network"] == "conv" else 0)

    both = judged("C37", gain(scattered, networks=("conv", "mixer")))
    assert both.map["conv", "rff", 1].low < 0 < 0.1 < both.map["mixer", "rff", 1].low
    assert (both.verdict, both.seeds) == (PARTLY, 3)


def test_what_is_not_built_in_is_gained_step_by_step():
    encodings = {"continuous": 0, "rff": 0.1, "pix2vec": 0.16}
    t = gain(lambda c: 0.15 * min(LITTLE[c["network"]], 2) + encodings[c["encoding"]])
    finding = judged("C38", t)
    assert (finding.verdict, finding.value, finding.n) == (SUPPORTED, pytest.approx(0.06), 5)
    # conv: (0 + 0.1 + 0.16) / 3 on average
    assert "Mean gain: conv +0.087, mixer +0.237, transformer-1 +0.387, transformer-4 +0.387" in finding.note
    turned = judged("C38", gain(lambda c: 0.1 * LITTLE[c["network"]] - encodings[c["encoding"]] + 0.2))
    assert turned.verdict == PARTLY and "It is not so: rff above continuous; pix2vec above rff." in turned.note
    assert "transformer-4 above mixer. It is not so" in turned.note


def test_networks_are_compared_at_the_sizes_that_both_have():
    t = gain(lambda c: 0.05 * LITTLE[c["network"]] + (0.4 if c["depth"] == 3 else 0))
    is_large = (t.runs["network"] == "transformer-4") & (t.runs["depth"] == 3)
    finding = judged("C38", dataclasses.replace(t, runs=t.runs[~is_large]))
    # 0.1 above the mixer at size 1; against all of the mixer's sizes it would be 0.1 - 0.2
    assert "transformer-4 above mixer. Not clear" in finding.note


def test_a_network_that_has_not_run_leaves_its_step_open():
    finding = judged("C38", gain(lambda c: 0.1 * LITTLE[c["network"]] + 0.1, networks=NETWORKS[:2]))
    assert finding.note.endswith("Not run: transformer-1 above mixer, transformer-4 above mixer.")
    steps = {"continuous": 0, "rff": 0.1, "pix2vec": 0.2}
    t = gain(lambda c: 0.1 * LITTLE[c["network"]] + steps[c["encoding"]], networks=NETWORKS[:2])
    assert judged("C38", t).verdict == PARTLY


@pytest.mark.parametrize("name", ["C37", "C38"])
def test_without_twins_nothing_is_gained(name):
    finding = judged(name, study())
    assert finding.verdict == NOT_RUN and finding.note == "Needs the probes of untrained twins (isonb complete)."
    t = gain(lambda c: 0.1)
    some = t.runs["network"] == "conv"
    t.runs.loc[~some, "gain"] = float("nan")
    assert all(setting.pair == "conv" for setting in judged("C37", t).map)


def test_only_sizes_with_every_twin_are_judged_and_all_twins_where_there_is_none():
    t = study(untrained=lambda **c: 0.3, networks=("conv", "mixer"), depths=(1, 3), seeds=(0, 1, 2))
    is_missing = (t.runs["depth"] == 3) & (t.runs["network"] == "mixer") & (t.runs["seed"] == 2)
    lacking = dataclasses.replace(t, runs=t.runs.assign(gain=t.runs["gain"].mask(is_missing)))
    assert set(select.with_twins(t).runs["depth"]) == {1, 3}
    assert set(select.with_twins(lacking).runs["depth"]) == {1}
    first = dataclasses.replace(t, runs=t.runs.assign(gain=t.runs["gain"].where(t.runs["seed"] == 0)))
    assert set(select.with_twins(first).runs["seed"]) == {0} and set(select.with_twins(first).runs["depth"]) == {1, 3}
    with pytest.raises(NotRun, match="Needs the probes of untrained twins"):
        select.with_twins(dataclasses.replace(t, runs=t.runs.assign(gain=np.nan)))
