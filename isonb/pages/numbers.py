"""Numbers in prose that are read from result files while the book is built, and a title for each executed cell.

`` {num}`smoke:block=conv,depth=1:training.validation_loss:.2f` `` names a study, the settings of a cell, a path
into its record and a format. A cell without a record reads "not run"; a mistake in the role itself is a warning, which
fails a strict build.

Book: every chapter.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Sequence
from typing import Any

import pydantic
import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from isonb import config, records, schema
from isonb.evidence import DAMAGED, NOT_RUN
from isonb.evidence.markup import plain

PAGES = ("book/results/", "book/elsewhere/")  # of executed cells


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
        value: Any = records.finished(cell)
    except records.RecordError:
        return DAMAGED
    if value is None:
        return NOT_RUN
    for name in path:
        if value is None:
            break
        if isinstance(value, list) and int(name) >= len(value):
            raise KeyFault(f"{key!r} names no number: there are {len(value)} rows, counted from 0.")
        value = value[int(name)] if isinstance(value, list) else getattr(value, name)
    return "not recorded" if value is None else plain(format(value, spec))


class NumberRole(SphinxRole):
    """The role `num`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        try:
            cell, _, _ = parse(self.text)
            self.env.note_dependency(str(records.record_path(cell)))
            text = number(self.text)
        except KeyFault as fault:
            message = self.inliner.reporter.warning(str(fault), line=self.lineno)
            return [nodes.problematic(self.rawtext, self.rawtext)], [message]
        return [
            nodes.inline(
                self.rawtext, text, classes=["isonb-not-run" if text in (NOT_RUN, DAMAGED) else "isonb-number"]
            )
        ], []


def name_executed_cell(app: Sphinx, doctree: nodes.document) -> None:
    """Give an executed notebook its run's name as title: all of them come from one template with one heading."""
    if app.env.docname.startswith(PAGES):
        for title in itertools.islice(doctree.findall(nodes.title), 1):
            title.children = []
            title += nodes.Text(app.env.docname.rsplit("/", 1)[1])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of this with Sphinx."""
    app.add_role("num", NumberRole())
    app.connect("doctree-read", name_executed_cell, priority=100)  # before Sphinx collects titles
    return {"parallel_read_safe": True, "parallel_write_safe": True}
