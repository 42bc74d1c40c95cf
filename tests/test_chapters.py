"""What a chapter promises its reader: complete lists, commands that are accepted, and a block that can be added."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import nbformat
import pytest
import torch
import yaml
from built_book import book_with_results, copy_sources, page, shared_folder
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from isonb import __main__ as command_line
from isonb import config, records
from isonb.evidence import claims
from isonb.models import blocks
from isonb.pages import departures
from isonb.running import runner

BOOK = records.PROJECT / "book"
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.md"))}
REFERENCE = {"index", "notation", "cells", "run", "bibliography"}  # pages that are looked up, not studied
REFUSED = {"learning_rte=0.1", "block=conv heads=4"}  # an exercise shows what the program says to these
OWN = "block=depthwise"  # exists where the chapter's patch has been applied


# Lists


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    return book_with_results(shared_folder(tmp_path_factory))


def test_the_claims_chapter_holds_the_whole_ledger(built):
    shown = page(built, "book/claims")
    assert re.findall(r'id="written-(C\d+)"', shown) == [claim.id for claim in claims.LEDGER]
    assert f"There are {len(claims.LEDGER)} claims" in shown
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", shown)).replace("&lt;", "<").replace("&#x27;", "'")
    for claim in claims.LEDGER:
        assert all(words in text for words in (claim.statement, claim.statistic, claim.rule, claim.quotation)), claim.id


def test_the_departures_name_every_open_point_once():
    with_setting = {point for point in departures.table()["point"] if point.startswith("A")}
    without = re.findall(r"^(A\d+)\n: ", TEXTS["departures"], re.MULTILINE)
    assert sorted([*with_setting, *without]) == sorted(f"A{number}" for number in range(1, 27))


# The shape of a chapter


def chapters():
    parts = yaml.safe_load((records.PROJECT / "_toc.yml").read_text())["parts"]
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
    profile = words[words.index("--profile") + 1] if "--profile" in words else "smoke"
    settings = dict(command_line._setting(word) for word in words if "=" in word)
    return config.from_parameters({"profile": profile, **settings})[0]


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
    makefile = (records.PROJECT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", "\n".join(steps)):
        assert f"\n{target}:" in makefile
    first = next(cell for cell in nbformat.read(runner.TEMPLATE, as_version=4).cells if cell.cell_type == "code")
    (before,) = re.findall(r'where it says `(block = "\w+")`', steps[2])
    assert f"\n{before} " in first.source


# A block of one's own


@pytest.mark.parametrize("name", config.BLOCKS)
def test_every_block_has_a_count_of_its_own(name):
    run = config.RunConfig(block=name, width=8, image_size=8)
    with torch.device("meta"):
        block, x_BND = blocks.build_block(run), torch.empty(1, 64, 8)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        block(x_BND)
    assert counter.get_total_flops() == 2 * blocks.multiply_accumulates(run)  # two operations each


ADDED = """
import os
from made_records import made_arrays, made_record
from isonb import config, records, studies
from isonb.running import runner
from isonb.evidence import figures, metrics, tables
from isonb.pages import verdicts

tiny = {"block": "depthwise", "image_size": 8, "width": 8, "data_fraction": 0.05, "epochs": 1, "batch_size": 16,
        "evaluation_masks": 1, "probe_epochs": 1}
assert runner.run_cell(tiny).status == "run"
record = records.finished(config.smoke(**tiny))
assert record.counts.multiply_accumulates_per_block == 9 * 64 * 8 + 2 * 64 * 8 * 8
assert record.run_id in tables.executed_cells().to_string()

os.environ["ISONB_RESULTS"] += "-made"
cells = studies.cells("smoke")
is_own = lambda cell: cell.run.block == "depthwise"
assert sum(map(is_own, cells)) == len(config.ENCODINGS)
for cell in cells:
    if not is_own(cell):
        records.write_record(made_record(cell), made_arrays())
before = verdicts.read("smoke").rows
for cell in filter(is_own, cells):
    records.write_record(made_record(cell, 1.5, 0.95), made_arrays())
assert verdicts.read("smoke").rows == before

rows = tables.study("smoke").query("block == 'depthwise'")
assert rows["validation loss"].tolist() == ["1.500"] * len(config.ENCODINGS)
runs = metrics.runs("smoke")
drawn = [
    figures.loss_accuracy(runs, "network", "encoding"),
    figures.learning_curves(tables.finished("smoke")),
    figures.reconstruction_grid(cells),
]
for figure in drawn:
    labels = [label.get_text() for ax in figure.axes for label in (ax.title, ax.yaxis.label)]
    assert "depthwise" in figure.alt + " ".join(labels), figure.alt
    figure.to_html()
print("added")
"""


@pytest.fixture(scope="module")
def with_own_block(tmp_path_factory):
    """A copy of the program to which the chapter's patch has been applied."""
    if not shutil.which("git"):
        pytest.skip("git is not installed, and applies the patch")
    folder = copy_sources(tmp_path_factory.mktemp("own") / "sources")
    for name in ("notebooks", "tests"):
        leave_out = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "benchmarks")
        shutil.copytree(records.PROJECT / name, folder / name, ignore=leave_out, dirs_exist_ok=True)
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(records.PROJECT / name, folder)
    apply = ["git", "apply", "--verbose", str(BOOK / "own_block.patch")]
    ceiling = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    applied = subprocess.run(apply, cwd=folder, env=ceiling, capture_output=True, text=True, check=False)
    assert applied.returncode == 0, applied.stderr
    return folder


def in_copy(folder, *arguments):
    places = {
        "PYTHONPATH": f"{folder}{os.pathsep}{folder / 'tests'}",
        "ISONB_RESULTS": str(folder.parent / "results"),
        "ISONB_RUNS": str(folder.parent / "runs"),
    }
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ | places, capture_output=True, text=True, check=False
    )


def test_the_chapters_block_runs_and_stands_in_every_table(with_own_block):
    done = in_copy(with_own_block, "-c", ADDED)
    assert done.stdout.strip().endswith("added"), done.stdout + done.stderr


def test_the_chapters_block_passes_its_own_tests(with_own_block):
    only = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests/test_blocks.py", "-k", "depthwise or exact_cost"]
    done = in_copy(with_own_block, "-m", "pytest", *only)
    assert done.returncode == 0, done.stdout + done.stderr
    (passed,) = re.findall(r"\b(\d+) passed", done.stdout)
    assert int(passed) >= 3, done.stdout  # its cost, after those of the other blocks, its activations and its bias


def test_the_chapter_shows_the_whole_patch():
    patch = (BOOK / "own_block.patch").read_text()
    touched = re.findall(r"^--- a/(.*)", patch, re.MULTILINE)
    assert re.findall(r":start-at: --- a/(.*)", TEXTS["own_block"]) == touched
    next_ones = re.findall(r":end-before: diff --git a/(.*)", TEXTS["own_block"])
    assert all(after.startswith(begun) for after, begun in zip(touched[1:], next_ones, strict=True))
