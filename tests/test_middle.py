"""Which layer is best: the middle third against both ends, what so many images can show, and two phases."""

import dataclasses

import numpy as np
import pytest
from simulated_study import study

from isonb.evidence import claims
from isonb.evidence.ledger.finding import Verdict
from isonb.evidence.ledger.layers import middle_third

SUPPORTED, PARTLY, UNDETERMINED, CONTRADICTED, NOT_RUN = Verdict
FIRST, LAST = "middle third above the first block's output", "middle third above the last block's"


def conv(*by_layer):
    """Conv networks of one size with these accuracies from layer 0 on, whatever their encoding and seed."""
    depth = len(by_layer) - 1
    return study(layer_accuracy=lambda **c: by_layer[c["layer"]], networks=("conv",), depths=(depth,))


def judged(t, name="C12"):
    return claims.apply(claims.BY_ID[name], t)


def test_the_middle_third_is_symmetric():
    assert {depth: middle_third(depth) for depth in (3, 6, 12)} == {3: [2], 6: [3, 4], 12: [5, 6, 7, 8]}
    for depth in range(3, 13):
        layers = middle_third(depth)
        assert layers and sorted(depth + 1 - layer for layer in layers) == layers


def test_a_flat_curve_has_no_middle():
    finding = judged(conv(0.4, 0.4, 0.4, 0.4))
    assert (finding.verdict, finding.value) == (UNDETERMINED, 0)


def test_a_curve_that_rises_and_stays_says_nothing_about_the_middle():
    finding = judged(conv(0.2, 0.2, 0.4, 0.4))
    assert finding.verdict == UNDETERMINED
    assert finding.note.startswith(f"So it is: {FIRST}. Not clear: {LAST}. ")
    assert judged(conv(0.2, 0.2, 0.4, 0.6)).verdict == CONTRADICTED  # and one that rises on contradicts it
    assert judged(conv(0.6, 0.6, 0.4, 0.2)).verdict == CONTRADICTED


def test_both_ends_must_be_worse_and_the_better_one_is_shown():
    finding = judged(conv(0.2, 0.3, 0.6, 0.45))
    assert (finding.verdict, finding.value, finding.n) == (SUPPORTED, pytest.approx(0.15), 9)
    assert "in the middle third in 100% of 9 runs" in finding.note and finding.under == "at size 3"


def test_the_best_layer_of_the_middle_is_chosen_on_validation():
    t = conv(0.2, 0.3, 0.3, 0.5, 0.6, 0.3, 0.35)
    is_third = t.layers["layer"] == 3
    t.layers.loc[is_third, "validation_accuracy"] = 0.9
    assert judged(t).value == pytest.approx(0.5 - 0.35)
    t.layers.loc[is_third, "validation_accuracy"] = 0.0
    assert judged(t).value == pytest.approx(0.6 - 0.35)


@pytest.mark.parametrize(("by_layer", "settings"), [((0.3, 0.5, 0.4, 0.3), 3), ((0.3, 0.5, 0.4, 0.45), 0)])
def test_a_curve_with_two_peaks_is_named(by_layer, settings):
    assert f"rises to one peak and then falls in {settings} of 3 settings." in judged(conv(*by_layer)).note


def with_twin(t, *by_layer):
    """The same networks, whose untrained twins have these accuracies by layer."""
    for arrays in t.arrays.values():
        images = arrays["test_correct_LB"].shape[1]
        arrays["untrained_correct_LB"] = np.arange(images) + 0.5 < images * np.array(by_layer)[:, None]
    t.layers["untrained_validation_accuracy"] = t.layers["layer"].map(dict(enumerate(by_layer)))
    return t


