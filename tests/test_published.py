"""The book that is published, as `make book` builds it from the project's own results."""

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


def test_no_two_cells_have_the_same_title(pages):
    titles = [link.get_text() for link in pages["cells"].select("table a")]
    assert titles
    assert len(set(titles)) == len(titles)
