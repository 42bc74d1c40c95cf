"""The built book in a real browser without any network, from file://, on wide and narrow screens, light and dark."""

from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from built_book import book_with_results, shared_folder
from chromium import EXECUTABLE, Chromium

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed")

CHAPTERS = ["index", "claims", "notation", "data", "encodings", "blocks", "network", "objective", "training", "probing",
            "smoke", "results", "transformers", "image_gpt", "verdict", "departures", "cells", "run", "own_block",
            "bibliography"]  # fmt: skip
EXPECTED_ERROR = "Identifier 'THEBE_JS_URL' has already been declared"  # the theme declares it twice; harmless


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return book_with_results(shared_folder(tmp_path_factory)) / "_build" / "html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def chapter(html, browser):
    def open_chapter(name, **screen):
        browser.open((html / "book" / f"{name}.html").as_uri(), **screen)
        return browser

    return open_chapter


def test_every_chapter_of_the_book_is_looked_at(html):
    assert sorted(path.stem for path in (html / "book").glob("*.html")) == sorted(CHAPTERS)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_asks_for_nothing_elsewhere_and_runs_without_errors(chapter, name):
    page = chapter(name)
    assert page.requests
    assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [error for error in page.errors if EXPECTED_ERROR not in error] == []


@pytest.mark.parametrize("width", [360, 1440, 2560])
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_never_scrolls_sideways(chapter, name, width):
    page = chapter(name, width=width)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow == 0
    # Nor is anything cut off that does not scroll by itself
    cut = page.evaluate("""
        [...document.querySelectorAll("article p, article li, article dt, article h1, article h2, article img")]
            .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)
            .filter(e => !e.closest(".pst-scrollable-table-container, pre, .math"))
            .map(e => e.outerHTML.slice(0, 80))
    """)
    assert cut == []


@pytest.mark.parametrize("name", ["encodings", "blocks", "objective"])
def test_mathematics_is_typeset_without_a_network(chapter, name):
    page = chapter(name)
    written = page.evaluate("document.querySelectorAll('article .math').length")
    typeset = page.evaluate("document.querySelectorAll('article .math mjx-container').length")
    assert written > 0
    assert typeset >= written
    assert page.evaluate("document.querySelectorAll('mjx-merror').length") == 0


def test_the_first_page_is_light(chapter):
    files = {Path(unquote(urlparse(url).path)) for url in chapter("index").requests if url.startswith("file:")}
    assert sum(file.stat().st_size for file in files) < 1_000_000


@pytest.mark.parametrize("name", ["data", "encodings", "objective", "smoke"])
def test_figures_are_drawn(chapter, name):
    widths = chapter(name, width=390).evaluate(
        "[...document.querySelectorAll('.isonb-figure img')].map(i => i.naturalWidth)"
    )
    assert widths
    assert all(widths)


@pytest.mark.parametrize("is_dark", [False, True])
def test_words_under_a_figure_contrast_with_what_is_behind_them(chapter, is_dark):
    page = chapter("smoke", dark=is_dark)
    assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if is_dark else "light")
    ratio = page.evaluate("""
        (() => {
            const channels = colour => colour.match(/[\\d.]+/g).map(Number);
            const behind = e => {
                for (; e; e = e.parentElement) {
                    const [r, g, b, a = 1] = channels(getComputedStyle(e).backgroundColor);
                    if (a > 0) return [r, g, b];
                }
                return [255, 255, 255];
            };
            const luminance = rgb => rgb.slice(0, 3).map(c => c / 255)
                .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
            const caption = document.querySelector("figcaption");
            const [low, high] = [channels(getComputedStyle(caption).color), behind(caption)]
                .map(luminance).sort((a, b) => a - b);
            return (high + 0.05) / (low + 0.05);
        })()
    """)
    assert ratio >= 4.5


def test_the_first_page_leads_into_the_book(html, browser):
    browser.open((html / "index.html").as_uri())
    browser.evaluate("new Promise(done => setTimeout(done, 500))")
    assert browser.evaluate("document.querySelector('h1').textContent").startswith("On the Bias Against")
