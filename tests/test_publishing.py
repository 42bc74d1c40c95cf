"""The book's build: when it is up to date, and what its builder prints."""

import os
import sys

import pytest

from isonb import places
from isonb.running import publishing
from isonb.validation import ConfigError


def test_a_book_is_built_again_after_any_change_of_what_it_is_built_from(tmp_path, monkeypatch):
    (tmp_path / "book").mkdir()
    chapter = tmp_path / "book/index.md"
    chapter.write_text("one")
    (tmp_path / "_config.yml").write_text("title: none")
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(places, "PROJECT", tmp_path)
    monkeypatch.setattr(publishing, "PAGE", tmp_path / "_build/html/index.html")
    monkeypatch.setattr(publishing, "CONTENTS", tmp_path / "_build/contents.sha256")
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


def test_pages_of_cells_that_an_earlier_book_had_are_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "PROJECT", tmp_path)
    monkeypatch.setattr(publishing, "PAGE", tmp_path / "_build/html/index.html")
    monkeypatch.setattr(publishing, "CONTENTS", tmp_path / "_build/contents.sha256")
    monkeypatch.setattr(publishing, "_run", lambda command: 0)
    old = [tmp_path / "_build/html/book" / folder / "smoke/one.html" for folder in ("results", "elsewhere")]
    chapter = tmp_path / "_build/html/book/run.html"
    for path in (*old, chapter):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert publishing.build_book() == 0
    assert chapter.exists() and not any(path.exists() for path in old)


def test_a_package_without_its_project_says_where_the_book_is_built(monkeypatch):
    monkeypatch.setattr(places, "IS_CHECKOUT", False)
    with pytest.raises(ConfigError, match="installed without the book's pages: run the same command in the project's"):
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
