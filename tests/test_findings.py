"""What the book says it found: a sentence with its condition, and that each holds on the committed records."""

import re

import pandas as pd
import pytest
from simulated_study import study

from isonb import places
from isonb.pages import findings

BOOK = places.PROJECT / "book"
CHAPTERS = sorted(
    path.stem
    for path in BOOK.glob("*.md")
    if re.search(r"isonb.pages import .*(findings|verdicts)", path.read_text("utf-8"))
)


def test_a_statement_that_holds_is_its_sentence_with_the_numbers():
    statement = findings.Statement("It wins in {count} of {all} rows, by {lead:.2f}.", True, count=9, all=9, lead=0.246)
    assert str(statement) == statement.html() == statement.markdown() == "It wins in 9 of 9 rows, by 0.25."


def test_one_that_does_not_says_so_with_the_numbers_and_can_be_found_in_a_page():
    statement = findings.Statement("It wins by {lead:.2f}.", 0.1 > 0.2, lead=0.1)
    assert str(statement) == "No longer holds: It wins by 0.10."
    marked = '<strong class="isonb-broken">No longer holds:</strong> It wins by 0.10.'
    assert statement.html() == statement.markdown() == statement._repr_markdown_() == marked


def test_one_without_records_is_not_run_whatever_its_numbers():
    statement = findings.Statement("It wins by {lead:.2f}.", None, lead=None)
    assert str(statement) == statement.html() == statement.markdown() == "Not run."


def test_text_of_records_is_text():
    statement = findings.Statement("See [this](results.md) of {name}.", True, name="<b>*a*")
    assert statement.markdown() == "See [this](results.md) of &#60;b&#62;&#42;a&#42;."
    assert statement.html() == "See [this](results.md) of &lt;b&gt;*a*."


def test_a_number_leads_to_its_runs_and_reads_the_same():
    t = study(seeds=(0,), depths=(1,))
    mixers = t.runs[t.runs["network"] == "mixer"]
    statement = findings.Statement("*It* wins by {lead:.1f} & {n}.", True, n=3, **findings.behind(t, mixers, lead=0.25))
    link = '<a class="isonb-behind" href="cells.html?study=cpu&amp;images=same&amp;block=mixer">0.2</a>'
    assert str(statement) == "*It* wins by 0.2 & 3."
    assert statement.markdown() == f"*It* wins by {link} & 3."
    assert statement.html() == f"*It* wins by {link} &amp; 3."
    each = findings.behind_each(t, t.runs, "encoding", pd.Series({"rff": 1.0, "none": 2.0}))
    assert each["rff"].address == "cells.html?study=cpu&images=same&encoding=rff"
    assert each["none"] == 2.0 and findings.behind(t, t.runs[:0], lead=0.5) == {"lead": 0.5}


@pytest.mark.parametrize(("values", "holds"), [([1, 2], True), ([1, -2], False), ([], None)])
def test_what_holds_in_all_rows_is_not_run_without_any(values, holds):
    condition = pd.Series(values, dtype=float) > 0
    assert findings.in_all(condition) is holds
    assert findings.in_all(pd.DataFrame({"is so": [True]}), condition) is holds


def test_statements_in_a_list_have_a_line_each():
    assert findings.bulleted(findings.Statement("One.", True), findings.Statement("Two.", None)) == "- One.\n- Not run."


def cells(chapter):
    """The code of a chapter's cells."""
    text = (BOOK / f"{chapter}.md").read_text(encoding="utf-8")
    code = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^:tags:.*\n", "", cell) for cell in code]


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_statement_of_a_chapter_holds_on_the_committed_records(chapter, monkeypatch):
    """If this fails, the records say something else than the chapter: read them, and rewrite the sentence."""
    made = []
    monkeypatch.setenv("ISONB_RESULTS", str(BOOK / "results"))
    monkeypatch.chdir(BOOK)
    remember = findings.Statement.__init__
    monkeypatch.setattr(
        findings.Statement,
        "__init__",
        lambda self, *a, **numbers: (remember(self, *a, **numbers), made.append(self))[0],
    )
    names = {}
    for cell in cells(chapter):
        exec(compile(cell, f"{chapter}.md", "exec"), names)
    assert made or "findings." not in "".join(cells(chapter))
    assert not [str(statement) for statement in made if statement.holds is False]
