"""The pages of executed cells: from the folder that the book's numbers come from, and only what belongs to a record.

Each begins with its title in words and its result. The page of all runs leads to them; the table of contents and the
search leave them out. Sphinx reads pages below the project's folder alone, so those of another results folder are
copied there while the book is built.

Book: chapter "All runs".
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.matching import get_matching_files

from isonb import places, records, schema
from isonb.evidence import executed, markup, titles
from isonb.pages import runs

PAGES = tuple(f"book/{folder}/" for folder in (executed.IN_PLACE, executed.COPIED))


def choose(app: Sphinx, config: Config) -> None:
    """Take in the pages, which stand in no table of contents, those of other results as copies, and no other file."""
    book = Path(app.srcdir) / "book"
    pages = [notebook for notebook in executed.notebooks() if not notebook.fault]
    _remove_copies(app)
    if executed.pages_folder() == executed.COPIED:
        for notebook in pages:
            copy = book / notebook.page
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(notebook.path, copy)
    shown = {(book / notebook.page).relative_to(app.srcdir).as_posix() for notebook in pages}
    there = get_matching_files(app.srcdir, [f"book/{executed.IN_PLACE}/**"], config.exclude_patterns)
    hidden = sorted(name for name in {*there} - shown if name.endswith(tuple(config.source_suffix)))
    listed = [pattern for pattern in config.exclude_patterns if pattern not in shown]
    config.exclude_patterns = [*listed, *map(_literal, hidden)]


def _literal(name: str) -> str:
    """The pattern that only this name matches."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _remove_copies(app: Sphinx, *_: object) -> None:
    shutil.rmtree(Path(app.srcdir) / "book" / executed.COPIED, ignore_errors=True)


def begin_with_result(app: Sphinx, page: str, source: list[str]) -> None:
    """Put a run's title and result at the head of its notebook, and fold the template's parameters."""
    if not page.startswith(PAGES):
        return
    study, run_id = page.split("/")[-2:]
    path = places.results_folder(study) / f"{run_id}.json"
    app.env.note_dependency(str(path))
    source[0] = nbformat.writes(_with_result(nbformat.reads(source[0], as_version=4), records.read_record(path)))


def _with_result(notebook: nbformat.NotebookNode, record: schema.Record) -> nbformat.NotebookNode:
    first = notebook.cells[0]
    if first.cell_type == "markdown" and first.source.startswith("# "):  # the template's title
        first.source = first.source.partition("\n")[2].strip()
    title = f"# {markup.escaped(titles.title(record.cell))}, study {record.cell.study}"
    text = f"{title}\n\n{result(record)}\n\n## The notebook as it ran"
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(text))
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags = [*cell.metadata.tags, "hide-input"]
            cell.metadata.mystnb = {"code_prompt_show": "All parameters", "code_prompt_hide": "All parameters"}
    return notebook


def result(record: schema.Record) -> str:
    """What came out of a run, in a few lines of Markdown."""
    training, probe, twin = record.training, record.probe, record.probe.untrained
    untrained = f", {twin.test_accuracy:.1%} before training" if twin else ""
    minutes = (training.seconds + probe.seconds + (record.finetune.seconds if record.finetune else 0)) / 60
    unit, data = record.cell.run.unit, record.data
    lines = [
        f"Loss: **{training.validation_loss:.3f}** {unit} (validation images), {training.test_loss:.3f} (test images)",
        f"Accuracy: **{probe.test_accuracy:.1%}** of test images{untrained}",
        f"Chosen layer: {probe.best_layer} of {record.cell.run.depth}; layer 0 is the encoding",
        f"Time: {minutes:.1f} minutes for {training.steps} steps and the probes",
        f"Device: {markup.escaped(record.environment.device)}",
        f"Images: {_named(data)}",
    ]
    if record.probe.data:
        lines.append(f"Accuracy is on other images: {_named(record.probe.data)}")
    if record.finetune:
        lines.append(f"Accuracy after fine-tuning: **{record.finetune.accuracy:.1%}** of test images")
        if record.finetune.data:
            lines.append(f"Fine-tuning is on other images: {_named(record.finetune.data)}")
    return "\n".join(f"- {line}" for line in lines) + f"\n\n[All runs](../../{runs.PAGE}.md)"


def _named(data: schema.Data) -> str:
    return f"{markup.escaped(data.name)}, {data.train} for training, {data.test} for the test"


def leave_out_of_search(app: Sphinx, doctree: nodes.document) -> None:
    """Keep the pages of runs out of the search; they stand in no table of contents, which is meant."""
    if app.env.docname.startswith(PAGES):
        app.env.metadata[app.env.docname] |= {"nosearch": True, "orphan": True}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of this with Sphinx."""
    app.connect("config-inited", choose, priority=950)  # when the table of contents has left out all that it lacks
    app.connect("source-read", begin_with_result)
    app.connect("doctree-read", leave_out_of_search)
    app.connect("build-finished", _remove_copies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
