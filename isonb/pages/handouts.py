"""A chapter as a notebook to take away: executed, in Markdown that every notebook program shows.

Numbers, references and admonitions of the book are not known outside it. They become text, lists of code that a chapter
includes become code, and links to other chapters their titles.

Book: every chapter.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
from pybtex.database import Entry, parse_file
from pybtex.richtext import Text
from sphinx.directives.code import LiteralIncludeReader

from isonb.pages import numbers

FENCE = re.compile(r"( *)(`{3,}|:{3,})\{([\w:-]+)\} *(.*)")
OPTION = re.compile(r" *:([\w-]+): *(.*)")
ROLE = re.compile(r"\{([\w:-]+)\}`([^`]+)`")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:)([\w/.-]*\.(?:md|ipynb))?(?:#[\w.-]*)?\)")
TARGET = re.compile(r"^\([\w-]+\)=\n", re.MULTILINE)
CODE = re.compile(r"(^ *```.*?^ *```$|``[^`].*?``)", re.DOTALL | re.MULTILINE)
AS_THEY_ARE = ("code-block", "code")
INSTALL = """\
# On a machine without the project, such as Colab: fetch it and install what it needs, which takes minutes.
import importlib.util

if importlib.util.find_spec("isonb") is None:
    !git clone --quiet --depth 1 --branch {branch} {address} isonb-study
    %cd isonb-study
    %pip install --quiet --editable ."""


class Chapter:
    """What a chapter's Markdown refers to: files beside it, other chapters by their titles, and the bibliography.

    `titles` gives the title of a page below the sources, such as `book/run`, or None.
    """

    def __init__(self, path: Path, book: Path, titles: Callable[[str], str | None]) -> None:
        self.path, self.book, self.titles = path, book, titles

    def notebook(self, executed: nbformat.NotebookNode, address: str = "", branch: str = "main") -> Any:
        """An executed notebook in plain Markdown; with the repository's address, its first cell fetches the project."""
        notebook = nbformat.from_dict(executed)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = self.plain(cell.source)
            for output in cell.get("outputs", []):
                if "text/markdown" in output.get("data", {}):
                    output.data["text/markdown"] = self.plain(output.data["text/markdown"])
        if address:
            cell = nbformat.v4.new_code_cell(INSTALL.format(address=address, branch=branch))
            cell.id = "install"
            notebook.cells.insert(0, cell)
        return notebook

    def plain(self, text: str) -> str:
        """MyST as Markdown."""
        return "\n".join(self._blocks(TARGET.sub("", text).split("\n")))

    def _blocks(self, lines: list[str]) -> Iterable[str]:
        prose: list[str] = []
        while lines:
            line = lines.pop(0)
            if fence := FENCE.fullmatch(line):
                yield from self._prose(prose)
                prose = []
                indent, marks, name, argument = fence.groups()
                inside: list[str] = []
                while lines and not re.fullmatch(rf" *{re.escape(marks)}{marks[0]}*", line := lines.pop(0)):
                    inside.append(line.removeprefix(indent))
                yield from (f"{indent}{line}".rstrip() for line in self._directive(name, argument, inside))
            else:
                prose.append(line)
        yield from self._prose(prose)

    def _directive(self, name: str, argument: str, inside: list[str]) -> Iterable[str]:
        """A directive's lines in Markdown."""
        options: dict[str, str] = {}
        while inside and (option := OPTION.fullmatch(inside[0])):
            options[option[1]] = option[2].strip("'\"")
            inside = inside[1:]
        if name == "literalinclude":
            return self._included(argument, options)
        if name == "index":
            return []
        if name in AS_THEY_ARE:
            return [f"```{argument}", *inside, "```"]
        if name == "math":
            return ["$$", *inside, "$$"]
        if name == "bibliography":
            return [f"- {reference(entry)}" for entry in bibliography(self.book).values()]
        title = argument or name.capitalize()
        return ["", f"> **{title}**", ">", *(f"> {line}".rstrip() for line in self._blocks(inside)), ""]

    def _included(self, argument: str, options: dict[str, str]) -> list[str]:
        reader = LiteralIncludeReader(
            str(self.path.parent / argument), dict(options), SimpleNamespace(source_encoding="utf-8")
        )
        text, _ = reader.read()
        return [f"```{options.get('language', 'python')}", *textwrap.dedent(text).rstrip("\n").split("\n"), "```"]

    def _prose(self, lines: list[str]) -> list[str]:
        parts = CODE.split("\n".join(lines)) if lines else []
        parts[::2] = [LINK.sub(self._link, ROLE.sub(self._role, part)) for part in parts[::2]]
        return "".join(parts).split("\n") if lines else []

    def _role(self, match: re.Match[str]) -> str:
        name, content = match.groups()
        if name == "num":
            return numbers.number(content)
        if name.startswith("cite"):
            entries = [bibliography(self.book)[key.strip()] for key in content.split(",")]
            if name == "cite:t":
                return ", ".join(f"{authors(entry)} ({entry.fields['year']})" for entry in entries)
            return "(" + "; ".join(f"{authors(entry)}, {entry.fields['year']}" for entry in entries) + ")"
        return content.partition(" <")[0]

    def _link(self, match: re.Match[str]) -> str:
        words, file = match.groups()
        if words or not file:
            return str(words)
        page = (self.path.parent / file).relative_to(self.book.parent).with_suffix("").as_posix()
        return f"*{self.titles(page) or file}*"


@functools.cache
def bibliography(book: Path) -> dict[str, Entry]:
    """The works that the book cites, by their keys."""
    return dict(parse_file(str(book / "references.bib")).entries)


def authors(entry: Entry) -> str:
    """The authors by their last names: all of two, the first of more."""
    last = [_text(" ".join(person.last_names)) for person in entry.persons["author"]]
    return f"{last[0]} et al." if len(last) > 2 else " and ".join(last)


def reference(entry: Entry) -> str:
    """A work in one line."""
    names = ", ".join(_text(str(person)) for person in entry.persons["author"])
    fields = [entry.fields[name] for name in ("booktitle", "journal", "year", "url") if name in entry.fields]
    return f"{names}: *{_text(entry.fields['title'])}*. {', '.join(map(_text, fields))}."


def _text(latex: str) -> str:
    return str(Text.from_latex(latex))
