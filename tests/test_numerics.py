"""Golden numbers: results change only together with NUMERICS, and NUMERICS only together with results."""

import json

import golden
import pytest

from isonb import numerics
from isonb.training import augmentation, train

FILE = golden.read()
SAMPLE = "conv, continuous, bert"


@pytest.fixture(scope="module")
def images():
    return golden.images()


def test_every_cell_has_its_numbers():
    assert set(FILE["cells"]) == set(golden.cells()), "python -m tests.golden adds what is missing"


@pytest.mark.parametrize("name", FILE["cells"])
def test_the_program_gives_the_numbers_that_results_were_made_under(name):
    now = golden.measured([name])
    changed = golden.differences({name: FILE["cells"][name]}, now)
    assert not changed, (
        "if this is meant, raise NUMERICS, say in CHANGES what has changed, and run python -m tests.golden"
    )


def test_a_raised_number_has_changed_a_result():
    assert FILE["numerics"] == numerics.NUMERICS, "python -m tests.golden writes the new numbers"
    assert sorted(numerics.CHANGES) == list(range(1, numerics.NUMERICS + 1))
    if numerics.NUMERICS > 1:
        assert FILE["before"]["numerics"] == numerics.NUMERICS - 1
        assert golden.differences(FILE["before"]["cells"], FILE["cells"])


def test_a_millionth_of_the_learning_rate_is_noticed(images, monkeypatch):
    rate = train.learning_rate
    monkeypatch.setattr(train, "learning_rate", lambda *run: rate(*run) * (1 + 1e-6))
    changed = golden.differences(FILE["cells"], {SAMPLE: golden.numbers(golden.cells()[SAMPLE], images)})
    assert any("validation loss" in line for line in changed)


def test_what_a_cell_does_not_use_leaves_its_numbers_alone(images, monkeypatch):
    monkeypatch.setattr(augmentation, "augment", lambda pixels_BNC, *_, **__: 255 - pixels_BNC)
    cell = golden.cells()["classes alone"]  # not augmented, neither in pre-training nor in fine-tuning
    assert not golden.differences(FILE["cells"], {"classes alone": golden.numbers(cell, images)})


def test_counts_may_tip_over_by_rounding_and_losses_may_not():
    one = {"cell": {"test loss": 3.0, "layer 1, accuracy": 0.5}}
    assert not golden.differences(one, {"cell": {"test loss": 3.0 + 1e-10, "layer 1, accuracy": 0.52}})
    assert golden.differences(one, {"cell": {"test loss": 3.0 + 1e-8, "layer 1, accuracy": 0.5}})
    assert golden.differences(one, {"cell": {"test loss": 3.0, "layer 1, accuracy": 0.55}})
    assert golden.differences(one, {"cell": {"test loss": 3.0}})


@pytest.fixture
def writes(tmp_path, monkeypatch):
    """`golden.write` on a file of one cell, told which NUMERICS and which loss there are now; returns the file."""

    def write(number, loss, cells=("a",)):
        monkeypatch.setattr(golden, "NUMERICS", number)
        monkeypatch.setattr(golden, "cells", lambda: dict.fromkeys(cells))
        monkeypatch.setattr(golden, "measured", lambda names: {name: {"test loss": loss} for name in names})
        golden.write()
        return json.loads(golden.PATH.read_text())

    monkeypatch.setattr(golden, "PATH", tmp_path / "golden.json")
    golden.PATH.write_text(json.dumps({"numerics": 4, "before": None, "cells": {"a": {"test loss": 3.0}}}))
    return write


def test_a_new_cell_is_added_and_no_other_is_touched(writes):
    file = writes(4, 3.0 + 1e-11, ("a", "b"))
    assert file["cells"] == {"a": {"test loss": 3.0}, "b": {"test loss": 3.0 + 1e-11}}


def test_nothing_is_written_where_results_have_changed_under_the_same_number(writes):
    with pytest.raises(SystemExit, match=r"1 numbers have changed .* such as a: test loss is 3\.1, was 3\.0"):
        writes(4, 3.1, ("a", "b"))
    assert set(golden.read()["cells"]) == {"a"}


def test_another_draw_of_who_is_tested_is_noticed(monkeypatch):
    permutation = golden.draws.permutation
    monkeypatch.setattr(
        golden.draws, "permutation", lambda seed, purpose, *rest: permutation(seed, purpose + "s", *rest)
    )
    changed = golden.differences(FILE["cells"], golden.measured([golden.DIVISIONS]))
    assert {line.split(": ")[1].split(" is ")[0] for line in changed} >= {
        "a share of the training images", "a fixed permutation", "epoch order",
    }  # fmt: skip


def test_new_numbers_are_kept_beside_those_before(writes):
    file = writes(5, 3.5)
    assert (file["numerics"], file["cells"]) == (5, {"a": {"test loss": 3.5}})
    assert file["before"] == {"numerics": 4, "cells": {"a": {"test loss": 3.0}}}


def test_a_number_raised_for_nothing_is_refused(writes):
    with pytest.raises(SystemExit, match="set NUMERICS back to 4"):
        writes(5, 3.0)
    assert golden.read()["numerics"] == 4


def test_what_has_changed_since_a_record_is_told(monkeypatch):
    monkeypatch.setattr(numerics, "CHANGES", {1: "the first", 2: "the warm-up", 3: "the masks"})
    assert numerics.since(1) == "the warm-up; the masks"
    assert numerics.since(3) == ""
