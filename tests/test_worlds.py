"""In made-up worlds of the real size every rule comes out as it should; `make bench BENCH=worlds` counts more."""

import json
from collections import Counter

import made_worlds
import numpy as np
import pytest
from made_worlds import NOW, WHOLE, WORLDS

from isonb import places
from isonb.evidence import benchmarks, claims
from isonb.evidence.ledger import select
from isonb.evidence.ledger.finding import Verdict

pytestmark = pytest.mark.slow
SUPPORTED, PARTLY, UNDETERMINED, CONTRADICTED, NOT_RUN = Verdict
EACH = 4
EXPECTED = {  # by claim: where the paper is right, where all orders are reversed, where only accuracies are, and mixed
    "C1": (SUPPORTED, CONTRADICTED, SUPPORTED, PARTLY),
    "C5": (SUPPORTED, CONTRADICTED, SUPPORTED, PARTLY),
    "C6": (SUPPORTED, CONTRADICTED, CONTRADICTED, PARTLY),
    "C7": (SUPPORTED, SUPPORTED, CONTRADICTED, None),
    "C9": (SUPPORTED, CONTRADICTED, CONTRADICTED, None),
    "C12": (SUPPORTED, CONTRADICTED, CONTRADICTED, UNDETERMINED),
    "C17": (SUPPORTED, CONTRADICTED, SUPPORTED, None),
    "C25": (SUPPORTED, CONTRADICTED, CONTRADICTED, None),
    "C37": (SUPPORTED, CONTRADICTED, CONTRADICTED, PARTLY),
}


@pytest.fixture(scope="module")
def noise():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISONB_RESULTS", str(places.PROJECT / "book" / "results"))
        return made_worlds.measured()


@pytest.fixture(scope="module")
def counted(noise):
    """By world and claim, how often each verdict comes out with the seeds of a study that is under way."""
    design, generator = made_worlds.design(NOW), np.random.default_rng(1)
    ledger = [claims.BY_ID[name] for name in EXPECTED]
    counts = {}
    for name, truth in WORLDS.items():
        found = [made_worlds.verdicts(made_worlds.world(truth, design, noise, generator), ledger) for _ in range(EACH)]
        counts[name] = {claim: Counter(one[claim] for one in found) for claim in EXPECTED}
    return counts


@pytest.mark.parametrize("claim", EXPECTED)
def test_a_rule_says_what_is_so(counted, claim):
    for name, verdict in zip(("right", "wrong", "opposed", "mixed"), EXPECTED[claim], strict=True):
        if verdict is not None:
            assert counted[name][claim][verdict] >= EACH - 1, (name, counted[name][claim])


def test_where_nothing_is_so_hardly_any_rule_sees_anything(counted):
    decided = sum(EACH - verdicts[UNDETERMINED] for verdicts in counted["noise"].values())
    assert decided <= 5  # of 36, of which 1.8 are expected at 5 %; more than five happen in one of 100 such tests


def test_a_world_has_the_settings_seeds_and_images_of_the_study():
    runs = made_worlds.design(NOW).runs
    # 3 networks x 3 encodings x (3 + 3 + 1), and 3 x (3 + 3) of four heads
    assert len(runs) == 63 + 18
    assert runs.groupby("network")["depth"].max().to_dict() == dict.fromkeys(select.BLOCK_ORDER, 6) | {
        "transformer-4": 3
    }
    assert set(runs.groupby("depth")["seed"].nunique().items()) == set(NOW.items())
    assert len(made_worlds.design(WHOLE).runs) == 81 + 18


