"""The records that come with the project: they stand beside a reader's own, never in front of them."""

import re

import pytest
from made_records import leave_record, made_record

from isonb import config, places, records, studies
from isonb.evidence import figures, tables
from isonb.pages import numbers

MIXER, CONV = config.smoke(block="mixer"), config.smoke(block="conv")


@pytest.fixture(autouse=True)
def ours(tmp_path, monkeypatch):
    """A folder of the project's records, with a mixer of loss 3.5, and no results of one's own."""
    monkeypatch.setattr(records, "REFERENCE", tmp_path / "reference")
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "reference"))
    leave_record(made_record(MIXER, 3.5))
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "own"))
    return tmp_path / "reference"


def losses_and_owners():
    rows = tables.study("smoke").set_index(["block", "encoding"])
    return rows.loc[("mixer", "continuous")].get(["validation loss", "whose"]).tolist()


def test_ours_stands_in_until_the_cell_has_run():
    assert losses_and_owners() == ["3.500", "ours"]
    assert [run.training.validation_loss for run in tables.shown("smoke")] == [3.5]
    leave_record(made_record(CONV, 3.25))
    leave_record(made_record(MIXER, 3.75))
    assert "whose" not in tables.study("smoke")
    assert [run.training.validation_loss for run in tables.shown("smoke")] == [3.25, 3.75]


def test_whose_each_row_is_where_both_kinds_are_there():
    leave_record(made_record(CONV, 3.25))
    whose = tables.study("smoke")["whose"].value_counts()
    assert (whose["ours"], whose["yours"]) == (1, 1)
    assert whose.sum() == len(studies.cells("smoke"))


def test_ours_counts_for_nothing_that_is_judged():
    assert records.finished(MIXER) is None
    assert tables.finished("smoke") == []


def test_ours_does_not_hide_a_damaged_one_of_your_own():
    leave_record(made_record(MIXER, 3.75)).write_text("null")
    assert tables.study("smoke").query("block == 'mixer'")["validation loss"].iloc[0] == "damaged"
    assert records.shown(MIXER) is None


def test_ours_of_earlier_numerics_is_not_shown(monkeypatch):
    monkeypatch.setattr(records, "NUMERICS", records.NUMERICS + 1)
    assert records.reference(MIXER) is None


def test_ours_fills_in_the_picture_of_all_networks():
    assert "1 network," in figures.reconstruction_grid(studies.cells("smoke")).caption


# The last figure of a notebook


def test_a_network_is_drawn_among_those_that_can_be_compared():
    record = made_record(CONV, 3.25, test_accuracy=0.5)
    other_images = made_record(config.smoke(block="conv", encoding="rff"))
    other_images = other_images.model_copy(update={"data": other_images.data.model_copy(update={"test": 41})})
    other_objective = made_record(config.smoke(block="mixer", objective="mse"))
    figure = figures.among(record, [record, *tables.shown("smoke"), other_images, other_objective])
    assert "among 1 other network of the study smoke" in figure.caption
    assert "convolution with continuous, size 1: 3.25, 50.0 %. mixer with continuous, size 1: 3.50" in figure.alt


def test_a_network_without_others_is_drawn_alone():
    assert figures.among(made_record(CONV), []).caption == "This network; no other of its study is here."


# What the project brings


def cells_of_chapters():
    """Each cell of a smoke study whose number a chapter shows."""
    keys = [
        key
        for path in sorted((places.PROJECT / "book").glob("*.md"))
        for key in re.findall(r"{num}`(smoke:[^`]*)`", path.read_text(encoding="utf-8"))
    ]
    return [numbers.parse(key)[0] for key in keys]


def without_record(cells):
    return [cell for cell in cells if records.shown(cell) is None]


@pytest.fixture
def of_the_project(monkeypatch):
    monkeypatch.setattr(records, "REFERENCE", places.REFERENCE)


@pytest.mark.usefixtures("of_the_project")
def test_every_number_of_an_exercise_comes_with_the_project():
    cells = cells_of_chapters()
    assert len(cells) > 20
    assert [cell.run.run_id for cell in without_record(cells)] == []
    for cell in cells:
        record, path = records.shown(cell)
        assert records.read_arrays(path)["test_loss_B"].shape == (record.data.test,)


@pytest.mark.usefixtures("of_the_project")
def test_the_smoke_study_comes_with_the_project_but_for_what_a_reader_has_added():
    """A block, an encoding or an objective of one's own has no record here, so none of its cells has one."""
    cells = studies.cells("smoke")
    missing = without_record(cells)
    present = [cell for cell in cells if cell not in missing]
    for row in ("block", "encoding", "objective"):
        known = {getattr(cell.run, row) for cell in present}
        missing = [cell for cell in missing if getattr(cell.run, row) in known]
    assert present
    assert missing == []


def test_nothing_else_comes_with_it():
    files = {path.name for path in (places.REFERENCE / "smoke").iterdir()}
    cells = [*cells_of_chapters(), *studies.cells("smoke")]
    assert files <= {f"{cell.run.run_id}{suffix}" for cell in cells for suffix in (".json", ".npz")}
    assert {path.stem for path in places.REFERENCE.rglob("*.json")} == {
        path.stem for path in places.REFERENCE.rglob("*.npz")
    }
