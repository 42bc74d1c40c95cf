"""The book's pages of executed cells come from the folder of its numbers, and a bad notebook breaks no build."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from built_book import copy_sources, page
from made_records import leave_record, made_record

from isonb import config

pytestmark = pytest.mark.slow

CONTENTS = """format: jb-book
root: book/index
chapters:
  - file: book/run
  - file: book/cells
"""
INDEX = """# Title

Losses {num}`smoke:block=mixer:training.validation_loss:.3f` and {num}`smoke:block=conv:training.validation_loss:.3f`

{cite}`chen2020`

```{bibliography}
```
"""


def ran(text):
    heading = nbformat.v4.new_markdown_cell("# A cell that ran")
    output = nbformat.v4.new_output("stream", name="stdout", text=text)
    cell = nbformat.v4.new_code_cell("print()", execution_count=1, outputs=[output])
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.writes(nbformat.v4.new_notebook(cells=[heading, cell], metadata=kernel)).encode()


def leave(results, block, loss, text):
    """A record and its notebook in a folder of results; returns the notebook's path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISONB_RESULTS", str(results))
        return leave_record(made_record(config.smoke(block=block), loss), ran(text)).with_suffix(".ipynb")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The book of few pages, with a result of its own, one of a bad notebook, and a folder of other results."""
    above = tmp_path_factory.mktemp("above")
    folder = copy_sources(above / "sources")
    for path in (folder / "book").glob("*.md"):
        if path.name != "cells.md":
            path.unlink()
    (folder / "book/index.md").write_text(INDEX)
    (folder / "book/run.md").write_text("# Run\n\nText.\n")
    (folder / "_toc.yml").write_text(CONTENTS)
    own = folder / "book/results"
    leave(own, "mixer", 3.25, "said in place")
    bad = leave(own, "conv", 3.5, "3.5")
    bad.write_bytes(bad.read_bytes().replace(b"3.5", b"3.4"))
    shutil.copy(bad, own / "smoke/foreign.ipynb")
    (own / "smoke/notes.md").write_text("# Stray")
    leave(above / "others", "mixer", 4.125, "said elsewhere")
    return folder


def built(folder, *command, **variables):
    own = {name: value for name, value in os.environ.items() if not name.startswith("ISONB_")}
    places = {"PYTHONPATH": str(folder), **variables}
    done = subprocess.run(command, cwd=folder, env=own | places, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.relative_to(folder / "_build/html/book").as_posix()[: -len(".html")]
            for path in (folder / "_build/html/book").rglob("*.html")} - {"index", "run", "cells"}  # fmt: skip


BOOK = (sys.executable, "-m", "isonb", "book")
DIRECTLY = (sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", ".", "--all", "-W")


@pytest.mark.parametrize(
    ("command", "named"), [(BOOK, "../others"), (DIRECTLY, "{above}/others")], ids=["relative", "the builder alone"]
)
def test_pages_and_numbers_come_from_one_folder(small, command, named):
    if command == DIRECTLY:
        shutil.rmtree(small / "_build", ignore_errors=True)
    name = f"elsewhere/smoke/{config.smoke(block='mixer').run.run_id}"
    assert built(small, *command, ISONB_RESULTS=named.format(above=small.parent)) == {name}
    assert f'<a class="reference internal" href="{name}.html">4.125</a>' in page(small, "book/index")
    assert "said elsewhere" in page(small, f"book/{name}")
    cells = page(small, "book/cells")
    assert f'href="{name}.html"' in cells and ">4.125</td>" in cells and "no page, as" not in cells
    assert not (small / "book/elsewhere").exists()


def test_a_bad_notebook_has_a_sentence_and_no_page(small):
    mixer, conv = (config.smoke(block=block).run.run_id for block in ("mixer", "conv"))
    assert built(small, *BOOK) == {f"results/smoke/{mixer}"}
    assert f'href="results/smoke/{mixer}.html">3.250</a>' in page(small, "book/index")
    assert f'href="cells.html?study=smoke&amp;run={conv}">3.500</a>' in page(small, "book/index")  # it has no page
    assert "said in place" in page(small, f"book/results/smoke/{mixer}")
    cells = page(small, "book/cells")
    assert f"smoke/{conv}.ipynb has no page, as it is not the notebook of the run that left its record" in cells
    assert "smoke/foreign.ipynb has no page, as its record is missing or damaged" in cells
    assert f'href="#smoke-{conv}"' in cells and ">3.500</td>" in cells  # the record itself is as it was