def test_a_world_is_as_noisy_as_the_study(noise):
    design, generator = made_worlds.design({1: 40, 3: 1, 6: 1}), np.random.default_rng(0)
    t = made_worlds.world(made_worlds.nothing, design, noise, generator)
    runs = t.runs[t.runs["depth"] == 1]
    spread = runs.groupby(["network", "encoding"])["validation_loss"].std()
    for (network, encoding), value in spread.items():
        assert value == pytest.approx(noise.loss[network, encoding, 1], rel=0.5)
    # of the last layer: a binomial's spread, less what runs of a setting share, and that between seeds beside it
    last = t.layers[t.layers["run_id"].isin(runs["run_id"]) & (t.layers["layer"] == 1)]
    shared = 2 / np.pi * np.arcsin(noise.setting)
    expected = np.hypot(np.sqrt(0.35 * 0.65 * (1 - shared) / made_worlds.IMAGES), noise.accuracy)
    of_setting = last.groupby(["network", "encoding"])["test_accuracy"]
    assert np.sqrt((of_setting.std() ** 2).mean()) == pytest.approx(expected, rel=0.15)
    assert last["test_accuracy"].mean() == pytest.approx(0.35, abs=0.04)  # of 1 000 images, and all on the same ones
    correct_KB = np.stack([t.arrays[run_id]["test_correct_LB"][1] for run_id in runs["run_id"]]).astype(float)
    is_conv = (runs["network"] == "conv").to_numpy()
    across = np.corrcoef(correct_KB)[np.ix_(is_conv, ~is_conv)].mean()
    assert across == pytest.approx(2 / np.pi * np.arcsin(noise.any), abs=0.05)


def test_an_effect_of_a_world_is_there_on_average(noise):
    design = made_worlds.design(WHOLE)
    t = made_worlds.world(made_worlds.WORLDS["right"], design, noise, np.random.default_rng(0))
    means = t.runs.groupby(select.SETTING)[["validation_loss", "gain"]].mean()
    # conv with pix2vec at size 1: 3.2 nats and a gain of 8 + 8 points; the mixer with rff: 1.1 nats and 4 points more
    assert means.loc["conv", "pix2vec", 1].to_numpy() == pytest.approx([3.2, 0.16], abs=0.05)
    assert means.loc["mixer", "rff", 1].to_numpy() == pytest.approx([4.3, 0.16], abs=0.05)
    assert t.runs["untrained_best_layer"].notna().all() and set(t.arrays) == set(t.runs["run_id"])


MACHINE = {
    "processor": "made up",
    "cores": 2,
    "threads": 1,
    "amx": False,
    "avx512_bf16": True,
    "torch": "2",
    "load": 0.5,
}


@pytest.fixture
def counts(tmp_path, monkeypatch):
    """Verdicts of two claims, counted in ten worlds of which the paper is right and in forty of mere noise."""
    measured = {
        "right": (10, {"C5": {"partly": 2, "supported": 8}, "C6": {"supported": 10}}),
        "noise": (40, {"C5": {"undetermined": 38, "partly": 1, "contradicted": 1}, "C6": {"undetermined": 40}}),
    }
    rows = [
        {"state": "under way", "seeds": {"1": 3}, "world": world, "worlds": worlds, "verdicts": verdicts}
        for world, (worlds, verdicts) in measured.items()
    ]
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "worlds.json").write_text(json.dumps({"machine": MACHINE, "rows": rows}))


def test_the_worlds_are_shown_by_claim_with_the_most_frequent_verdict_first(counts):
    assert benchmarks.worlds("under way").set_index("claim").to_dict() == {
        "right (10)": {"C5": "supported 80%, partly 20%", "C6": "supported 100%"},
        "noise (40)": {"C5": "undetermined 95%, partly 2%, contradicted 2%", "C6": "undetermined 100%"},
    }
    assert benchmarks.worlds("complete").to_dict("records") == [{"claim": "not run"}]


def test_every_verdict_in_a_world_of_noise_is_a_false_positive(counts):
    of_five, of_six = benchmarks.false_positives().to_dict("records")
    # Wilson's interval of 2 in 40: centre (2 + 1.92) / 43.84, half 1.96 / 43.84 sqrt(2 x 38 / 40 + .96)
    assert (of_five["claim"], of_five["share"], of_six["share"]) == ("C5", 0.05, 0)
    assert (of_five["low"], of_five["high"]) == pytest.approx((0.0138, 0.1650), abs=2e-4)
    assert benchmarks.worlds_in_words() == (
        "With the seeds of a study that is under way, of 40 worlds without any effect a claim has a verdict in 2.5%, "
        "in the median over the claims, and at most in 5.0% (1.4% to 16.5%; C5)."
    )


def test_worlds_that_were_not_measured_say_so(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    assert benchmarks.false_positives().empty and benchmarks.worlds_in_words() == "not run"
