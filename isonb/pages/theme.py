"""What surrounds the text of a page: scripts, downloads, buttons, and markup that screen readers understand.

Book: every chapter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx
from sphinx.config import Config

from isonb.pages import handouts

REPOSITORY_BUTTONS = ("use_repository_button", "use_issues_button", "use_edit_page_button")
OF_EVERY_MACHINE = ("book/results/smoke/", "book/elsewhere/")  # cells that stay on the machine that ran them


def show_buttons_that_lead_somewhere(app: Sphinx, config: Config) -> None:
    """Show buttons to the repository, Binder and Colab only if `_config.yml` says where the repository is."""
    options = config.html_theme_options
    has_address = bool(options.get("repository_url"))
    options |= dict.fromkeys(REPOSITORY_BUTTONS, has_address)
    if not has_address:
        options["launch_buttons"] = {}


def offer_notebook(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Offer a chapter as the notebook that its build executed, not only as text."""
    executed = Path(app.outdir).parent / "jupyter_execute" / f"{page}.ipynb"
    if str(context.get("page_source_suffix")) == ".md" and executed.exists():
        offered = Path(app.outdir) / "_sources" / f"{page}.ipynb"
        offered.parent.mkdir(parents=True, exist_ok=True)
        titles = app.env.titles
        chapter = handouts.Chapter(
            Path(app.env.doc2path(page)),
            Path(app.srcdir) / "book",
            lambda other: titles[other].astext() if other in titles else None,
        )
        options = app.config.html_theme_options
        notebook = chapter.notebook(
            nbformat.read(executed, as_version=4), options.get("repository_url", ""), options["repository_branch"]
        )
        nbformat.write(notebook, offered)
        context["ipynb_source"] = f"{page}.ipynb"


def leave_out_unused(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Drop scripts that only serve to execute cells on a server, and launch buttons where there is no notebook."""
    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context[kind] if "thebe" not in f"{file.filename} {file.attributes}"]
    is_notebook = context.get("page_source_suffix") == ".ipynb" and not page.startswith(OF_EVERY_MACHINE)
    context["header_buttons"] = [
        button for button in context["header_buttons"] if is_notebook or button.get("label") != "launch-buttons"
    ]


def mend_markup(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Label the arrows that unfold the table of contents, and drop roles that a bibliography must not have."""
    toctree: Callable[..., Any] = context["generate_toctree_html"]

    @functools.wraps(toctree)
    def named(*arguments: Any, **options: Any) -> str:
        return str(toctree(*arguments, **options)).replace("<summary>", '<summary aria-label="Its pages">')

    context["generate_toctree_html"] = named
    for role in (' role="list"', ' role="doc-biblioentry"'):
        context["body"] = context.get("body", "").replace(role, "")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of this with Sphinx."""
    app.connect("config-inited", show_buttons_that_lead_somewhere, priority=100)  # before the theme reads them
    app.connect("html-page-context", offer_notebook, priority=450)  # before the theme makes its buttons
    app.connect("html-page-context", leave_out_unused, priority=900)  # after it has made them
    app.connect("html-page-context", mend_markup, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
