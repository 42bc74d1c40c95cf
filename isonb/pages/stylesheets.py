"""The theme's style sheets without the rules of what the book does not have, half of their bytes.

A rule stays if every class that it asks for stands in a page or in a script; so do all rules without a class.

Book: every page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import tinycss2
from sphinx.application import Sphinx

LARGE = 30_000  # bytes: smaller ones are left as they are
CLASSES = re.compile(rb'class="([^"]*)"')
WORD = re.compile(rb"[\w-]+")
CLASS = re.compile(r"\.(-?[A-Za-z_][\w-]*)")
NEGATED = re.compile(r":not\([^()]*\)")
HOLDERS = {"media", "supports", "layer"}


def leave_out_unused(app: Sphinx, error: Exception | None) -> None:
    """Write the large style sheets of a finished book anew."""
    if error or app.builder.format != "html":
        return
    folder, used = Path(app.outdir), _words(Path(app.outdir))
    for path in (folder / "_static").rglob("*.css"):
        if path.stat().st_size > LARGE:
            path.write_text(purged(path.read_text(encoding="utf-8"), used), encoding="utf-8")


def purged(css: str, used: set[str]) -> str:
    """A style sheet without rules, and rules without selectors, that ask for a class which is not among those used."""
    return "".join(_kept(tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True), used))


def _kept(rules: list[tinycss2.ast.Node], used: set[str]) -> Iterator[str]:
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [selector for selector in _selectors(rule.prelude) if _is_used(selector, used)]
            if selectors:
                yield f"{','.join(selectors)}{{{tinycss2.serialize(rule.content)}}}"
        elif rule.type == "at-rule" and rule.lower_at_keyword in HOLDERS and rule.content is not None:
            inner = "".join(_kept(tinycss2.parse_rule_list(rule.content, True, True), used))
            if inner:
                yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}"
        else:
            yield rule.serialize()


def _selectors(prelude: list[tinycss2.ast.Node]) -> Iterator[str]:
    """The selectors of a rule, which commas part that stand in no bracket."""
    selector: list[tinycss2.ast.Node] = []
    for token in prelude:
        if token == ",":
            yield tinycss2.serialize(selector)
            selector = []
        else:
            selector.append(token)
    yield tinycss2.serialize(selector)


def _is_used(selector: str, used: set[str]) -> bool:
    return ":is(" in selector or ":where(" in selector or used.issuperset(CLASS.findall(NEGATED.sub("", selector)))


def _words(folder: Path) -> set[str]:
    """Classes of all pages, and whatever a script could mean by one."""
    words: set[bytes] = set()
    for path in folder.rglob("*.html"):
        for classes in CLASSES.findall(path.read_bytes()):
            words.update(classes.split())
    for path in folder.rglob("*.js"):
        if "locales" not in path.parts and path.name != "searchindex.js":
            words.update(WORD.findall(path.read_bytes()))
    return {word.decode(errors="replace") for word in words}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register this with Sphinx."""
    app.connect("build-finished", leave_out_unused, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
