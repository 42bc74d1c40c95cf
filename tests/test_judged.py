"""Verdicts that are kept while the book is built: those of the rules, for exactly the tables that were judged."""

import dataclasses
import json

import numpy as np
import pytest
from simulated_study import study

from isonb.evidence import claims, metrics
from isonb.evidence.ledger.finding import Verdict
from isonb.pages import judged


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(judged.FOLDER, str(tmp_path / "judged"))
    return tmp_path / "judged"


def refuse(*_):
    raise AssertionError("judged again")


def test_what_was_judged_is_not_judged_again_and_reads_the_same(folder, monkeypatch):
    t = study(depths=(1,), untrained=lambda **c: 0.3)
    fresh = {row["id"]: row for row in claims.as_rows(claims.judge(t))}
    assert judged.rows(t) == fresh
    monkeypatch.setattr(claims, "judge", refuse)
    again = judged.rows(t)
    assert again == fresh and list(again) == list(claims.BY_ID)
    assert {type(row["verdict"]) for row in again.values()} == {Verdict}


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv(judged.FOLDER, raising=False)
    monkeypatch.chdir(tmp_path)
    judged.rows(metrics.tables({}))
    assert not list(tmp_path.iterdir())


def with_other(t, **arrays):
    run_id = min(t.arrays)
    return dataclasses.replace(t, arrays={**t.arrays, run_id: {**t.arrays[run_id], **arrays}})


def test_whatever_changes_in_the_tables_is_judged_anew():
    t = study(depths=(1,), seeds=(0,), kept=lambda **_: 0.5, probed=lambda **_: 0.5)
    correct_LB = t.arrays[min(t.arrays)]["test_correct_LB"]
    others = [
        dataclasses.replace(t, runs=t.runs.assign(test_loss=np.nextafter(t.runs["test_loss"].astype(float), 9))),
        *(dataclasses.replace(t, **{name: t.frame(name)[:-1]}) for name in judged.FRAMES),
        dataclasses.replace(t, more={"memory": t.runs[["seed"]]}),
        dataclasses.replace(t, images="others"),
        with_other(t, test_correct_LB=~correct_LB),
        with_other(t, test_correct_LB=correct_LB.T),
        with_other(t, further=correct_LB),
    ]
    digests = [judged.digest(one) for one in (t, *others)]
    assert len(set(digests)) == len(digests)
    assert judged.digest(study(depths=(1,), seeds=(0,), kept=lambda **_: 0.5, probed=lambda **_: 0.5)) == digests[0]


def test_other_rules_judge_anew(monkeypatch):
    t = metrics.tables({})
    before = judged.digest(t)
    judged._judge.cache_clear()
    monkeypatch.setattr(judged, "_code", lambda: iter(()))
    assert judged.digest(t) != before
    judged._judge.cache_clear()


def test_a_file_that_cannot_be_read_is_judged_and_written_again(folder):
    t = metrics.tables({})
    fresh = judged.rows(t)
    [path] = folder.iterdir()
    path.write_text("[{")
    assert judged.rows(t) == fresh and json.loads(path.read_text())[0]["id"] == "C1"


def test_only_the_latest_are_kept(folder):
    folder.mkdir()
    for number in range(judged.MOST + 3):
        (folder / f"{number:03}.json").write_text("[]")
    judged.forget(folder)
    assert len(list(folder.iterdir())) == judged.MOST
