"""The first page's numbers and maps, from a simulated study."""

import dataclasses

import numpy as np
from simulated_study import study

from isonb.evidence import claims, metrics
from isonb.pages import glance, verdicts

LOSSES = {"conv": 3.25, "mixer": 4.0, "transformer-1": 3.75, "transformer-4": 3.5}


def test_a_lead_is_over_the_best_of_the_others_with_the_same_seed():
    t = study(
        loss=lambda **c: LOSSES[c["network"]] + (c["network"] == "transformer-4") * c["seed"],
        networks=LOSSES, encodings=("rff",), depths=(1, 3), seeds=(0, 1),
    )  # fmt: skip
    is_missing = (t.runs["network"] == "mixer") & (t.runs["depth"] == 3)
    leads = glance.leads(dataclasses.replace(t, runs=t.runs[~is_missing]))
    assert list(leads.index) == [("rff", 1, 0), ("rff", 1, 1)]  # nothing leads where a block is missing
    assert leads["convolution"].tolist() == [0.25, 0.5]  # over 4 heads at 3.5, then over 1 head at 3.75
    assert leads["mixer"].tolist() == [-0.5, -0.25]
    assert leads["transformers"].tolist() == [0.25, -0.5]  # the worse of them, at 3.75 and at 4.5
    without = glance.leads(dataclasses.replace(t, runs=t.runs[t.runs["network"] != "transformer-4"]))
    assert without["convolution"].tolist() == [0.5] * 4
    assert glance.leads(metrics.tables({})).empty


def test_twins_are_means_over_the_seeds_that_have_them():
    t = study(
        accuracy=lambda **c: 0.5, untrained=lambda **c: 0.2 + 0.1 * c["seed"],
        networks=("conv",), encodings=("rff",), depths=(1, 3), chance=lambda **_: 0.1,
    )  # fmt: skip
    t.runs.loc[(t.runs["seed"] == 2) | (t.runs["depth"] == 3), "gain"] = np.nan
    twins = glance.twins(t)
    assert list(twins.index) == [("conv", "rff", 1)]
    assert twins.iloc[0].round(9).to_dict() == {"untrained": 0.25, "trained": 0.5, "gain": 0.25, "chance": 0.1}
    assert glance.twins(metrics.tables({})).empty


def test_the_scale_is_that_of_the_networks_at_hand_beside_the_papers():
    columns = {"data": "cifar10", "epochs": 6, "data_train": 3600, "data_test": 1000}
    t = study(**{name: lambda value=value, **_: value for name, value in columns.items()})
    scale = glance.scale(dataclasses.replace(t, runs=t.runs[(t.runs["depth"] == 1) | (t.runs["seed"] == 0)]))
    # 51 epochs x 45 000 images over 6 x 3600; Wilson's interval of 1/2 at n = 1000 is 3.1 points to either side
    assert (round(scale.pop("fewer"), 2), round(scale.pop("points"), 1)) == (106.25, 3.1)
    assert scale == {
        "networks": 45, "sizes": "1, 3 and 6", "seeds": "1 to 3", "images": "3600", "data": "CIFAR-10", "epochs": "6",
        "tests": 1000,
    }  # fmt: skip
    assert glance.scale(t)["seeds"] == "3"
    assert glance.scale(metrics.tables({})) == {}


def test_the_map_is_that_of_the_claims():
    t = study(loss=lambda **c: LOSSES[c["network"]] + 0.001 * c["seed"])
    of_study = verdicts.Study("cpu", t, {row["id"]: row for row in claims.as_rows(claims.judge(t))})
    words = glance.map_of_signs(of_study).alt
    assert "loss (nats), convolution before mixer, continuous, size 1: +0.75, clearly as the paper says." in words
    assert "loss (nats), mixer before transformer (1 head), pix2vec, size 6: -0.25, clearly the opposite." in words
    assert "accuracy (points), convolution before mixer, random Fourier, size 3: +0.00, not clear." in words


def test_training_helps_harms_or_neither_by_the_rule_of_the_claim():
    t = study(
        accuracy=lambda **c: 0.5,
        untrained=lambda **c: {"continuous": 0.25, "rff": 0.75, "pix2vec": 0.5}[c["encoding"]],
        networks=("conv",),
    )
    of_study = verdicts.Study("cpu", t, {row["id"]: row for row in claims.as_rows(claims.judge(t))})
    signs = glance.signs_of_gain(of_study)
    assert len(signs) == 9
    assert signs["conv", "continuous", 1] == 1 and signs["conv", "rff", 3] == -1 and signs["conv", "pix2vec", 6] == 0
    empty = metrics.tables({})
    of_nothing = verdicts.Study("cpu", empty, {row["id"]: row for row in claims.as_rows(claims.judge(empty))})
    assert glance.signs_of_gain(of_nothing).empty


def test_what_training_adds_stands_beside_what_it_starts_from():
    t = study(
        accuracy=lambda **c: 0.5 if c["network"] == "conv" else 0.4,
        untrained=lambda **c: 0.55 if c["network"] == "conv" else 0.3,
        networks=("conv", "mixer"),
        encodings=("continuous",),
    )
    t = dataclasses.replace(t, runs=t.runs.assign(grid4_untrained_accuracy=0.25, grid4_accuracy=np.nan))
    first, second = glance.what_training_adds(t).to_dict("records")
    assert (first["network"], first["mean"], first["gain"]) == ("convolution", "55.0 to 50.0", "-5.0")
    assert (second["network"], second["mean"], second["gain"]) == ("mixer", "30.0 to 40.0", "+10.0")
    assert first["4x4 grid"] == "25.0 to -" and first["networks"] == "9"
    assert glance.what_training_adds(metrics.tables({})).iloc[0, 0] == "not run"
