"""The published book in a real browser without any network: from file:// and below a path of a server, on wide and
narrow screens, light and dark. What a page must not obey is tried on a book of hostile results."""

import functools
import http.server
import threading
from pathlib import Path
from urllib.parse import quote

import axe_playwright_python
import pytest
from built_book import book_with_results, published_book, shared_folder
from chromium import EXECUTABLE, Chromium

from isonb import studies

pytestmark = [pytest.mark.slow, pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed")]

BOOK = Path(__file__).parent.parent / "book"
HOSTILE_CELL = f"book/results/smoke/{studies.cells('smoke')[0].run.run_id}"
EXECUTED_CELL = f"book/results/cpu/{min(path.stem for path in (BOOK / 'results' / 'cpu').glob('*.ipynb'))}"
PAGES = [*sorted(f"book/{path.stem}" for path in BOOK.glob("*.md")), EXECUTED_CELL, "search", "genindex"]
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
WAIT = "new Promise((done) => setTimeout(done, 300)).then(() => true)"
STAND_STILL = """
    document.head.insertAdjacentHTML("beforeend", `<style>
        *, ::before, ::after { animation: none !important; transition: none !important }
    </style>`)
"""
SCROLL = """
    new Promise((done) => {
        const scroll = (y) => {
            scrollTo(0, y);
            const isDone = y > document.documentElement.scrollHeight;
            isDone ? setTimeout(done, 300, true) : setTimeout(scroll, 20, y + innerHeight);
        };
        scroll(0);
    })
"""
PHONE = 390
WIDTHS = [360, 768, 1440, 2560]
LIMITS = {"book/index": 700_000}  # bytes that the first page may load
LIMIT = 1_600_000  # and any other
QUERIES = {  # what somebody may look for, and the chapter that explains it
    "permutation": "transformers", "random Fourier": "encodings", "mixer": "blocks", "masked pixels": "objective",
    "linear probe": "probing", "learning rate": "training", "Slurm": "run", "palette": "image_gpt", "Holm": "claims",
    "departure": "departures",
}  # fmt: skip


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The project's own book."""
    return published_book(shared_folder(tmp_path_factory))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A book of made results whose text would do harm if a page obeyed it."""
    return book_with_results(shared_folder(tmp_path_factory)) / "_build" / "html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def open_page(html, browser):
    def open_page(name, **screen):
        browser.open((html / f"{name}.html").as_uri(), **screen)
        return browser

    return open_page


@pytest.fixture(scope="module", params=PAGES)
def phone(request, open_page):
    """A page on a phone, scrolled to its end: loaded once for all tests that look at it."""
    page = open_page(request.param, width=PHONE)
    page.evaluate(STAND_STILL)
    page.evaluate(SCROLL)
    return page


@pytest.fixture(scope="module")
def served(html, hostile, tmp_path_factory):
    """The address of a folder on a server, not at its root, with the books at `below` and `hostile`."""
    root = tmp_path_factory.mktemp("server")
    (root / "somewhere").mkdir()
    (root / "somewhere" / "below").symlink_to(html, target_is_directory=True)
    (root / "somewhere" / "hostile").symlink_to(hostile, target_is_directory=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/somewhere"
        server.shutdown()


def test_a_page_asks_for_nothing_elsewhere_and_runs_without_errors(phone):
    assert_is_alone_and_without_errors(phone)


def assert_is_alone_and_without_errors(page):
    assert page.requests
    assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.errors == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_below_a_path_of_a_server_is_whole_and_light(browser, served, name):
    browser.send("Network.setCacheDisabled", cacheDisabled=True)
    browser.open(f"{served}/below/{name}.html")
    browser.evaluate(f"{SCROLL.strip()}.then(() => document.fonts.ready).then(() => true)")
    answers = [event["params"]["response"] for event in browser.events if event["method"] == "Network.responseReceived"]
    loaded = [answer for answer in answers if not answer["url"].startswith(("data:", "blob:"))]
    assert [answer["url"] for answer in loaded if answer["status"] != 200] == []
    assert [answer["url"] for answer in loaded if not answer["url"].startswith(f"{served}/below/")] == []
    weights = [
        event["params"]["encodedDataLength"] for event in browser.events if event["method"] == "Network.loadingFinished"
    ]
    assert len(weights) > 10
    assert 200_000 < sum(weights) < LIMITS.get(name, LIMIT)


def test_a_page_never_scrolls_sideways(phone):
    for width in WIDTHS:
        phone.resize(width)
        overflow = phone.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow == 0, width
        # Nor is anything cut off that does not scroll by itself
        cut = phone.evaluate("""
            [...document.querySelectorAll("article :is(p, li, dt, dd, h1, h2, h3, img, svg, summary)")]
                .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)
                .filter(e => !e.closest(".pst-scrollable-table-container, .text_html, pre"))
                .map(e => e.outerHTML.slice(0, 80))
        """)
        assert cut == [], width


@pytest.mark.parametrize("name", ["book/index", "book/results", "book/cells", "book/encodings", "search", HOSTILE_CELL])
@pytest.mark.parametrize("from_server", [False, True])
def test_a_page_runs_its_own_scripts_and_no_others(browser, hostile, served, name, from_server):
    browser.send("Log.enable")
    browser.open(f"{served}/hostile/{name}.html" if from_server else (hostile / f"{name}.html").as_uri())
    browser.evaluate(WAIT)
    assert browser.refusals == []
    assert browser.evaluate("document.title") != "7"
    browser.evaluate(f"""
        document.body.insertAdjacentHTML("beforeend",
            `<img src="none" onerror="window.ran = 1"><a id="there" href="javascript:window.ran = 2">there</a>`);
        document.getElementById("there").click();
        const script = document.createElement("script");
        script.textContent = "window.ran = 3";
        document.body.append(script);
        const elsewhere = document.createElement("script");
        elsewhere.src = "data:text/javascript,window.ran = 4";
        document.body.append(elsewhere);
        {WAIT}
    """)
    assert browser.evaluate("window.ran ?? 0") == 0
    assert len(browser.refusals) == 4


def test_what_the_theme_does_from_a_buttons_own_attribute_is_allowed(browser, html):
    browser.send("Log.enable")
    browser.open((html / "book" / "index.html").as_uri())
    browser.evaluate(
        "window.print = () => { window.printed = true }; document.querySelector('[onclick=\"window.print()\"]').click()"
    )
    assert browser.evaluate("window.printed") is True
    assert browser.refusals == []


def test_axe_finds_nothing_serious_on_a_phone(phone):
    phone.resize(PHONE)
    assert_nothing_is_serious(phone, "light")


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious_on_a_wide_screen_in_the_dark(open_page, name):
    page = open_page(name, width=1440, dark=True)
    assert_is_alone_and_without_errors(page)
    page.evaluate(STAND_STILL)
    assert_nothing_is_serious(page, "dark")


def assert_nothing_is_serious(page, theme):
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    page.evaluate("for (const folded of document.querySelectorAll('article details')) folded.open = true")
    page.evaluate(AXE.read_text(encoding="utf-8") + "; true")
    findings = page.evaluate("""
        axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations
            .filter(({ impact }) => impact === "serious" || impact === "critical")
            .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 120)}`)))
    """)
    assert findings == []


@pytest.mark.parametrize("name", ["claims", "encodings", "blocks", "objective", "training", "probing"])
def test_formulas_are_drawn_fit_a_phone_and_are_read_aloud(open_page, name):
    page = open_page(f"book/{name}", width=390)
    formulas = page.evaluate("""
        [...document.querySelectorAll("article .math")].map((e) => {
            const svg = e.querySelector("svg"), drawn = svg.getBoundingClientRect();
            return {
                width: drawn.width, height: drawn.height, scale: drawn.width / svg.viewBox.baseVal.width,
                spoken: e.querySelector(".isonb-spoken math").textContent,
            };
        })
    """)
    assert formulas
    scales = [formula["scale"] for formula in formulas]
    for formula in formulas:
        assert formula["spoken"]
        assert 4 < formula["width"] < 390
        assert formula["height"] > 4
        assert formula["scale"] > 0.8 * max(scales)  # of all on a page, none is shrunk until it fits


def test_figures_are_drawn(phone):
    phone.resize(PHONE)
    missing = phone.evaluate("""
        const shown = [...document.querySelectorAll(".isonb-figure img")].filter((e) => e.checkVisibility());
        Promise.all(shown.map((e) => {
            e.loading = "eager";
            return e.decode().then(() => "", () => e.outerHTML.slice(0, 120));
        })).then((results) => results.filter(Boolean))
    """)
    assert missing == []


@pytest.mark.parametrize(("query", "chapter"), QUERIES.items())
def test_the_search_finds_a_chapter_by_its_words(html, browser, query, chapter):
    browser.open((html / "search.html").as_uri() + f"?q={quote(query)}")
    results = browser.evaluate("""
        new Promise((done) => {
            const found = () => [...document.querySelectorAll("#search-results li a")].map((a) => a.pathname);
            const isDone = () => /found|match/i.test(document.querySelector("#search-results p")?.textContent ?? "");
            const look = (times) => isDone() || times === 0 ? done(found()) : setTimeout(look, 100, times - 1);
            look(100);
        })
    """)
    assert (html / "book" / f"{chapter}.html").as_posix() in results[:3]
    assert not any("/results/" in path for path in results)
