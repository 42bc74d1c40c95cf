"""Numbers in prose that are read from result files while the book is built, each a link to the run behind it.

`` {num}`smoke:block=conv,depth=1:training.validation_loss:.2f` `` names a study, the settings of a cell, a path
into its record and a format. Where a record of the cell came with the project, its number is shown as "ours", beside
the reader's own if there is one. A cell without any record reads "not run"; a mistake in the role itself is a warning,
which fails a strict build.

Book: every chapter.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any

import pydantic
import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from isonb import config, records, schema
from isonb.evidence import DAMAGED, NOT_RUN, executed, selection
from isonb.evidence.markup import plain
from isonb.pages import runs


class KeyFault(ValueError):
    """A key that can never name a number; its message is one sentence that says why."""


def parse(key: str) -> tuple[config.Cell, list[str], str]:
    """The cell, the path into its record and the format of `study:settings:path` or `study:settings:path:format`.

    Raises `KeyFault` for a cell, a path or a format that cannot exist, whether or not the cell has been run.
    """
    if key.count(":") < 2:
        raise KeyFault(f"{key!r} names no number: write study:settings:path or study:settings:path:format.")
    study, settings, path, *spec = key.split(":", 3)
    try:
        pairs = dict(pair.split("=") for pair in settings.split(",") if pair)
        cell = config.cell(study, **{name.strip(): yaml.safe_load(value) for name, value in pairs.items()})
        format(_leaf(path.split("."))(), spec[0] if spec else "")
    except ValueError as fault:
        raise KeyFault(f"{key!r} names no number: {fault}") from None
    return cell, path.split("."), spec[0] if spec else ""


def _leaf(path: Sequence[str]) -> type:
    """The type of what a path into a record leads to. Raises `KeyFault` when it leads nowhere."""
    kind: Any = schema.Record
    for name in path:
        if typing.get_origin(kind) is list and name.isdigit():
            kind = typing.get_args(kind)[0]
        elif isinstance(kind, type) and issubclass(kind, pydantic.BaseModel) and name in kind.model_fields:
            kind = kind.model_fields[name].annotation
        else:
            raise KeyFault(f"a record has no {'.'.join(path)!r}; {name!r} leads nowhere.")
        kind = _bare(kind)
    if kind not in (int, float, str):
        raise KeyFault(f"{'.'.join(path)!r} is a part of a record, not a number.")
    return kind


def _bare(kind: Any) -> Any:
    """A type without the None that it may be and without the range that its values have."""
    if typing.get_origin(kind) is typing.Annotated:
        return _bare(typing.get_args(kind)[0])
    if type(None) in typing.get_args(kind):
        return _bare(next(part for part in typing.get_args(kind) if part is not type(None)))
    return kind


def number(key: str) -> str:
    """The number as it reads in the text, "not run" where its cell has no record, or "damaged".

    Raises `KeyFault` for a key that can never name a number.
    """
    cell, path, spec = parse(key)
    try:
        own, ours = records.finished(cell), records.reference(cell)
    except records.RecordError:
        return DAMAGED
    if own and ours:
        return f"{_value(own, path, spec, key)} (yours; ours {_value(ours, path, spec, key)})"
    if ours:
        return f"{_value(ours, path, spec, key)} (ours)"
    return _value(own, path, spec, key) if own else NOT_RUN


def _value(record: schema.Record, path: Sequence[str], spec: str, key: str) -> str:
    """What stands at a path of a record, formatted."""
    value: Any = record
    for name in path:
        if value is None:
            break
        if isinstance(value, list) and int(name) >= len(value):
            raise KeyFault(f"{key!r} names no number: there are {len(value)} rows, counted from 0.")
        value = value[int(name)] if isinstance(value, list) else getattr(value, name)
    return "not recorded" if value is None else plain(format(value, spec))


class RunLink(nodes.reference):
    """A link to the run of a cell, `cell`, whose address is known when every page is."""


class NumberRole(SphinxRole):
    """The role `num`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            cell, _, _ = parse(self.text)
            for path in (records.record_path(cell), records.reference_path(cell)):
                self.env.note_dependency(str(path))
            text = number(self.text)
        except KeyFault as fault:
            message = self.inliner.reporter.warning(str(fault), line=self.lineno)
            return [nodes.problematic(self.rawtext, self.rawtext)], [message]
        if text in (NOT_RUN, DAMAGED):
            return [nodes.inline(self.rawtext, text, classes=["isonb-not-run"])], []
        link = RunLink("", text, cell=(cell.study, cell.run.run_id))
        return [nodes.inline(self.rawtext, "", link, classes=["isonb-number"])], []


def lead_to_runs(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Let each number lead to its run's page or, where it has none, to its row on the page of all runs."""
    for link in list(doctree.findall(RunLink)):
        study, run_id = link["cell"]
        own = f"book/{executed.pages_folder()}/{study}/{run_id}"
        target, chosen = (own, "") if own in app.env.found_docs else (f"book/{runs.PAGE}", _chosen(study, run_id))
        if app.builder.format == "html" and target in app.env.found_docs:
            address = app.builder.get_relative_uri(page, target) + chosen
            link.replace_self(nodes.reference("", "", *link.children, refuri=address, internal=True))
        else:
            link.replace_self(link.children)


def _chosen(study: str, run_id: str) -> str:
    """What the address of the page of all runs has behind its name to show this one alone."""
    return selection.address(study=study, run=run_id).removeprefix(f"{runs.PAGE}.html")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of this with Sphinx."""
    app.add_role("num", NumberRole())
    app.connect("doctree-resolved", lead_to_runs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
