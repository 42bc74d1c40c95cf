"""Where a page comes from and how it shows elsewhere: its foot, its description, and the card of a link to it.

The foot names the authors, the licences, the commit and the day of the build, and says how to cite. Whatever shares a
link shows the page's title and first sentences; a picture, too, once `html.baseurl` in `_config.yml` says where the
book is published, since such a picture needs a full address.

Book: every page.
"""

from __future__ import annotations

import datetime
import functools
import html
import os
import re
import textwrap
from html import escape
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sphinx.application import Sphinx

from isonb import __version__, revision, rows

CARD = "_static/card.png"
LONGEST = 200  # characters of a description


def origin() -> str:
    """The project's commit in short, or its version where it has no repository of its own."""
    commit = revision.commit()
    return f"commit {commit[:10]}" if commit else f"version {__version__}"


def day() -> str:
    """The day of the build, or that of SOURCE_DATE_EPOCH, which builds that must not differ set."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    now = (
        datetime.datetime.fromtimestamp(int(seconds), datetime.UTC) if seconds else datetime.datetime.now(datetime.UTC)
    )
    return now.date().isoformat()


def foot(citation: dict[str, Any], origin: str, built: str) -> str:
    """The foot of a page, as HTML, from CITATION.cff, the commit or version, and the day of the build."""
    preferred, paper = citation["preferred-citation"], citation["references"][0]
    cite = f"{_authors(preferred)} ({preferred['year']}). {preferred['title']}, version {preferred['version']}."
    original = f"{_authors(paper)} ({paper['year']}). {paper['title']}."
    return (
        f"<p>By {escape(_authors(citation))}. Code: MIT; text, figures and results: CC BY 4.0. "
        f"Built on {escape(built)} from {escape(origin)}.</p>"
        f"<p>To cite: {escape(cite)} Please cite the paper, too: {escape(original)} "
        f'<a href="{escape(paper["url"])}">doi:{escape(paper["doi"])}</a></p>'
    )


def _authors(work: dict[str, Any]) -> str:
    names = [one.get("name") or f"{one['given-names']} {one['family-names']}" for one in work["authors"]]
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def description(doctree: nodes.document | None) -> str:
    """The first paragraph of a page's text, cut after a word."""
    paragraphs = () if doctree is None else doctree.findall(nodes.paragraph)
    sections = (one for one in paragraphs if isinstance(one.parent, nodes.section))
    text = " ".join(next((one.astext() for one in sections), "").split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rsplit(' ', 1)[0]}…"


def metatags(title: str, text: str, site: str, address: str = "", card: str = "") -> str:
    """What a search engine and a preview of a link read at the head of a page."""
    tags = [
        ("name", "description", text),
        ("property", "og:title", title),
        ("property", "og:description", text),
        ("property", "og:site_name", site),
        ("property", "og:type", "article"),
        ("property", "og:url", address),
        ("property", "og:image", card),
        ("name", "twitter:card", "summary_large_image" if card else "summary"),
    ]
    return "".join(f'<meta {kind}="{name}" content="{escape(content)}" />\n' for kind, name, content in tags if content)


def draw_card(path: Path, title: str) -> None:
    """Draw the picture of a link, 1200 by 630 pixels: the title, and each block in its colour and by its name."""
    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor="white")
    figure.text(0.07, 0.85, textwrap.fill(title, 26), fontsize=46, weight="bold", va="top", parse_math=False)
    for place, network in enumerate(rows.networks()[:3]):
        left = 0.07 + 0.3 * place
        figure.add_artist(Rectangle((left, 0.12), 0.05, 0.095, facecolor=network.colour))
        figure.text(left + 0.062, 0.168, network.title, fontsize=17, va="center", parse_math=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


@functools.cache
def _citation(project: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((project / "CITATION.cff").read_text(encoding="utf-8")))


@functools.cache
def _foot(project: Path) -> str:
    return foot(_citation(project), origin(), day())


def sign(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Give a page its foot and what previews read."""
    context["author"], context["show_copyright"] = "", False  # the foot has both
    context["theme_extra_footer"] = _foot(Path(app.srcdir))
    site, base = str(app.config.html_title), str(app.config.html_baseurl).rstrip("/")
    address, card = (f"{base}/{page}.html", f"{base}/{CARD}") if base else ("", "")
    title = html.unescape(re.sub(r"<[^>]*>", "", str(context.get("title", "")))) or site
    abstract = str(_citation(Path(app.srcdir))["abstract"])
    is_first = page in ("index", app.config.root_doc)
    text = abstract if is_first else description(doctree) or abstract
    tags = metatags(site if is_first else title, text, site, address, card)
    context["metatags"] = context.get("metatags", "") + tags


def finish(app: Sphinx, error: Exception | None) -> None:
    """Draw the card, where pages name it."""
    if not error and app.builder.format == "html" and app.config.html_baseurl:
        draw_card(Path(app.outdir) / CARD, str(app.config.html_title))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of this with Sphinx."""
    app.connect("html-page-context", sign)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
