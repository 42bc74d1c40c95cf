"""The executed notebooks that lie among the results: which of them the book shows, and why not the others.

A page shows what a record's own run printed and drew. The pages come from the folder that all of the book's numbers
come from, wherever that is.

Book: chapter "All runs".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isonb import config, disk, places, records, schema

IN_PLACE, COPIED = "results", "elsewhere"  # folders of pages below `book/`: the project's own results, and others


@dataclass(frozen=True)
class Executed:
    """One executed notebook, with its record where that can be read; `fault` is why it has no page, or empty."""

    study: str
    path: Path
    record: schema.Record | None
    fault: str

    @property
    def page(self) -> str:
        """The page's file, as seen from `book/`."""
        return f"{pages_folder()}/{self.study}/{self.path.name}"

    @property
    def address(self) -> str:
        """The page in the built book, as seen from its chapters."""
        return Path(self.page).with_suffix(".html").as_posix()


def pages_folder() -> str:
    """The folder below `book/` whose files become the pages: the results themselves, or what is copied from others."""
    own = places.PROJECT / "book" / IN_PLACE
    return IN_PLACE if places.all_results().resolve() == own.resolve() else COPIED


def notebooks() -> Iterator[Executed]:
    """Every executed notebook among the results, by study and name."""
    for study in config.STUDIES:
        for path in sorted(places.results_folder(study).glob("*.ipynb")):
            try:
                record = records.read_record(path.with_suffix(".json"))
            except records.RecordError:
                yield Executed(study, path, None, "its record is missing or damaged")
            else:
                yield Executed(study, path, record, _fault(record, path))


def _fault(record: schema.Record, path: Path) -> str:
    """Why a notebook is not the page of a record, or nothing."""
    if records.notebook_path(record.cell) != path or records.notebook_of(record) is None:
        return "it is not the notebook of the run that left its record"
    import nbformat  # slow to import

    try:
        notebook = nbformat.from_dict(disk.read_json(path, records.LARGEST[".ipynb"]))
        nbformat.validate(notebook, version=4)
    except Exception:  # of what is no notebook, nbformat trips over whatever comes first
        return "it is damaged"
    is_executed = any(cell.cell_type == "code" and cell.execution_count for cell in notebook.cells)
    return "" if is_executed else "none of its cells was executed"


def faults() -> list[str]:
    """A sentence for each executed notebook that has no page."""
    without_page = [notebook for notebook in notebooks() if notebook.fault]
    return [f"{one.study}/{one.path.name} has no page, as {one.fault}: run its cell again." for one in without_page]
