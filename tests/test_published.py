"""The book that is published, as `make book` builds it from the project's own results."""

import re
from collections import Counter
from urllib.parse import parse_qs, urlsplit

import pytest
from bs4 import BeautifulSoup
from built_book import published_book, shared_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Every chapter, parsed, by its name."""
    folder = published_book(shared_folder(tmp_path_factory)) / "book"
    return {
        path.stem: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted(folder.glob("*.html"))
    }


def test_what_the_book_says_holds(pages):
    broken = {name: page.select(".isonb-broken") for name, page in pages.items()}
    assert {name: [mark.parent.get_text() for mark in marks] for name, marks in broken.items() if marks} == {}


def test_no_solution_is_without_its_number(pages):
    solutions = [(name, text) for name, page in pages.items() for text in page.select("details.sd-dropdown")]
    assert len(solutions) > 30
    assert [(name, text.get_text()) for name, text in solutions if text.select(".isonb-not-run")] == []


def test_every_number_in_a_sentence_leads_to_its_run(pages):
    numbers = [(name, number) for name, page in pages.items() for number in page.select("span.isonb-number")]
    assert len(numbers) > 30
    for name, number in numbers:
        link = number.find("a")
        assert link and link["href"], (name, number.get_text())


MEASURED = re.compile("loss|accuracy|gain|rank|distance|gap|share|interval|difference|mean|4x4|learned|sincos|none")


def rows_of_runs(page):
    """The rows of each table of settings of a page, as dictionaries of cells by the column's name."""
    for table in page.select("table:not(.isonb-runs-table)"):
        heads = [head.get_text(strip=True) for head in table.select("thead th")]
        rows = [dict(zip(heads, row.select("td"), strict=True)) for row in table.select("tbody tr")]
        if rows and any(row.select_one(".isonb-behind") for row in table.select("tbody tr")):
            yield rows


def chosen(address, cells):
    """The rows of the page of all runs that an address leaves, as its script chooses them."""
    head = [cell["data-name"] for cell in cells.select(".isonb-runs-table thead th")]
    wanted = parse_qs(urlsplit(address).query, keep_blank_values=True)
    left = []
    for row in cells.select(".isonb-runs-table tbody tr"):
        of_row = {
            name: cell.get("data-value", cell.get_text())
            for name, cell in zip(head, row.find_all(["th", "td"]), strict=True)
        }
        of_row |= {"run": row["data-run"], "images": row["data-images"]}
        left += [row] * all(of_row[name] in values for name, values in wanted.items())
    return left


def test_every_number_of_a_table_of_settings_leads_to_its_runs(pages):
    tables = {name: list(rows_of_runs(page)) for name, page in pages.items()}
    assert {"probing", "results", "smoke", "transformers"} <= {name for name, found in tables.items() if found}
    counted = Counter()
    for name, row in ((name, row) for name, found in tables.items() for rows in found for row in rows):
        for title, cell in row.items():
            text = cell.get_text(strip=True)
            if MEASURED.search(title) and re.match(r"[-+]?\d", text) and row.get("encoding", cell).get_text() != "none":
                assert cell.select_one("a.isonb-behind[href]"), (name, title, text)
                counted[name] += 1
    assert counted.total() > 300, counted


def test_a_number_of_the_grid_leads_to_its_seeds(pages):
    grid = next(rows for rows in rows_of_runs(pages["results"]) if "loss, size 1" in rows[0])
    for row in grid:
        if row["seeds"].get_text():
            links = [row[f"loss, size {size}"].find("a") for size in (1, 3, 6)]
            found = [len(chosen(link["href"], pages["cells"])) if link else 0 for link in links]
            assert ", ".join(map(str, found)) == row["seeds"].get_text(), row["network"].get_text()


def test_no_link_of_a_number_leads_to_nothing(pages):
    addresses = {link["href"] for page in pages.values() for link in page.select("a.isonb-behind")}
    assert len(addresses) > 100
    assert [address for address in addresses if not chosen(address, pages["cells"])] == []


def test_no_two_cells_have_the_same_title(pages):
    titles = [link.get_text() for link in pages["cells"].select("table a")]
    assert titles
    assert len(set(titles)) == len(titles)
