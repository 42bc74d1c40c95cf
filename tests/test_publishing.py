"""The book's build: when it is up to date, and what its builder prints."""

import os
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from isonb import places, revision
from isonb.running import publishing
from isonb.validation import ConfigError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in the place of the project's."""
    monkeypatch.setattr(places, "PROJECT", tmp_path)
    monkeypatch.setattr(publishing, "PAGE", tmp_path / "_build/html/index.html")
    monkeypatch.setattr(publishing, "CONTENTS", tmp_path / "_build/contents.sha256")
    return tmp_path


def test_a_book_is_built_again_after_any_change_of_what_it_is_built_from(project, tmp_path, monkeypatch):
    (tmp_path / "book").mkdir()
    chapter = tmp_path / "book/index.md"
    chapter.write_text("one")
    (tmp_path / "_config.yml").write_text("title: none")
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    assert not publishing.is_built()

    def build(status):
        def run(command):
            page = publishing.PAGE
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text("the page")
            return status

        monkeypatch.setattr(publishing, "_run", run)
        return publishing.build_book()

    assert build(0) == 0 and publishing.is_built()
    os.utime(chapter, (1, 1))
    (tmp_path / "book/__pycache__").mkdir()
    (tmp_path / "book/__pycache__/x.pyc").touch()
    assert publishing.is_built()
    for changed in (chapter, tmp_path / "results/smoke/a.json"):
        changed.parent.mkdir(parents=True, exist_ok=True)
        changed.write_text("other")
        assert not publishing.is_built()
        assert build(1) == 1 and not publishing.is_built()
        assert build(0) == 0 and publishing.is_built()
    monkeypatch.setattr(revision, "commit", lambda: "abc")  # each page's foot names it
    assert not publishing.is_built()


def test_pages_that_an_earlier_book_had_are_gone(project, monkeypatch):
    monkeypatch.setattr(publishing, "_run", lambda command: publishing.PAGE.parent.mkdir(parents=True) or 0)
    old = [project / "_build/html/book" / name for name in ("results/smoke/one.html", "chapter.html")]
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert publishing.build_book() == 0
    assert not any(path.exists() for path in old)


def test_two_builds_of_one_book_wait_for_each_other(project, monkeypatch, capsys):
    first_is_at_it, may_end, at_work = threading.Event(), threading.Event(), []

    def run(command):
        at_work.append(1)
        first_is_at_it.set()
        assert may_end.wait(60)
        assert at_work.pop() and not at_work  # nobody else has begun meanwhile
        return 0

    monkeypatch.setattr(publishing, "_run", run)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(publishing.build_book)
        assert first_is_at_it.wait(60)
        second = threads.submit(publishing.build_book)
        printed = ""
        while "Another process is building this book" not in printed and not second.done():
            printed += capsys.readouterr().out
            time.sleep(0.01)
        may_end.set()
        assert (first.result(), second.result()) == (0, 0)
    assert publishing.CONTENTS.exists()


def test_checking_links_leaves_the_book_as_it_is(tmp_path, monkeypatch):
    page = tmp_path / "_build/html/index.html"
    page.parent.mkdir(parents=True)
    page.touch()
    monkeypatch.setattr(publishing, "PAGE", page)
    monkeypatch.setattr(publishing, "CONTENTS", tmp_path / "_build/contents.sha256")

    def check(command):
        assert "linkcheck" in command
        (page.parent / "output.txt").write_text("broken")
        return 1

    monkeypatch.setattr(publishing, "_run", check)
    assert publishing.check_links() == 1
    assert list(page.parent.iterdir()) == [page]


def test_a_package_without_its_project_says_where_the_book_is_built(monkeypatch):
    monkeypatch.setattr(places, "IS_CHECKOUT", False)
    with pytest.raises(ConfigError, match="installed without the book's pages: run the same command in the project's"):
        publishing.build_book()


@pytest.mark.parametrize(
    "limit, is_possible, holds", [(2**34, True, True), (2**34, False, False), (resource.RLIM_INFINITY, False, True)]
)
def test_a_limit_of_the_address_space_counts_where_formulas_cannot_be_typeset(
    project, monkeypatch, limit, is_possible, holds
):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (limit, limit))
    monkeypatch.setattr(publishing, "TYPESETTER", [sys.executable, "-c", f"import sys; sys.exit({not is_possible})"])
    monkeypatch.setattr(publishing, "_run", lambda command: 0)
    if holds:
        assert publishing.build_book() == 0
    else:
        with pytest.raises(ConfigError, match="formulas cannot be typeset in 16,777,216 KiB of address space"):
            publishing.build_book()


def test_the_builder_is_told_nothing_of_a_persons_configuration(monkeypatch, capfd):
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    monkeypatch.setenv("DOCUTILSCONFIG", "mine.conf")
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    names = ["MPLBACKEND", "DOCUTILSCONFIG", "https_proxy"]
    publishing._run([sys.executable, "-c", f"import os; print(*(os.environ[name] for name in {names}))"])
    assert capfd.readouterr().out == "agg /dev/null http://proxy:1\n"


def test_of_what_the_books_builder_says_only_noise_is_left_out(capfd):
    code = (
        f"import sys; print('a page'); sys.stderr.write('a fault\\n[App] {publishing.NOISE}.\\nthe end'); sys.exit(3)"
    )
    assert publishing._run([sys.executable, "-c", code]) == 3
    assert capfd.readouterr() == ("a page\n", "a fault\nthe end")
