"""What a chapter promises its reader: complete lists, commands that are accepted, and steps that lead somewhere."""

import re
import shlex

import nbformat
import pytest
import yaml
from built_book import book_with_results, page, shared_folder

from isonb import __main__ as command_line
from isonb import config, places
from isonb.evidence import claims
from isonb.pages import departures
from isonb.running import runner

BOOK = places.PROJECT / "book"
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.md"))}
# Pages that are looked up, not studied
REFERENCE = {"index", "notation", "cells", "run", "training_tables", "bibliography"}
REFUSED = {"learning_rte=0.1", "block=conv heads=4"}  # an exercise shows what the program says to these
OWN = "block=depthwise"  # exists where the patch of the chapter "Add your own" has been applied


# Lists


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    return book_with_results(shared_folder(tmp_path_factory))


@pytest.mark.slow
def test_the_claims_chapter_holds_the_whole_ledger(built):
    shown = page(built, "book/claims")
    assert sorted(re.findall(r'id="written-(C\d+)"', shown)) == sorted(claim.id for claim in claims.LEDGER)
    assert f"There are {len(claims.LEDGER)} claims" in shown
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", shown)).replace("&lt;", "<").replace("&#x27;", "'")
    for claim in claims.LEDGER:
        assert all(words in text for words in (claim.statement, claim.statistic, claim.rule, claim.quotation)), claim.id


def test_the_verdict_has_every_claim_once():
    shown = re.findall(r"verdicts\.ledger\(studies, (.*?)\)\)", TEXTS["verdict"])
    assert sorted(re.findall(r"C\d+", " ".join(shown))) == sorted(claim.id for claim in claims.LEDGER)


def test_the_first_page_names_no_claim_by_its_number():
    assert not re.findall(r"\bC\d+\b", TEXTS["index"])


def test_the_departures_name_every_open_point_once():
    with_setting = {point for point in departures.table()["point"] if point.startswith("A")}
    without = re.findall(r"^(A\d+)\n: ", TEXTS["departures"], re.MULTILINE)
    assert sorted([*with_setting, *without]) == sorted(f"A{number}" for number in range(1, 27))


# The shape of a chapter


def chapters():
    parts = yaml.safe_load((places.PROJECT / "_toc.yml").read_text())["parts"]
    names = [entry["file"].removeprefix("book/") for part in parts for entry in part["chapters"]]
    assert set(names) | {"index"} == set(TEXTS)
    return [name for name in names if name not in REFERENCE]


@pytest.mark.parametrize("name", chapters())
def test_a_chapter_begins_with_a_paragraph_and_ends_with_exercises(name):
    body = TEXTS[name].split("\n# ", 1)[1]
    first = body.split("\n\n")[1]
    assert re.match(r"[A-Z][a-z' ,-]", first), first
    assert re.findall(r"^## (.*)", body, re.MULTILINE)[-2:] == ["Summary", "Exercises"]
    exercises = body.split("\n## Exercises\n")[1]
    questions = re.findall(r"^\d\. ", exercises, re.MULTILINE)
    assert 2 <= len(questions) <= 3
    assert exercises.count("{dropdown} Solution") == len(questions)


# Commands


def commands():
    """Every `run-cell` that a page tells its reader to type, with the page's name."""
    found = []
    for name, text in TEXTS.items():
        typed = re.findall(r"```bash\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`]*run-cell[^`]*)`", text)
        lines = "\n".join(typed).replace("\\\n", " ").splitlines()
        found += [(name, shlex.split(line.split("run-cell ")[1])) for line in lines if "-m isonb run-cell " in line]
    return found


def cell_of(words):
    study = words[words.index("--study") + 1] if "--study" in words else "smoke"
    settings = dict(command_line._setting(word) for word in words if "=" in word)
    return config.from_parameters({"study": study, **settings})[0]


@pytest.mark.parametrize(("name", "words"), commands())
def test_a_typed_command_names_a_cell(name, words):
    if " ".join(words) in REFUSED:
        with pytest.raises(config.ConfigError):
            cell_of(words)
    elif OWN not in words:
        assert cell_of(words).run.run_id


@pytest.mark.parametrize("name", chapters())
def test_numbers_of_an_exercise_are_those_of_cells_that_it_runs(name):
    """A solution never waits for a cell that neither the smoke study nor a command or setting of the exercise gives."""
    exercises = TEXTS[name].split("\n## Exercises\n")[1]
    typed = [words for page_of, words in commands() if page_of == name and OWN not in words]
    run = [cell_of(words).run for words in typed if " ".join(words) not in REFUSED]
    for settings in re.findall(r"{num}`smoke:([^:`]*):", exercises):
        pairs = [pair for pair in settings.split(",") if pair]
        wanted = cell_of(pairs).run
        is_of_the_study = set(pairs) <= {f"block={b}" for b in config.BLOCKS} | {
            f"encoding={encoding}" for encoding in config.ENCODINGS
        }
        said = all(pair in exercises.replace("{num}`smoke:" + settings, "") for pair in pairs)
        assert is_of_the_study or wanted in run or said, settings


# A network of one's own in five steps


def test_the_first_pages_steps_name_what_is_there():
    steps = re.findall(r"^\d\. .*(?:\n   .*)*", TEXTS["index"].split("in five steps\n")[1], re.MULTILINE)
    assert len(steps) == 5
    makefile = (places.PROJECT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", "\n".join(steps)):
        assert f"\n{target}:" in makefile
    first = next(cell for cell in nbformat.read(runner.TEMPLATE, as_version=4).cells if cell.cell_type == "code")
    (before,) = re.findall(r'where it says `(block = "\w+")`', steps[2])
    assert f"\n{before} " in first.source