def test_the_gain_over_the_untrained_twin_has_a_middle_of_its_own():
    finding = judged(with_twin(conv(0.4, 0.4, 0.4, 0.4), 0.4, 0.4, 0.2, 0.3))
    assert (finding.verdict, finding.value) == (UNDETERMINED, 0)
    assert (finding.gain.verdict, finding.gain.value) == (SUPPORTED, pytest.approx(0.1))  # 0.2 less 0.1 at the last
    peaked = judged(with_twin(conv(0.2, 0.3, 0.6, 0.45), 0.1, 0.2, 0.5, 0.35))
    assert (peaked.verdict, peaked.gain.verdict, peaked.gain.value) == (SUPPORTED, UNDETERMINED, pytest.approx(0))
    assert judged(conv(0.4, 0.4, 0.4, 0.4)).gain is None


def test_the_layer_of_the_largest_gain_is_chosen_on_validation():
    t = with_twin(conv(0.2, 0.3, 0.3, 0.5, 0.6, 0.3, 0.35), 0.2, 0.3, 0.3, 0.2, 0.5, 0.3, 0.35)
    assert judged(t).value == pytest.approx(0.25) and judged(t).gain.value == pytest.approx(0.3)
    is_fourth = t.layers["layer"] == 4
    t.layers.loc[is_fourth, "untrained_validation_accuracy"] = 0.0
    assert judged(t).gain.value == pytest.approx(0.1)


def test_one_twin_that_is_missing_leaves_the_gain_unknown():
    t = with_twin(conv(0.4, 0.4, 0.4, 0.4), 0.4, 0.4, 0.2, 0.3)
    del t.arrays[t.runs["run_id"].iloc[0]]["untrained_correct_LB"]
    assert judged(t).gain is None


def test_both_objectives_of_a_transformer_have_a_gain():
    t = study(
        layer_accuracy=lambda **c: (0.2, 0.3, 0.6, 0.45)[c["layer"]],
        networks=("transformer-1",),
        depths=(3,),
        arms=("main", "objective=autoregressive"),
    )
    finding = judged(with_twin(t, 0.2, 0.3, 0.4, 0.35), "C28")
    assert (finding.verdict, finding.gain.verdict) == (SUPPORTED, SUPPORTED)
    assert finding.gain.value == pytest.approx(0.1)  # gains of 0, 0.2 and 0.1
    assert finding.gain.note.startswith("So it is: BERT; autoregressive. BERT. So it is: middle third")
    is_main = t.runs["arm"] == "main"
    assert judged(dataclasses.replace(t, runs=t.runs[is_main]), "C28").gain.verdict == PARTLY


def test_the_note_says_what_so_many_test_images_can_show():
    t = study(networks=("mixer",), depths=(6,))
    for run in t.runs.itertuples():
        correct_LB = t.arrays[run.run_id]["test_correct_LB"]
        correct_LB[:] = np.arange(correct_LB.shape[1]) % 2 == (run.encoding == "rff")
    # differences of +1 and -1 by turns: 1.96 sqrt(200 / 199) / sqrt(200) = 0.1389
    assert "On 200 test images a difference of less than 13.9 points cannot be told from 0" in judged(t, "C13").note


@pytest.mark.parametrize(("runs", "verdict"), [(4, UNDETERMINED), (15, UNDETERMINED), (16, SUPPORTED)])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_share_of_few_runs_has_a_wide_interval(runs, verdict, is_reversed):
    t = study(networks=("conv",), encodings=("rff",), depths=(3,), seeds=range(runs))
    t.layers["validation_accuracy"] = 1.0 * (t.layers["layer"] == (2 if is_reversed else 1))
    t.layers["pixel_accuracy"] = 1.0 * (t.layers["layer"] == (1 if is_reversed else 2))
    finding = judged(t, "C36")
    # Wilson's interval of all of n is from n / (n + 1.96^2) to 1: 0.510, 0.796, 0.806
    low = runs / (runs + 1.959964**2)
    assert finding.interval == pytest.approx((0, 1 - low) if is_reversed else (low, 1), abs=1e-6)
    assert finding.verdict == (CONTRADICTED if is_reversed and verdict == SUPPORTED else verdict)
