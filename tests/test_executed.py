"""Which executed notebooks are pages of the book: only those of the runs that left the records beside them."""

import json

import nbformat
import pytest
from made_records import leave_record, made_record

from isonb import config, places
from isonb.evidence import executed

NO_RECORD = "its record is missing or damaged"
OTHERS = "it is not the notebook of the run that left its record"


def ran(text="3.5", count=1):
    """The content of an executed notebook."""
    output = nbformat.v4.new_output("stream", name="stdout", text=text)
    cell = nbformat.v4.new_code_cell("print()", execution_count=count, outputs=[output] if count else [])
    return nbformat.writes(nbformat.v4.new_notebook(cells=[cell])).encode()


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Writes the record of a smoke cell with an executed notebook, and returns the record's path."""
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))

    def write(content, **settings):
        return leave_record(made_record(config.smoke(**settings)), content)

    return write


def test_the_notebook_of_a_records_own_run_is_a_page(kept):
    path = kept(ran()).with_suffix(".ipynb")
    [notebook] = executed.notebooks()
    assert (notebook.study, notebook.path, notebook.fault) == ("smoke", path, "")
    assert notebook.page == f"elsewhere/smoke/{path.name}"
    assert notebook.address == f"elsewhere/smoke/{path.stem}.html"
    assert executed.faults() == []


def of_an_earlier_version(path, content):
    """A record without checksums, as earlier versions left it, beside a notebook with this content."""
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "schema_version": 3, "checksums": None}))
    path.with_suffix(".ipynb").write_bytes(content)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (ran("3.4"), OTHERS),
        (ran()[:-9], OTHERS),
        (ran() + b"\n", OTHERS),
        (b"", OTHERS),
        (b"[" * 100_000, OTHERS),
    ],
    ids=["a number", "cut", "longer", "empty", "nested"],
)
def test_another_runs_notebook_is_no_page(kept, content, fault):
    path = kept(ran()).with_suffix(".ipynb")
    path.write_bytes(content)
    assert executed.faults() == [f"smoke/{path.name} has no page, as {fault}: run its cell again."]
    [notebook] = executed.notebooks()
    assert notebook.record.probe.test_accuracy == 0.25  # the record is as it was


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (ran()[:-9], "it is damaged"),
        (b"", "it is damaged"),
        (b"\xff\xfe", "it is damaged"),
        (b"null", "it is damaged"),
        (b"[]", "it is damaged"),
        (b'{"cells": 3}', "it is damaged"),
        (b"[" * 100_000, "it is damaged"),
        (b'{"cells": [], "metadata": {}, "nbformat": 3, "nbformat_minor": 0}', "it is damaged"),
        (ran().replace(b'"stdout"', b"7"), "it is damaged"),
        (b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "none of its cells was executed"),
        (ran(count=None), "none of its cells was executed"),
        (ran(), ""),
    ],
    ids=[
        "cut",
        "empty",
        "binary",
        "null",
        "list",
        "no cells",
        "nested",
        "format 3",
        "schema",
        "no cell",
        "not run",
        "whole",
    ],
)
def test_a_notebook_without_a_checksum_is_read_before_it_is_believed(kept, content, fault):
    of_an_earlier_version(kept(ran()), content)
    assert [notebook.fault for notebook in executed.notebooks()] == [fault]


def test_a_notebook_that_is_no_file_or_nobodys_is_no_page(kept):
    path = kept(ran(), block="mixer").with_suffix(".ipynb")
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    path.with_name("copy.ipynb").write_bytes(content)
    path.with_name("renamed.ipynb").write_bytes(content)
    path.with_name("renamed.json").write_bytes(path.with_suffix(".json").read_bytes())
    faults = {notebook.path.stem: notebook.fault for notebook in executed.notebooks()}
    assert faults == {path.stem: OTHERS, **dict.fromkeys(("copy", "renamed"), NO_RECORD)}


def test_pages_of_the_projects_own_results_stay_in_place(tmp_path, monkeypatch):
    (tmp_path / "book/results").mkdir(parents=True)
    monkeypatch.setattr(places, "PROJECT", tmp_path)
    (tmp_path / "link").symlink_to("book/results")
    for named, folder in (("book/results", "results"), ("link", "results"), ("book", "elsewhere"), ("", "elsewhere")):
        monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / named))
        assert executed.pages_folder() == folder
