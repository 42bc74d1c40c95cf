"""What a study comes to, in words and tables: from made-up verdicts and from a simulated study."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from made_records import leave_record, made_record, papers_cells
from simulated_study import judged, study

from isonb import config
from isonb.evidence import metrics
from isonb.pages import overview, verdicts

GUESSES = {"neighbour_mean": 4.0, "channel_marginal": 5.5, "linear_filter": 3.655}


def words(html):
    return re.sub(r"<[^>]*>", "", html).splitlines()


def whole(**effects):
    """A simulated study of three seeds that says what it read."""
    columns = {"data": "cifar10", "epochs": 6, "data_train": 3600, "data_test": 1000}
    return study(**{name: lambda value=value, **_: value for name, value in columns.items()}, **effects)


def test_losses_are_set_beside_what_needs_no_network():
    guesses = {f"baseline_{name}": lambda *, loss=loss, **_: loss for name, loss in GUESSES.items()}
    t = study(loss=lambda **c: 3.0 + c["seed"] if c["network"] == "mixer" else 3.75, depths=(1,), **guesses)
    beside = overview.beside_no_network(t)
    assert beside.loc[("mixer", "rff", 1)].tolist() == pytest.approx([4.0, 4.0, 3.655])
    assert beside.loc[("conv", "pix2vec", 1)].tolist() == pytest.approx([3.75, 4.0, 3.655]) and len(beside) == 9
    t.runs.loc[t.runs["network"] == "conv", "baseline_linear_filter"] = np.nan  # a record of an earlier version
    assert overview.beside_no_network(t).loc[("conv", "rff", 1), "linear"] == pytest.approx(3.655)
    assert overview.beside_no_network(metrics.tables({})).empty


def test_encodings_and_first_epochs_are_compared_where_all_are_there():
    t = study(loss=lambda **c: 3.0 + c["seed"] + (c["encoding"] == "rff"), depths=(1, 3))
    t = dataclasses.replace(t, runs=t.runs[(t.runs["depth"] == 1) | (t.runs["encoding"] != "rff")])
    by_encoding = overview.by_encoding(t, "conv", "validation_loss")
    assert by_encoding.index.tolist() == [1]
    assert by_encoding.loc[1].to_dict() == {"continuous": 4.0, "rff": 5.0, "pix2vec": 4.0}
    four = dict.fromkeys(("conv", "mixer", "transformer-1", "transformer-4"))
    curves = with_curves({name: [[5.5, 4.0, 3.5], [5.5, 5.0, 3.5]] for name in four}, seeds=(0, 1))
    assert overview.after_an_epoch(curves).loc["rff"].to_dict() == dict.fromkeys(four, 4.5)
    nothing = metrics.tables({})
    assert overview.by_encoding(nothing, "conv", "test_accuracy").empty and overview.after_an_epoch(nothing).empty


def test_verdicts_that_no_correction_touches_are_named():
    decided = judged(whole(), C5="supported", C25="contradicted", C6="partly", C7="undetermined", C2="supported")
    decided.rows["C6"] |= {"p_holm": 0.01}
    said = overview.by_interval_alone(decided)
    assert said.count('<a href="verdict.html#claim-C25">C25</a>') == 1
    assert re.sub("<[^>]*>", "", said) == (
        "Of 3 claims about trained networks that the study cpu decides in whole or in part, 2 rest on "
        "intervals that are not corrected over the ledger (C5 and C25), 1 on a corrected p (C6)."
    )


def test_networks_are_compared_on_the_images_that_both_answered():
    t = study(accuracy=lambda **c: 0.4 + 0.1 * (c["network"] == "conv"), seeds=(1, 2), depths=(1,))
    rows = overview.on_the_same_images(judged(t)).set_index("networks")
    assert len(rows) == 6  # two gaps and three encodings of one seed
    # of 200 images conv alone gets 20 right that the mixer gets wrong: p = 2 / 2^20, times the six of the table;
    # the bootstrap of 20 in 200 is about 10 % +- 1.96 sqrt(0.1 x 0.9 / 200) = 4.2 points
    row = rows.loc["convolution and mixer, continuous, size 1"]
    assert (row["difference"], row["p"]) == ("+10.0", f"{6 * 2 / 2**20:.2g}")
    low, high = map(float, str(row["95 % interval"]).split(" to "))
    assert (low, high) == (pytest.approx(5.8, abs=0.6), pytest.approx(14.2, abs=0.6))
    assert rows.loc["mixer and transformer (1 head), random Fourier, size 1"].tolist() == ["+0.0", "+0.0 to +0.0", "1"]
    lone = study(networks=("conv",), depths=(1,))
    assert overview.on_the_same_images(judged(lone)).iloc[0, 0] == "not run"


def test_undetermined_claims_say_how_much_would_decide_them():
    open_ones = judged(whole(), C5="undetermined", C12="undetermined", C25="undetermined", C2="undetermined")
    more = {"value": 0.0123, "unit": "accuracy", "images_needed": 78_246, "seeds": 2, "seeds_needed": 7}
    open_ones.rows["C12"] |= more
    open_ones.rows["C25"] |= {"images_needed": 345, "seeds": 3}
    rows = overview.undecided(open_ones)
    assert rows["claim"].str.split(":").str[0].tolist() == ["C5", "C12", "C25"]  # C2 needs no training
    assert rows.iloc[0, 1:].tolist() == ["", "1 of 3", "3 or more", "-"]
    assert rows.iloc[1, 1:].tolist() == ["0.0123 (accuracy)", "2 of 3", "7", "78,246"]
    assert rows.iloc[2, 1:].tolist() == ["", "3 of 3", "seeds alone will not", "those at hand"]
    assert overview.undecided(judged(metrics.tables({}))).iloc[0, 0] == "none"


def test_the_grid_in_numbers_has_means_over_the_seeds_at_hand():
    def loss(**c):
        return 4.0 + 0.25 * c["seed"] - 0.5 * (c["depth"] == 6) * (1 if c["network"] == "conv" else -1)

    t = study(
        loss=loss, accuracy=lambda **c: 0.3 + 0.05 * (c["depth"] == 6), networks=("mixer", "conv"), encodings=("rff",)
    )
    is_kept = (t.runs["depth"] == 1) | (t.runs["seed"] == 0) & ((t.runs["depth"] == 6) | (t.runs["network"] == "conv"))
    t = dataclasses.replace(t, runs=t.runs[is_kept])
    assert overview.by_size(t).values.tolist() == [
        ["random Fourier", "convolution", "4.250", "4.000", "3.500", "30.0%", "30.0%", "35.0%", "3, 1, 1"],
        ["random Fourier", "mixer", "4.250", "not run", "4.500", "30.0%", "not run", "35.0%", "3, 0, 1"],
    ]
    size = overview.what_size_changes(t).round(9)
    assert size.loc[("conv", "rff")].tolist() == [-0.5, 0.05] and size.loc[("mixer", "rff")].tolist() == [0.5, 0.05]
    assert overview.by_size(metrics.tables({})).iloc[0, 0] == "not run"
    assert overview.what_size_changes(metrics.tables({})).empty


def test_the_grid_in_numbers_has_untrained_twins_and_guesses_beside_it():
    t = study(
        accuracy=lambda **c: 0.4,
        untrained=lambda **c: 0.3,
        networks=("conv",),
        encodings=("rff",),
        depths=(1,),
        baseline_linear_filter=lambda **_: 3.5,
        baseline_neighbour_mean=lambda **_: np.nan,
    )
    assert overview.by_size(t).values.tolist() == [
        [
            "random Fourier",
            "convolution",
            "4.000",
            "not run",
            "not run",
            "30.0% to 40.0%",
            "not run",
            "not run",
            "3, 0, 0",
        ],
        ["none", "linear filter", "3.500", "3.500", "3.500", "", "", "", ""],
    ]


def with_curves(losses_by_network, **more):
    """A study of one cell each, with these validation losses after epochs 0, 1, ... and 100 images in each."""
    t = study(networks=losses_by_network, encodings=("rff",), depths=(1,), **more)
    rows = [
        {name: run[name] for name in metrics.KEYS}
        | {"epoch": epoch, "validation_loss": loss, "images": 100 * (epoch > 0)}
        for run in t.runs.to_dict("records")
        for epoch, loss in enumerate(losses_by_network[run["network"]][run["seed"]])
    ]
    return dataclasses.replace(t, curves=pd.DataFrame(rows))


def test_what_training_took_is_given_with_what_one_more_epoch_would():
    losses = {"conv": [[5.5, 4.0, 3.5]], "mixer": [[5.5, 4.0, 3.5]]}
    t = with_curves(losses, seeds=(0,), epochs=lambda **_: 2, training_seconds=lambda **_: 9000.0)
    assert overview.cost_of_training(t) == (
        "Each of the 2 networks of the grid at hand was shown 200 images, counting every epoch. Their training "
        "took 5.0 hours; another epoch of all of them would take 2.5 more."
    )
    assert overview.cost_of_training(metrics.tables({})) == "Networks of the grid: not run."


def test_size_12_is_shown_where_there_is_any():
    nothing, small = judged(metrics.tables({})), judged(study())
    large = judged(study(depths=(1, 12)))
    assert overview.of_largest(nothing, small) is nothing
    assert overview.of_largest(nothing, large) is large


def test_other_images_stand_beside_the_study_and_enter_no_mean_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    other = {"name": "cifar-10-jpeg", "remarks": ["Some test images are training images."]}
    conv = config.smoke(block="conv", seed=7)
    for cell, loss, images in (*((cell, 4.0, {}) for cell in papers_cells("smoke")), (conv, 90.0, other)):
        record = made_record(cell, loss)
        guesses = record.baselines.model_copy(update={"neighbour_mean": loss})
        data = record.data.model_copy(update=images)
        leave_record(record.model_copy(update={"data": data, "baselines": guesses}))
    main, beside = verdicts.read_sets("smoke")
    assert (main.name, main.title) == ("smoke", "smoke") and beside.name == "smoke"
    assert beside.title == "smoke, on cifar-10-jpeg, 80/20/40 images"
    assert main.command == beside.command == "make study STUDY=smoke"
    assert verdicts.read("smoke").rows == main.rows
    assert [study.title for study in verdicts.read_all()] == ["smoke", "cpu", "paper"]
    everything = verdicts.read_all(with_others=True)
    assert [study.title for study in everything] == ["smoke", beside.title, "cpu", "paper"]
    assert list(verdicts.summary(everything)) == ["smoke", beside.title, "cpu", "paper"]
    assert verdicts.sentence(main).startswith("**smoke**, from 9 finished networks:")
    assert verdicts.sentence(beside).startswith(f"**{beside.title}**, from 1 finished network (1 of them not of")
    assert verdicts.sentence(beside).endswith(" Some test images are training images.")
    ledger = verdicts.ledger(everything, "C5")  # which has only studies with a verdict
    assert "isonb-undetermined" in ledger and beside.title not in ledger
    assert overview.by_size(main.tables).iloc[0, 2] == "4.000"  # and not the mean of 4 and 90
    assert overview.by_size(beside.tables).iloc[0, 2] == "90.000"
    assert set(overview.beside_no_network(main.tables)["neighbours"]) == {4.0}
