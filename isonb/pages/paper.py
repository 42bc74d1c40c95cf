"""The whole book as one PDF, with links and an outline: its built pages in one file, printed by Chromium.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from isonb import disk, places
from isonb.validation import ConfigError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--headless", "--disable-gpu", "--no-pdf-header-footer", "--generate-pdf-document-outline"]
AS_ROOT = "--no-sandbox"  # without which Chromium does not start as root, as in a container
NAME = "isonb.pdf"
OF_A_PAGE = (".headerlink", "script", "button", ".only-dark", "#searchbox", ".isonb-pdf")


def pages(contents: Any) -> list[str]:
    """The chapters of a table of contents, in their order, such as `book/index`."""
    parts = [contents, *contents.get("parts", [])]
    return [contents["root"], *(one["file"] for part in parts for one in part.get("chapters", []))]


def one_page(folder: Path, chapters: Sequence[str]) -> str:
    """One HTML file from the articles of pages below a folder; a link from one to another leads to its place in it."""
    whole = _read(folder / f"{chapters[0]}.html")
    for script in whole.find_all(["script", "noscript"]):
        script.decompose()
    articles = []
    for page in chapters:
        article = _read(folder / f"{page}.html").select_one("article.bd-article")
        for unneeded in article.select(", ".join(OF_A_PAGE)):
            unneeded.decompose()
        for fold in article.select("details.sd-dropdown"):
            fold["open"] = ""
        _anchor(article, page, chapters)
        articles.append(article)
    for link in whole.head.select("link[href]"):
        link["href"] = _below(chapters[0], str(link["href"]))
    whole.html["data-theme"] = "light"
    main = whole.new_tag("main", attrs={"class": "bd-content"})
    main.extend(articles)
    whole.body.clear()
    whole.body.append(main)
    return str(whole)


def _read(path: Path) -> Any:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def _anchor(article: Tag, page: str, chapters: Sequence[str]) -> None:
    """Make what a page names and what it leads to unique in the whole."""
    article["id"], article["style"] = page, "break-before: page"
    for tag in article.find_all(True):
        if "id" in tag.attrs:
            tag["id"] = f"{page}#{tag['id']}"
        tag.attrs.pop("loading", None)
        for name in ("href", "xlink:href", "src", "srcset"):
            if name in tag.attrs:
                tag[name] = _within(page, str(tag[name]), chapters)


def _within(page: str, link: str, chapters: Sequence[str]) -> str:
    """Where a page's link leads from the whole."""
    if urlsplit(link).scheme:
        return link
    path, anchor = urldefrag(link)
    target = _below(page, path).removesuffix(".html") if path else page
    if target in chapters:
        return f"#{target}#{anchor}" if anchor else f"#{target}"
    return _below(page, path)


def _below(page: str, path: str) -> str:
    """A path relative to a page as one relative to the folder of all."""
    parts = list(Path(page).parent.parts)
    for part in Path(path).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def browser() -> str:
    """The path of a Chromium. Raises `ConfigError` where there is none."""
    if there := next(filter(None, map(shutil.which, BROWSERS)), None):
        return there
    raise ConfigError("Printing the book takes Chromium, which is not here: install the package chromium, then repeat.")


def write(folder: Path, contents: Path = places.PROJECT / "_toc.yml") -> Path:
    """Print the built book below `folder` and return the PDF's path. Raises `ConfigError` without Chromium."""
    program, result, whole = browser(), folder / NAME, folder / "whole.html"
    chapters = pages(yaml.safe_load(contents.read_text(encoding="utf-8")))
    whole.write_text(one_page(folder, chapters), encoding="utf-8")
    try:
        with tempfile.TemporaryDirectory() as profile:
            options = [
                *FLAGS,
                *[AS_ROOT] * (os.geteuid() == 0),
                f"--user-data-dir={profile}",
                f"--print-to-pdf={result}",
            ]
            done = subprocess.run([program, *options, whole.as_uri()], capture_output=True, text=True, check=False)
    finally:
        whole.unlink()
    if done.returncode or not result.exists():
        lines = done.stderr.strip().splitlines() or ["no reason was given"]
        raise ConfigError(f"Chromium could not print the book ({lines[-1]}): see that {program} starts, then repeat.")
    first = folder / f"{chapters[0]}.html"
    offered = offer(first.read_text(encoding="utf-8"), os.path.relpath(result, first.parent), result.stat().st_size)
    disk.write_atomically(first, offered.encode())
    return result


def offer(page: str, address: str, size: int) -> str:
    """A page's HTML with a link to the PDF before its first heading but the title, in the place of an earlier one."""
    link = f'<p class="isonb-pdf"><a href="{address}">The whole book as a PDF</a> ({size / 1e6:.0f} MB)</p>'
    page = re.sub(r'<p class="isonb-pdf">.*?</p>', "", page)
    whole = page.index("<section", page.index("<article"))
    first = page.index("<section", whole + 1)
    return f"{page[:first]}{link}{page[first:]}"
