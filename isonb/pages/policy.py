"""What a page may do: run the theme's scripts and the explorer's, and load what lies beside it, nothing else.

Text from results is escaped wherever it is shown. Should some of it be taken for HTML all the same, the page's Content
Security Policy keeps it from running and from calling home. Scripts that stand in a page are allowed by their hash:
those of the search page, which shows no results and so has the theme's alone, and those named here.

Book: every page.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from isonb.pages import explorer

PLACE = "isonb-policy"  # stands in a page until the scripts of all pages are known
THEME = "search"
PRINT, KERNEL = "window.print()", "kernelName = 'python3'"  # the theme's, on pages that were notebooks
PLAIN_NAME = re.compile(r"[\w/.=-]+")
SCRIPTS = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
HANDLERS = re.compile(r'\son\w+="([^"]*)"')


def leave_room(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Put a policy without content at the head of a page."""
    context["metatags"] = _meta(PLACE) + context.get("metatags", "")


def fill_in(app: Sphinx, error: Exception | None) -> None:
    """Give every page that was written its policy."""
    folder = Path(app.outdir)
    theme = folder / f"{THEME}.html"
    if error or app.builder.format != "html" or not theme.exists():
        return
    text = theme.read_text(encoding="utf-8")
    own = SCRIPTS.findall(explorer.page())
    allowed = [*SCRIPTS.findall(text), *HANDLERS.findall(text), *own, PRINT, KERNEL]
    for path in folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        if _meta(PLACE) in text:
            name = path.relative_to(folder).with_suffix("").as_posix()
            named = [f"DOCUMENTATION_OPTIONS.pagename = '{name}';"] if PLAIN_NAME.fullmatch(name) else []
            path.write_text(text.replace(_meta(PLACE), _meta(policy([*allowed, *named])), 1), encoding="utf-8")


def policy(scripts: list[str]) -> str:
    """The policy of a page in which these scripts may stand, also as what a button does."""
    hashes = " ".join(dict.fromkeys(f"'sha256-{_digest(script)}'" for script in scripts))
    return (
        f"default-src 'none'; script-src 'self' 'unsafe-hashes' {hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _meta(content: str) -> str:
    return f'<meta http-equiv="Content-Security-Policy" content="{escape(content, quote=False)}">'


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of this with Sphinx."""
    app.connect("html-page-context", leave_room)
    app.connect("build-finished", fill_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
