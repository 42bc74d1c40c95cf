"""What settings make of a gap: from simulated studies."""

import dataclasses

import pandas as pd
import pytest
from simulated_study import judged, study

from isonb.evidence import metrics
from isonb.evidence.ledger import scale
from isonb.pages import gap

ARM = "positions=none"


def gap_study(changed, seeds=(0, 1, 2)):
    """Transformers lose 1 nat to conv; without positions as many as `changed(seed)` says."""
    return study(
        networks=("conv", "transformer-1"),
        arms=("main", ARM),
        seeds=seeds,
        loss=lambda **c: (
            3.5 if c["network"] == "conv" else 3.5 + (changed(c["seed"]) if c["arm"] == ARM else 1.0)
        ),
    )  # fmt: skip


def test_shares_of_the_gap_have_intervals_over_seeds():
    rows = gap.gap_shares(judged(gap_study(lambda seed: (2, 4, 4)[seed]))).set_index("setting")
    # shares 1 - 2, 1 - 4 twice: mean -7/3, s = 1.1547, t(0.975, 2) s / sqrt(3) = 4.303 x 0.6667 = 2.868
    assert rows.loc[ARM].tolist() == ["27, 3 seeds", "1.000", "3.333", "-233%", "-520% to 54%", "no gap"]
    others = rows.drop(index=ARM)
    assert {name.split("=")[0] for name in others.index} == set(scale.SETTINGS)
    assert (others == "not run").all(axis=None)
    words = gap.missing_shares(judged(gap_study(lambda seed: 2)))
    assert words.startswith("Not run: `positions=sincos`,") and words.endswith("To run them: `make study STUDY=cpu`")
    assert f"`{ARM}`" not in words
    words = gap.missing_shares(judged(gap_study(lambda seed: 2, seeds=(0, 1))))
    assert f"Fewer than 3 seeds: `{ARM}`. To run them" in words


@pytest.mark.parametrize(
    ("changed", "share", "interval"),
    [(0.5, "50%", "takes a second seed"), (2, "-100%", "takes a second seed"), (-2, "no gap", "no gap")],
)
def test_one_seed_gives_a_share_and_no_interval(changed, share, interval):
    t = gap_study(lambda _: changed, seeds=(0,))
    if changed < 0:
        t.runs.loc[t.runs["network"] == "conv", "test_loss"] = 9.0  # the transformer is ahead
    row = gap.gap_shares(judged(t)).set_index("setting").loc[ARM]
    assert row[["pairs", "share removed", "95 % interval"]].tolist() == ["9, 1 seed", share, interval]


def test_each_setting_is_shown_at_its_best():
    t = study(
        networks=("conv", "transformer-1"), encodings=("continuous",), depths=(1,),
        arms=("main", "learning_rate=0.003", "learning_rate=0.001", "data_fraction=0.25 epochs=24 warmup_epochs=4.0"),
        # a gap of 1 nat; 1.5 and 2 with other rates, 2 with a quarter of the images
        loss=lambda **c: 3.5 + (c["network"] != "conv") * {"main": 1, "learning_rate=0.003": 1.5}.get(c["arm"], 2),
    )  # fmt: skip
    shown = gap.in_short(judged(t)).set_index("change")
    seen = ["continuous; size 1", "3"]
    assert shown.loc["learning_rate=0.003"].tolist() == ["-50% (-50% to -50%)", *seen]
    assert shown.loc["all images, not data_fraction=0.25"].tolist() == ["50% (50% to 50%)", *seen]
    assert set(shown.loc["positions"]) == {"not run"}
    nothing = gap.in_short(judged(metrics.tables({}))).set_index("change")
    assert nothing.shape == (4, 3) and (nothing == "not run").all(axis=None)


def test_long_positions_are_measured_by_what_sines_and_cosines_gain():
    def loss(**c):
        return 5.0 - {"positions=sincos": 1.0, "initialisation=torch": (0.1, 0.2, 0.3)[c["seed"]]}.get(c["arm"], 0.0)

    arms = ("main", "positions=sincos", "initialisation=torch")
    t = study(networks=("transformer-1",), encodings=("rff",), depths=(1,), arms=arms, loss=loss)
    # 10, 20 and 30 %: mean 20, s = 10, t(0.975, 2) s / sqrt(3) = 4.303 x 5.774 = 24.8
    assert gap.by_length(t) == (
        "Of what sines and cosines gain over learned positions, those that begin long reach: with rff input and size 1 "
        "20%, -5% to 45% over 3 seeds."
    )
    assert gap.by_length(metrics.tables({})).endswith("beside sines and cosines: not run.")


def test_positions_are_compared_on_the_seeds_that_all_kinds_have():
    t = study(
        networks=("transformer-1", "conv"), encodings=("rff",), depths=(1,), arms=("main", "positions=none"),
        loss=lambda **c: 3 + c["seed"] + (c["arm"] != "main"),
    )  # fmt: skip
    assert gap.by_positions(t).values.tolist() == [["rff, size 1", "5.000", "4.000", "not run", "not run", 3]]
    fewer = t.runs[(t.runs["arm"] == "main") | (t.runs["seed"] == 0)]
    row = gap.by_positions(dataclasses.replace(t, runs=fewer)).iloc[0]
    assert row.tolist() == ["rff, size 1", "4.000", "3.000", "not run", "not run", 1]
    longer = study(
        networks=("transformer-1",), encodings=("rff",), depths=(1,), arms=("initialisation=torch",), seeds=(0,),
    )  # fmt: skip
    more = dataclasses.replace(t, runs=pd.concat([t.runs, longer.runs]))  # must not take seeds from the other kinds
    waits = ["rff, size 1", "5.000", "4.000", "waits for seeds", "not run", 3]
    assert gap.by_positions(more).values.tolist() == [waits]
    main = t.runs[t.runs["arm"] == "main"]
    assert gap.by_positions(dataclasses.replace(t, runs=main)).iloc[0, 0] == "not run"
