"""Whatever stands in a record is text on a page: as the book's own Markdown parser reads it, it is inert."""

import pandas as pd
import pytest
import yaml
from docutils import nodes
from docutils.core import publish_doctree
from hypothesis import given, settings
from hypothesis import strategies as st
from myst_parser.docutils_ import Parser

from isonb import places
from isonb.evidence import markup

EXTENSIONS = yaml.safe_load((places.PROJECT / "_config.yml").read_text())["parse"]["myst_enable_extensions"]
HOSTILE = [
    "<script>document.title=7</script>",
    "<img src=x onerror=alert(1)>",
    "```{eval-rst}\n.. raw:: html\n\n   <b>x</b>\n```",
    "{include}`/etc/passwd`",
    "```{include} /etc/passwd\n```",
    "{num}`smoke::data.name`",
    "{{ title }}",
    "$\\alpha$ and $$x$$",
    "[click](javascript:alert(1))",
    "![picture](https://example.org/x.png)",
    "<https://example.org>",
    "https://example.org someone@example.org",
    "a | b || c \\| d \\\\| e",
    "`code` and ``more``",
    "*a* **b** _c_ ~~d~~",
    "&lt;b&gt; &#60; &amp;",
    "line one\nline two\r\n\r\nline three\n\n# heading",
    "\\begin{align}x\\end{align}",
    "[^1] [ref][ref] [text][]",
    "(target)=",
    ":::{note}\nx\n:::",
    "% comment",
    "+++",
    "- - -",
    "term\n: definition",
    "\u202egnp.exe",
    "a\x00b\x1b[31mc\x85d\u2028e\ud800f",
    "Bücher, 日本語, 👩‍👩‍👧, naïve",
]


def rendered(markdown):
    """The document that the book's parser makes of some Markdown."""
    return publish_doctree(
        markdown,
        parser=Parser(),
        settings_overrides={"myst_enable_extensions": EXTENSIONS, "report_level": 5, "output_encoding": "unicode"},
    )


def only_text(node):
    """All letters of a node; it must hold text and nothing else."""
    assert all(isinstance(child, nodes.Text) for child in node.children), node
    return node.astext()


def cells(document):
    """The text of each cell of the only table of a document, row by row; a cell must hold one paragraph of text."""
    [table] = document.children
    return [[only_text(entry[0]) if len(entry) else "" for entry in row.children] for row in table.findall(nodes.row)]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_a_heading_and_the_index_of_a_table_are_text(text):
    frame = pd.DataFrame({text: [text, "1"], "b": ["2", text]}, index=pd.Index([text, "x"], name="name"))
    shown = markup.plain(text)
    assert cells(rendered(markup.table(frame, index=True))) == [
        ["name", shown, "b"],
        [shown, shown, "2"],
        ["x", "1", shown],
    ]


@given(st.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_is_text(text):
    [paragraph] = rendered(f"Read: {markup.escaped(text)}.").children
    assert only_text(paragraph) == " ".join(f"Read: {markup.plain(text)}.".split())
    assert cells(rendered(markup.table(pd.DataFrame({"a": [text]})))) == [["a"], [markup.plain(text)]]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b\x1b[31m\tc\u2028d\n", "a b [31m c d"),
        ("safe\u202egnp.exe", "safe gnp.exe"),
        ("half \ud800 a letter", "half a letter"),
        ("👩‍👩‍👧", "👩‍👩‍👧"),
    ],
)
def test_what_no_reader_sees_is_left_out(text, shown):
    assert markup.plain(text) == shown


def test_a_text_is_cut_to_as_many_letters_as_there_is_room_for():
    assert markup.plain("abcdef", 6) == "abcdef"
    assert markup.plain("abcdefg", 6) == "abcde…"


def test_a_link_leads_to_its_place_and_its_text_is_text():
    link = markup.Link("*a*](x)<b>", 'cells.html?block=conv&size="1"')
    address = "cells.html?block=conv&amp;size=&quot;1&quot;"
    assert markup.table(pd.DataFrame({"cell": [link]})).endswith(
        f'| <a class="isonb-behind" href="{address}">&#42;a&#42;&#93;(x)&#60;b&#62;</a> |'
    )
    assert link == "*a*](x)<b>" and str(link) == "*a*](x)<b>" and link != "b"


def test_links_of_numbers_stand_on_the_right_and_those_of_a_row_to_one_place_are_one_stop():
    row = {"n": markup.Link("1.5", "a.html"), "of": markup.Link("2%", "a.html"), "x": markup.Link("3", "b.html")}
    _, rule, shown = markup.table(pd.DataFrame([row])).splitlines()
    assert [part.endswith(":") for part in rule.strip("|").split("|")] == [True, True, True]
    assert ['tabindex="-1"' in cell for cell in shown.strip("|").split("|")] == [False, True, False]


def test_columns_of_numbers_are_on_the_right_and_floats_as_asked():
    frame = pd.DataFrame({"n": [1, 2], "x": [0.5, 2.0], "share": ["1.5%", "1,000"], "word": ["1 a", "2"]})
    _, rule, first, _ = markup.table(frame, spec=".2f").splitlines()
    assert [cell.strip() for cell in first.strip("|").split("|")] == ["1", "0.50", "1.5%", "1 a"]
    assert [part.endswith(":") for part in rule.strip("|").split("|")] == [True, True, True, False]


def test_every_table_and_every_sentence_with_text_from_results_is_made_here():
    for path in sorted((places.PROJECT / "book").glob("*.md")):
        assert "to_markdown" not in path.read_text(encoding="utf-8"), f"{path.name}: say markup.table(...)"


def test_a_reader_meets_each_block_network_and_encoding_by_one_name():
    frame = pd.DataFrame(
        {"conv": ["transformer-4, rff", 1.5], "encoding": ["encoding=rff", ""]}, index=["mixer", "conv"]
    )
    named = markup.named(frame)
    assert [*named] == ["convolution", "encoding"] and [*named.index] == ["mixer", "convolution"]
    assert named["convolution"].tolist() == ["transformer (4 heads), random Fourier", 1.5]
    assert named["encoding"].tolist() == ["encoding=rff", ""]  # a setting stays as it is typed
