"""The pages of executed cells: from the folder that the book's numbers come from, and only what belongs to a record.

Sphinx reads pages below the project's folder alone, so those of another results folder are copied there while the book
is built. Chapters are executed by the program's own kernel meanwhile.

Book: chapter "Every cell".
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.matching import get_matching_files

from isonb import kernel
from isonb.evidence import executed


def choose(app: Sphinx, config: Config) -> None:
    """Leave out every file among the project's results that is no page, and copy the pages of other results here."""
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
    config.exclude_patterns = [*config.exclude_patterns, *map(_literal, hidden)]


def _literal(name: str) -> str:
    """The pattern that only this name matches."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _remove_copies(app: Sphinx, *_: object) -> None:
    shutil.rmtree(Path(app.srcdir) / "book" / executed.COPIED, ignore_errors=True)


def use_own_kernel(app: Sphinx) -> None:
    """Execute chapters by the program's own kernel until the book is built."""
    stack = contextlib.ExitStack()
    stack.enter_context(kernel.ours())
    app.connect("build-finished", lambda *_: stack.close())


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of this with Sphinx."""
    app.connect("config-inited", choose, priority=850)  # when suffixes are known, before the table of contents is read
    app.connect("builder-inited", use_own_kernel)
    app.connect("build-finished", _remove_copies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
