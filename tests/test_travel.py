"""What leaves this machine: workflows, a page's foot and preview, chapters as notebooks, and the book on paper."""

import re
import shutil
import subprocess

import nbformat
import pytest
import yaml
from docutils import nodes

from isonb import places
from isonb.pages import handouts, imprint, paper
from isonb.validation import ConfigError

WORKFLOWS = sorted((places.PROJECT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
CHAPTERS = sorted((places.PROJECT / "book").glob("*.md"))


def jobs(workflow):
    return yaml.safe_load(workflow.read_text())["jobs"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_pins_what_it_uses(workflow):
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}
    uses = re.findall(r"uses: (.*)", workflow.read_text())
    assert uses and [one for one in uses if not PINNED.fullmatch(one)] == []


def test_a_job_that_may_write_runs_no_code_of_the_project():
    writing = [job for path in WORKFLOWS for job in jobs(path).values() if "permissions" in job]
    assert len(writing) == 2
    assert not any("run" in step for job in writing for step in job["steps"])


def test_every_step_is_a_verb_of_make():
    verbs = set(re.findall(r"^([a-z]+):.* ## ", (places.PROJECT / "Makefile").read_text(), re.MULTILINE))
    for path in WORKFLOWS:
        for job in jobs(path).values():
            for command in (step["run"] for step in job["steps"] if "run" in step):
                words = command.replace("${{ matrix.verb }}", "study").split()
                assert words[0] == "make" and words[1] in verbs and "\n" not in command
            assert set(job.get("strategy", {}).get("matrix", {}).get("verb", [])) <= verbs


@pytest.mark.skipif(not shutil.which("actionlint"), reason="actionlint is not installed")
def test_actionlint_has_nothing_to_say():
    result = subprocess.run(["actionlint", *WORKFLOWS], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_foot_names_authors_licences_origin_day_and_how_to_cite():
    work = {"title": "T & U", "year": 2026, "version": "1.2", "authors": [{"name": "us"}]}
    people = [{"given-names": "Ann", "family-names": "Lee"}, {"given-names": "Bo", "family-names": "Oz"}]
    paper_ = {"title": "P", "year": 2021, "authors": people, "url": "https://example.org/p", "doi": "10/x"}
    citation = {"authors": [{"name": "us"}], "preferred-citation": work, "references": [paper_]}
    assert imprint.foot(citation, "commit <1>", "2026-01-02") == (
        "<p>By us. Code: MIT; text, figures and results: CC BY 4.0. Built on 2026-01-02 from commit &lt;1&gt;.</p>"
        "<p>To cite: us (2026). T &amp; U, version 1.2. Please cite the paper, too: Ann Lee and Bo Oz (2021). P. "
        '<a href="https://example.org/p">doi:10/x</a></p>'
    )


def test_a_folder_without_git_is_named_by_its_version(tmp_path, monkeypatch):
    monkeypatch.setattr(imprint, "__version__", "9.8.7")
    monkeypatch.setattr(places, "PROJECT", tmp_path)
    assert imprint.origin() == "version 9.8.7"


def test_the_day_of_a_build_can_be_set(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert imprint.day() == "1970-01-02"


def test_a_description_is_the_first_paragraph_of_the_text_cut_after_a_word():
    document, section = nodes.document("", ""), nodes.section()
    document += [nodes.paragraph(text="outside"), section]
    section += nodes.paragraph(text="word " * 50)
    assert imprint.description(document) == "word " * 38 + "word…"


def test_a_preview_has_a_picture_only_where_the_address_is_known(tmp_path):
    tags = imprint.metatags('a "title"', "text", "site")
    assert '<meta property="og:title" content="a &quot;title&quot;" />' in tags
    assert "og:image" not in tags and "og:url" not in tags
    assert 'property="og:image" content="https://b/card.png"' in imprint.metatags(
        "t", "x", "s", "u", "https://b/card.png"
    )
    imprint.draw_card(tmp_path / "card.png", "A book")
    width, height = (int.from_bytes((tmp_path / "card.png").read_bytes()[at : at + 4]) for at in (16, 20))
    assert (width, height) == (1200, 630)


def chapter(path):
    return handouts.Chapter(path, places.PROJECT / "book", {"book/run": "Run it yourself"}.get)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_chapter_keeps_a_role_or_directive_of_the_books(path):
    text = "\n".join(re.split(r"^```\{code-cell\}.*?^```$", path.read_text(), flags=re.DOTALL | re.MULTILINE))
    plain = chapter(path).plain(text)
    assert re.findall(r"\{[\w:-]+\}`|^ *(?:`{3,}|:{3,})\{|\]\([\w/]+\.md", plain, re.MULTILINE) == []


def test_what_a_chapter_refers_to_stands_in_its_notebook(tmp_path):
    book = tmp_path / "book"
    book.mkdir()
    (book / "references.bib").write_text("@article{a, author = {Oz, Bo and Lee, Ann}, title = {T}, year = {2020}}")
    (book / "code.py").write_text("def one():\n    return 1\n\n\ndef two():\n    return 2\n")
    text = (
        "(target)=\n```{index} ! sight\n```\nSee {cite:t}`a` and {cite}`a`, [](run.md) and [there](run.md#x).\n\n"
        "```{literalinclude} code.py\n:pyobject: two\n```\n\n"
        "   ````{dropdown} Solution\n   ```bash\n   make\n   ```\n   Of {cite:p}`a`.\n   ````\nEnd"
    )
    plain = handouts.Chapter(book / "one.md", book, {"book/run": "Run"}.get).plain(text)
    assert plain == (
        "See Oz and Lee (2020) and (Oz and Lee, 2020), *Run* and there.\n\n"
        "```python\ndef two():\n    return 2\n```\n\n\n"
        "   > **Solution**\n   >\n   > ```bash\n   > make\n   > ```\n   > Of (Oz and Lee, 2020).\n\nEnd"
    )


def test_a_notebook_fetches_the_project_only_where_its_address_is_known():
    executed = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    of = chapter(CHAPTERS[0])
    assert [cell.source for cell in of.notebook(executed).cells] == ["1 + 1"]
    first, second = of.notebook(executed, "https://example.org/r", "trunk").cells
    assert "!git clone --quiet --depth 1 --branch trunk https://example.org/r isonb-study" in first.source
    assert second.source == "1 + 1"


def test_pages_become_one_whose_links_lead_to_places_in_it(tmp_path):
    (tmp_path / "book").mkdir()
    page = (
        '<html><head><link href="../_static/a.css"></head><body><nav>menu</nav><article class="bd-article">'
        '<h1 id="top">{0}</h1><a href="{1}.html#top">there</a><a href="#top">here</a><a href="https://e.org/">out</a>'
        '<img src="../_images/i.png" loading="lazy"><img class="only-dark" src="d.png"></article></body></html>'
    )
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / "book" / f"{name}.html").write_text(page.format(name, other))
    whole = paper.one_page(tmp_path, ["book/one", "book/two"])
    assert re.findall('id="(.*?)"', whole) == ["book/one", "book/one#top", "book/two", "book/two#top"]
    assert re.findall('href="(.*?)"', whole) == [
        *["_static/a.css", "#book/two#top", "#book/one#top", "https://e.org/"],
        *["#book/one#top", "#book/two#top", "https://e.org/"],
    ]
    assert re.findall('src="(.*?)"', whole) == ["_images/i.png"] * 2
    assert "menu" not in whole and "lazy" not in whole


def test_the_chapters_of_the_pdf_are_those_of_the_table_of_contents():
    contents = {"root": "a", "chapters": [{"file": "b"}], "parts": [{"caption": "x", "chapters": [{"file": "c"}]}]}
    assert paper.pages(contents) == ["a", "b", "c"]


def test_page_one_leads_to_the_pdf_once_it_is_printed():
    toc, sections = "<h2>Contents</h2>", "<section><h2>A</h2></section><section><h2>B</h2></section>"
    page = f"{toc}<article><section><h1>T</h1><p>text</p>{sections}</section></article>"
    once = paper.offer(page, "../isonb.pdf", 3_400_000)
    assert once == page.replace(
        "</p><section>",
        '</p><p class="isonb-pdf"><a href="../isonb.pdf">The whole book as a PDF</a> (3 MB)</p><section>',
    )
    assert paper.offer(once, "../isonb.pdf", 3_400_000) == once  # printed again, it is offered once


def test_without_chromium_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="install the package chromium"):
        paper.browser()


@pytest.mark.parametrize("user, option", [("0", " --allow-root"), ("1000", "")])
def test_lab_takes_options_and_works_as_root(user, option, tmp_path):
    (tmp_path / "id").write_text(f"#!/bin/sh\necho {user}\n")
    (tmp_path / "id").chmod(0o755)
    command = ["make", "-n", "-o", ".venv/ready", "lab", "LAB=--no-browser"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    told = subprocess.run(command, cwd=places.PROJECT, env=environment, capture_output=True, text=True, check=True)
    assert f".venv/bin/jupyter lab{option} --no-browser _runs/mine.ipynb" in re.sub(" +", " ", told.stdout)
