"""The chapter "Add your own" for real: each patch on a copy of the project, its fast tests, a run, and its places."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isonb import places
from isonb.pages import additions

pytestmark = pytest.mark.slow

BOOK = places.PROJECT / "book"
CHAPTER = (BOOK / "own.md").read_text(encoding="utf-8")
LEFT_OUT = (".git", ".venv", "_build", "_runs", ".snakemake", ".*_cache", ".hypothesis", "__pycache__")
OWN = {"block": "depthwise", "encoding": "octaves", "objective": "logistic"}


@pytest.fixture(params=OWN)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project with all the patches applied one after the other, and the numbers of the new networks written down.

    `golden` computes those of every network there is, and refuses where one that was known has changed.
    """
    folder = patched(tmp_path_factory.mktemp("all") / "copy", *OWN)
    done = in_copy(folder, "-m", "tests.golden")
    assert re.fullmatch(r"New in golden\.json: .+; gone: nothing\.\n", done.stdout), done.stdout + done.stderr
    return folder


def patched(folder, *kinds):
    if not shutil.which("git"):
        pytest.skip("git is not installed, and applies the patch")
    shutil.copytree(places.PROJECT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    ceiling = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    for kind in kinds:
        apply = ["git", "apply", str(BOOK / f"own_{kind}.patch")]
        done = subprocess.run(apply, cwd=folder, env=ceiling, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def in_copy(folder, *arguments, results="results"):
    places = {
        "PYTHONPATH": f"{folder}{os.pathsep}{folder / 'tests'}",
        "ISONB_RESULTS": str(folder.parent / results),
        "ISONB_RUNS": str(folder.parent / "runs"),
    }
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ | places, capture_output=True, text=True, check=False
    )


FAST = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
COMPARED = "tests/test_numerics.py::test_the_program_gives_the_numbers_that_results_were_made_under"  # by `golden`


def test_with_one_patch_alone_the_style_the_import_rules_and_the_tests_of_what_reads_the_rows_pass(kind, tmp_path):
    copy = patched(tmp_path / "copy", kind)
    tools = Path(sys.executable).parent
    for check in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["lint-imports"]):
        command = [tools / check[0], *check[1:]]
        environment = os.environ | {"PYTHONPATH": str(copy)}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    files = [f"tests/test_{name}.py" for name in (OWN[kind], "rows", f"{kind}s", "architecture")]
    done = in_copy(copy, "-m", "pytest", *FAST, *files)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr


def test_the_fast_tests_pass_with_all_three(copy):
    done = in_copy(copy, "-m", "pytest", *FAST, "--deselect", COMPARED, "tests")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr


TRAINED = """
from isonb import config, rows, studies
from isonb.evidence import executed, figures, metrics, tables
from isonb.running import runner

tiny = {"image_size": 8, "width": 8, "data_fraction": 0.05, "epochs": 1, "batch_size": 16, "evaluation_masks": 1,
        "probe_epochs": 1}
kind, name = KIND, NAME
own = getattr(rows, kind.upper() + "S")[name]
declared = [one.name for one in rows.OBJECTIVES.values() if kind != "block" or own.has_causal_form or not one.is_causal]
for objective in declared if kind != "objective" else [name]:
    assert runner.run_cell(tiny | {kind: name, "objective": objective}).status == "run"
if kind == "block":
    try:
        config.RunConfig(block=name, objective="autoregressive")
    except config.ConfigError as refusal:
        assert "has no causal form" in str(refusal)
runs = metrics.runs("smoke")
assert set(runs[kind]) == {name} and set(runs["objective"]) == set(declared if kind != "objective" else [name])
assert len(list(executed.notebooks())) == len(runs)

of_study = studies.cells("cpu" if kind == "objective" else "smoke")
assert any(getattr(cell.run, kind) == name for cell in of_study)
shown = tables.arms("cpu") if kind == "objective" else tables.study("smoke")
assert name in shown.to_string()
if kind != "objective":
    figure = figures.loss_accuracy(runs, "network", "encoding")
    assert own.title.split()[0] in figure.alt, figure.alt
    figure.to_html()
print("added")
"""


def test_it_is_trained_on_what_it_declares_and_stands_in_tables_and_figures(kind, copy):
    code = TRAINED.replace("KIND", repr(kind)).replace("NAME", repr(OWN[kind]))
    done = in_copy(copy, "-c", code, results=f"results-{kind}")
    assert done.stdout.strip().endswith("added"), done.stdout + done.stderr


def test_it_has_its_lines_among_the_cells(kind, copy):
    study = "cpu" if kind == "objective" else "smoke"
    lines = in_copy(copy, "-m", "isonb", "cells", "--study", study).stdout.splitlines()
    assert any(f"{kind}={OWN[kind]}" in line for line in lines)


VERDICTS = """
import os
from made_records import leave_record, made_record
from isonb import records, studies
from isonb.evidence import figures, tables
from isonb.pages import verdicts

os.environ["ISONB_RESULTS"] += "-made"
cells = studies.cells("smoke")
is_own = lambda cell: getattr(cell.run, KIND) == NAME
for cell in cells:
    if not is_own(cell):
        leave_record(made_record(cell))
before = verdicts.read("smoke").rows
assert any(map(is_own, cells))
for cell in filter(is_own, cells):
    leave_record(made_record(cell, 1.5, 0.95))
if KIND == "block":
    assert verdicts.read("smoke").rows == before
rows = tables.study("smoke").query(f"{KIND} == {NAME!r}")
assert set(rows["validation loss"]) == {"1.500"}
for figure in (figures.learning_curves(tables.finished("smoke")), figures.reconstruction_grid(cells)):
    figure.to_html()
print("judged")
"""


def test_a_block_is_drawn_and_the_papers_verdicts_are_the_same_with_it(kind, copy):
    if kind == "objective":
        pytest.skip("the smoke study has one objective")
    code = VERDICTS.replace("KIND", repr(kind)).replace("NAME", repr(OWN[kind]))
    done = in_copy(copy, "-c", code, results=f"results-{kind}")
    assert done.stdout.strip().endswith("judged"), done.stdout + done.stderr


def test_the_chapter_counts_what_git_counts(tmp_path):
    for (what, name), row in zip(additions.PATCHES.items(), additions.costs().to_dict("records"), strict=True):
        stat = subprocess.run(
            ["git", "apply", "--numstat", str(BOOK / f"{name}.patch")], cwd=tmp_path, capture_output=True, text=True,
            check=True, env=os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        )  # fmt: skip
        added = {path: int(count) for count, _, path in (line.split("\t") for line in stat.stdout.splitlines())}
        module, rows, test = sorted(added, key=lambda path: (path.startswith("tests"), path.endswith("rows.py")))
        assert row == {
            "to add": what, "files": 3, "lines of the module": added[module], "of its row": added[rows],
            "of its test": added[test],
        }  # fmt: skip


@pytest.mark.parametrize("name", additions.PATCHES.values())
def test_the_chapter_shows_the_whole_patch(name):
    patch = (BOOK / f"{name}.patch").read_text()
    touched = re.findall(r"^\+\+\+ b/(.*)", patch, re.MULTILINE)
    shown = re.findall(rf"{{literalinclude}} {name}\.patch\n:language: diff\n:start-at: \+\+\+ b/(.*)", CHAPTER)
    assert len(shown) == len(touched) == 3
    assert all(path.startswith(begun) for path, begun in zip(touched, shown, strict=True))
