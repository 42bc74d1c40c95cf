"""The execution of chapters: what makes one run again, what is never kept, and what a build says of each."""

import functools
import json
import os
import re
import sys
from types import SimpleNamespace

import nbformat
import pytest
from built_book import build, copy_sources, page
from made_records import leave_record, made_record
from myst_nb.core.config import NbParserConfig
from myst_parser.config.main import MdParserConfig

from isonb import config
from isonb.pages import execution

HEAD = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n"
CELL = "\n```{code-cell} ipython3\n%s\n```\n"


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A folder of chapters, and a function that executes those whose code is given and returns what it printed."""
    folder = tmp_path / "sources" / "book"
    folder.mkdir(parents=True)
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("MPLBACKEND", "agg")  # as for the book's builder; kernels are not told
    environment = SimpleNamespace(
        doc2path=lambda name: folder.parent / f"{name}.md",
        myst_config=MdParserConfig(),
        mystnb_config=NbParserConfig(),
    )
    app = SimpleNamespace(
        env=environment, outdir=folder.parent / "_build" / "html", config=SimpleNamespace(nb_execution_timeout=60)
    )

    def execute(capsys, **code):
        for name, source in code.items():
            (folder / f"{name}.md").write_text(f"{HEAD}\n# {name}\n{CELL % source}", encoding="utf-8")
        execution.circumstances.cache_clear()
        execution.execute(app, environment, [f"book/{name}" for name in code])
        *lines, _ = capsys.readouterr().out.splitlines()
        return dict(re.sub(r", [0-9.]+ s$", "", line).split(": ") for line in lines)

    execute.folder = folder
    execute.outputs = lambda name: execution._executed[str(folder / f"{name}.md")].notebook.cells[-1].outputs
    return execute


def shown(output):
    return output.get("text") or output["data"]["text/plain"]


READING = {
    "content": "open('content.txt').read()",
    "missing": "__import__('os').path.exists('missing.txt')",
    "removed": "__import__('pathlib').Path('removed.txt').is_file()",
    "listed": "sorted(__import__('os').listdir('listed'))",
    "globbed": "[path.name for path in __import__('pathlib').Path('globbed').glob('*')]",
    "array": "__import__('numpy').load('array.npy').sum()",
    "imported": "__import__('imported_here').VALUE",
    "of_package": "from isonb.evidence import tables; len(tables.finished('smoke'))",
    "untouched": "open('untouched.txt').read()",
}


@pytest.mark.slow
def test_a_chapter_is_executed_again_if_and_only_if_something_that_it_reads_has_changed(book, capsys):
    import numpy as np

    folder = book.folder
    for name in ("content", "removed", "untouched"):
        (folder / f"{name}.txt").write_text("before", encoding="utf-8")
    for name in ("listed", "globbed"):
        (folder / name).mkdir()
    np.save(folder / "array.npy", np.arange(3))
    (folder / "imported_here.py").write_text("VALUE = 1", encoding="utf-8")
    assert set(book(capsys, **READING).values()) == {"executed"}
    before = {name: shown(book.outputs(name)[0]) for name in READING}
    assert set(book(capsys, **READING).values()) == {"unchanged"}
    assert {name: shown(book.outputs(name)[0]) for name in READING} == before

    (folder / "content.txt").write_text("AFTER!", encoding="utf-8")  # as long as it was
    os.utime(folder / "content.txt", (1, 1))  # and older
    (folder / "missing.txt").touch()
    (folder / "removed.txt").unlink()
    (folder / "listed" / "new").touch()
    (folder / "globbed" / "new").touch()
    np.save(folder / "array.npy", np.arange(4))
    (folder / "imported_here.py").write_text("VALUE = 1000", encoding="utf-8")
    leave_record(made_record(config.smoke(block="mixer")))
    os.utime(folder / "untouched.txt")  # a date is no change
    assert book(capsys, **READING) == dict.fromkeys(READING, "executed") | {"untouched": "unchanged"}
    assert {name: shown(book.outputs(name)[0]) for name in READING} == {
        "content": "'AFTER!'", "missing": "True", "removed": "False", "listed": "['new']", "globbed": "['new']",
        "array": "np.int64(6)", "imported": "1000", "of_package": "1", "untouched": "'before'",
    }  # fmt: skip


@pytest.mark.slow
def test_another_cell_folder_of_results_or_environment_executes_a_chapter_again(book, capsys, monkeypatch, tmp_path):
    results = "from isonb.evidence import tables; len(tables.finished('smoke'))"
    leave_record(made_record(config.smoke(block="mixer")))
    assert book(capsys, one=results) == {"one": "executed"}
    assert shown(book.outputs("one")[0]) == "1"
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "elsewhere"))
    assert book(capsys, one=results) == {"one": "executed"}
    assert shown(book.outputs("one")[0]) == "0"
    assert book(capsys, one=results + " + 1") == {"one": "executed"}
    assert book(capsys, one=results + " + 1") == {"one": "unchanged"}
    monkeypatch.setattr(sys, "version", "another Python")
    assert book(capsys, one=results + " + 1") == {"one": "executed"}


@pytest.mark.slow
def test_what_other_programs_did_is_never_kept_nor_what_changed_meanwhile(book, capsys):
    code = {
        "starts": "__import__('subprocess').run(['true']).returncode",
        "changes": "open('changes.txt', 'a').write('x'); len(open('changes.txt').read())",
        "fails": "1 / 0",
        "damaged": "7",
    }
    assert book(capsys, **code) == dict.fromkeys(code, "executed") | {"fails": "failed"}
    [kept] = (book.folder.parent / "_build" / "executed").rglob("*.json")
    kept.write_text(kept.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    assert book(capsys, **code) == dict.fromkeys(code, "executed") | {"fails": "failed"}
    assert shown(book.outputs("changes")[0]) == "2"


@pytest.mark.slow
def test_a_kept_chapter_of_another_checkout_is_not_taken_for_ones_own(book, capsys):
    (book.folder / "here.txt").write_text("mine", encoding="utf-8")
    assert book(capsys, one="open('here.txt').read()") == {"one": "executed"}
    [kept] = (book.folder.parent / "_build" / "executed").rglob("*.json")
    content = json.loads(kept.read_text(encoding="utf-8"))
    kept.write_text(json.dumps(content | {"chapter": "/elsewhere/book/one.md"}), encoding="utf-8")
    assert book(capsys, one="open('here.txt').read()") == {"one": "executed"}


@pytest.mark.slow
def test_a_chapters_page_shows_what_changed_and_a_failing_cell_fails_every_build(tmp_path, monkeypatch):
    folder = copy_sources(tmp_path / "sources")
    for path in (folder / "book").glob("*.md"):
        path.unlink()
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\n", encoding="utf-8")
    monkeypatch.setenv("ISONB_RESULTS", str(folder / "book" / "results"))
    cells = (
        "from isonb import config, records",
        "records.finished(config.smoke(block='mixer')).training.validation_loss",
    )

    def write(*code):
        text = "".join(CELL % source for source in code)
        cited = "\n{cite}`chen2020`\n\n```{bibliography}\n```\n"
        (folder / "book" / "index.md").write_text(f"{HEAD}\n# Title\n{text}{cited}", encoding="utf-8")

    write(*cells)
    whole = functools.partial(build, folder, "--all", "--quiet")
    for loss, state in ((4.125, "executed"), (4.125, "unchanged"), (3.875, "executed")):
        if state == "executed":
            leave_record(made_record(config.smoke(block="mixer"), loss))
        built = whole()
        assert built.returncode == 0, built.stdout + built.stderr
        assert re.search(rf"^index: {state}", built.stdout, re.MULTILINE)
        assert f">{loss}\n" in page(folder, "book/index")
        offered = nbformat.read(folder / "_build/html/_sources/book/index.ipynb", as_version=4)
        assert offered.cells[-2].outputs[0].data["text/plain"] == str(loss)
    write(*cells, "1 / 0")
    for _ in range(2):
        built = whole()
        assert built.returncode != 0
        assert re.search(r"^index: failed", built.stdout, re.MULTILINE)
        assert re.search(r"index\.md: WARNING: index failed at its code cell 3:", built.stderr)
        assert "ZeroDivisionError: division by zero" in built.stderr
