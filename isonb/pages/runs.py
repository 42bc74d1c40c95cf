"""Every run of every study: which there are, how a selection of them is addressed, and the table that lists them.

Python writes the whole page: points that are links, and a plain table. A script of the book's own adds filters that act
on both; `isonb.evidence.selection` gives the address that opens the page filtered.

Book: chapter "All runs".
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sphinx.application import Sphinx

from isonb import config, records, rows, schema
from isonb.evidence import executed, markup, metrics, picture, titles
from isonb.evidence.selection import PAGE

COLUMNS = {  # of the table: what heads them, by the name of their filter or of what they hold
    "block": "block", "study": "study", "heads": "heads", "encoding": "encoding", "size": "size",
    "changed": "what was changed", "seed": "seed", "steps": "steps", "data": "images", "device": "device",
    "loss": "loss", "untrained": "accuracy untrained", "trained": "accuracy trained",
}  # fmt: skip
ALWAYS = ("block", "loss", "untrained", "trained")  # on a phone, where the first column says what the others would
USUAL = rows.OBJECTIVES["bert"].unit


@dataclass(frozen=True)
class Run:
    """A record with the address of its page, empty where it has none; `is_ours` where it came with the project."""

    record: schema.Record
    page: str = ""
    is_ours: bool = False

    @property
    def title(self) -> str:
        """What the run is called among those of every study."""
        return f"{titles.title(self.record.cell)}, study {self.record.cell.study}"

    @property
    def anchor(self) -> str:
        """The id of its row."""
        return f"{self.record.cell.study}-{self.record.run_id}"

    @property
    def unit(self) -> str:
        """That of its loss."""
        return self.record.cell.run.unit


def every() -> tuple[list[Run], list[str]]:
    """Every run that can be read, by study and name, and a sentence for each file that cannot.

    Runs that came with the project stand among them where the same cell has no record of one's own.
    """
    pages = {one.path.stem: one.address for one in executed.notebooks() if not one.fault}
    runs: list[Run] = []
    faults = []
    for study in config.STUDIES:
        own = records.record_paths(study)
        names = {path.name for path in own}
        ours = [path for path in records.reference_paths(study) if path.name not in names]
        for path in (*own, *ours):
            try:
                record = records.read_record(path)
            except records.RecordError as fault:
                faults.append(str(fault))
            else:
                if record.cell.study == study:
                    page = pages.get(record.run_id, "") if path in own else ""
                    runs.append(Run(record, page, is_ours=path in ours))
    return runs, faults


def table(runs: Iterable[Run]) -> str:
    """The runs as an HTML table, a row each."""
    heads = "".join(f'<th scope="col" data-name="{name}"{_folds(name)}>{title}</th>' for name, title in COLUMNS.items())
    body = "".join(_row(run, images) for run, images in with_images(runs))
    return (
        '<table class="table isonb-runs-table sortable asc"><caption class="isonb-spoken">Every run, with its settings '
        f"and results</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    )


def _row(run: Run, images: str) -> str:
    record, twin = run.record, run.record.probe.untrained
    choice = record.cell.run
    loss = f"{record.training.validation_loss:.3f}"
    values = {
        "study": (f"{record.cell.study} (ours)" if run.is_ours else record.cell.study, record.cell.study),
        "heads": (str(choice.heads) if rows.BLOCKS[choice.block].has_heads else "", ""),
        "encoding": (picture.name_of(choice.encoding), choice.encoding),
        "size": (str(choice.depth), ""),
        "changed": (titles.changes(record.cell), metrics.arm(record.cell)),
        "seed": (str(choice.seed), ""),
        "steps": (str(record.training.steps), ""),
        "data": (images, ""),
        "device": (record.environment.device, ""),
        "loss": (loss if run.unit == USUAL else f"{loss} ({run.unit})", ""),
        "untrained": (f"{twin.test_accuracy:.1%}" if twin else "", ""),
        "trained": (f"{record.probe.test_accuracy:.1%}", ""),
    }
    numbers = {"loss": record.training.validation_loss, "trained": record.probe.test_accuracy}
    numbers |= {"untrained": twin.test_accuracy} if twin else {}
    cells = "".join(
        f"<td{_attribute('data-value', value)}{_attribute('data-sort', numbers.get(name, ''))}{_folds(name)}>"
        f"{html.escape(markup.plain(text))}</td>"
        for name, (text, value) in values.items()
    )
    unseen = {"run": record.run_id, "images": metrics.images_id(record)}
    named = "".join(_attribute(f"data-{name}", value) for name, value in unseen.items())
    return f'<tr id="{html.escape(run.anchor)}"{named}>{_head(run)}{cells}</tr>'


def _head(run: Run) -> str:
    """The first cell: the block, and the rest of the title, which a phone shows and a screen reader reads."""
    block, comma, rest = html.escape(markup.plain(run.title)).partition(", ")
    name = f'{block}<span class="isonb-rest">{comma}{rest}</span>'
    shown = f'<a href="{html.escape(quote(run.page))}">{name}</a>' if run.page else name
    return f'<th scope="row" data-value="{html.escape(run.record.cell.run.block)}">{shown}</th>'


def _attribute(name: str, value: object) -> str:
    return f' {name}="{html.escape(str(value))}"' if value != "" else ""


def _folds(name: str) -> str:
    return "" if name in ALWAYS else ' class="isonb-more"'


def with_images(runs: Iterable[Run]) -> list[tuple[Run, str]]:
    """Each run with what the images are called that it has read: by their name alone, where no others have the same.

    Runs with the same name have read the same images, under the same numerics, and may be compared.
    """
    runs = list(runs)
    sets = metrics.by_images(run.record for run in runs)
    names = Counter(metrics.images_name(of_set[0]) for of_set in sets)
    called = {
        _read(of_set[0]): name if names[name := metrics.images_name(of_set[0])] == 1 else metrics.images_read(of_set)
        for of_set in sets
    }
    return [(run, called[_read(run.record)]) for run in runs]


def _read(record: schema.Record) -> tuple[str, int]:
    return metrics.images_id(record), record.numerics


def add_scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give the page of all runs, and no other, the scripts that sort and filter it."""
    if page == f"book/{PAGE}":
        app.add_css_file("runs.css", priority=900)  # after what every page has
        for script in ("sortable.min.js", "runs.js"):
            app.add_js_file(f"scripts/{script}", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of this with Sphinx."""
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
