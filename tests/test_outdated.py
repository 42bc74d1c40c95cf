"""Why a cell has to be run: its record, its arrays, the numerics and the data, compared by content."""

from types import SimpleNamespace

import pytest
from made_records import leave_record, made_record

from isonb import config, numerics, records, rows
from isonb.running import outdated

UNREADABLE = "its images cannot be read"
OTHERWISE = "its probe or fine-tuning settings differ"


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def at_hand(monkeypatch):
    """Checksums of the data at hand, which a test may change, and the folders in which they were looked for."""
    now = SimpleNamespace(sha256={}, folders=[], name="photos")  # of made records

    def checksums(run, folder):
        now.folders.append(folder)
        return now.sha256

    monkeypatch.setattr(rows.Source, "load", lambda row: now)
    now.checksums, now.name_of = checksums, lambda run, folder: now.name
    return now


def leave(cell, sha256=None, **changes):
    record = made_record(cell)
    data = record.data.model_copy(update={"sha256": sha256 or {}})
    return leave_record(record.model_copy(update={"data": data, **changes}), b"{}")


def test_a_cell_without_a_record_and_one_that_is_judged_otherwise_have_to_be_run(at_hand):
    cell = config.smoke()
    assert outdated.why(cell) == "no record"
    leave(cell)
    assert outdated.why(cell) == outdated.why(cell, only_missing=True) == ""
    assert outdated.why(config.smoke(seed=1)) == "no record"
    for changes in ({"probe_epochs": 3}, {"probe_along": True}, {"finetune_epochs": 2}):  # the same network's file
        assert outdated.why(config.smoke(**changes)) == OTHERWISE
    leave(config.smoke(probe_along=True))
    assert outdated.why(cell) == ""  # it has all that is asked, and more


def test_a_record_of_probes_on_other_images_is_not_replaced(at_hand):
    cell = config.smoke()
    leave(cell)
    for changes in ({"probe_data": "cifar10"}, {"finetune_data": "cifar10", "finetune_epochs": 1}):
        with pytest.raises(config.ConfigError) as refusal:
            outdated.why(config.smoke(**changes))
        assert str(refusal.value) == (
            f"The record of {cell.run.run_id} is of probes or fine-tuning on other images, and would be lost: set "
            "ISONB_RESULTS to another folder."
        )


def test_the_images_of_the_probes_outdate_a_record_too(at_hand):
    cell = config.smoke(probe_data="cifar10")
    at_hand.name = "others"  # of the probes' images in a made record
    leave(cell)
    assert outdated.why(cell) == ""
    at_hand.sha256 = {"a": "1"}
    with pytest.raises(config.ConfigError, match="is of the pictures 'photos', and these are 'others'"):
        outdated.why(cell)


def test_numerics_that_were_raised_since_outdate_a_record_and_say_what_has_changed(at_hand, monkeypatch):
    changes = {1: "the first", 2: "masks of their own", 3: "a fairer mean"}
    monkeypatch.setattr(numerics, "CHANGES", changes)
    monkeypatch.setattr(records, "NUMERICS", 3)
    cell = config.smoke()
    for number, why in ((1, "masks of their own; a fairer mean"), (2, "a fairer mean"), (3, "")):
        leave(cell, numerics=number)
        assert outdated.why(cell) == (f"results have changed: {why}" if why else "")
        assert outdated.why(cell, only_missing=True) == ""


def test_other_data_outdate_a_record_where_they_are_at_hand(at_hand, tmp_path):
    cell = config.cpu()
    leave(cell, {"one.bin": "aa", "two.bin": "bb"})
    assert outdated.why(cell) == ""  # nothing is at hand
    for sha256, why in (
        ({"one.bin": "aa", "two.bin": "bb"}, ""),
        ({"one.bin": "aa", "two.bin": "cc"}, "the data have changed"),
        ({"one.bin": "aa"}, "the data have changed"),
    ):
        at_hand.sha256 = sha256
        assert outdated.why(cell, tmp_path) == why
        assert outdated.why(cell, tmp_path, only_missing=True) == ""
    assert {*at_hand.folders} == {None, tmp_path}


def test_a_record_of_other_pictures_is_not_replaced(at_hand):
    cell = config.cell("smoke", data="folder")
    leave(cell, {"all": "aa"})
    at_hand.name = "birds"
    at_hand.sha256 = {"all": "aa"}
    assert outdated.why(cell) == ""  # the same pictures in a folder that was renamed
    at_hand.sha256 = {"all": "bb"}
    with pytest.raises(config.ConfigError) as refusal:
        outdated.why(cell)
    assert str(refusal.value) == (
        f"The record of {cell.run.run_id} is of the pictures 'photos', and these are 'birds': give them a collection "
        "of their own, or set ISONB_RESULTS to another folder."
    )
    assert outdated.why(cell, only_missing=True) == ""
    assert outdated.why(config.cell("smoke", data="folder", collection="birds")) == "no record"


def test_a_named_folder_that_cannot_be_read_is_no_reason_to_take_a_record_as_it_is(at_hand, tmp_path):
    pictures, whole, photos = config.cell("smoke", data="folder"), config.cpu(), config.smoke()
    for cell in (pictures, whole, photos):
        leave(cell, {"all": "aa"})
    assert [outdated.why(cell, tmp_path) for cell in (pictures, whole, photos)] == [UNREADABLE, UNREADABLE, ""]
    assert [outdated.why(cell) for cell in (pictures, whole, photos)] == [UNREADABLE, "", ""]


def test_a_record_whose_arrays_are_missing_or_damaged_has_to_be_made_again(at_hand):
    cell = config.smoke()
    arrays = leave(cell).with_suffix(".npz")
    whole = arrays.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        arrays.write_bytes(content)
        assert outdated.why(cell) == "its record is damaged"
    arrays.unlink()
    for only_missing in (False, True):
        assert outdated.why(cell, only_missing=only_missing) == "its record is damaged"


def test_a_damaged_record_has_to_be_made_again_and_one_of_a_newer_version_is_refused(at_hand):
    path = leave(config.smoke())
    path.write_text("{")
    assert outdated.why(config.smoke()) == "its record is damaged"
    path.write_text('{"schema_version": 1000}')
    with pytest.raises(records.NewerRecordError, match=path.name):
        outdated.why(config.smoke())


def test_a_cell_whose_executed_notebook_is_missing_or_another_runs_has_to_be_run(at_hand):
    cell = config.smoke()
    leave(cell)
    records.notebook_path(cell).write_bytes(b"{ }")
    assert outdated.why(cell) == outdated.why(cell, only_missing=True) == "no executed notebook"
    records.notebook_path(cell).unlink()
    assert outdated.why(cell) == "no executed notebook"
