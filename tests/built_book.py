"""A copy of the book's sources with results of a test's making, built as strictly as the real one."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from filelock import FileLock
from made_records import leave_record, made_record

from isonb import places, schema, studies
from isonb.running import publishing

HOSTILE = "<script>document.title = 7</script> </table> {eval-rst}`x` {{ title }} $\\frac [a](javascript:b) | \n# c"
LOSSES = {"conv": 3.25, "mixer": 3.75, "transformer": 4.5}


def copy_sources(folder: Path) -> Path:
    """The book's pages and the package, without any result."""
    folder.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml", "CITATION.cff"):
        shutil.copy(places.PROJECT / name, folder)
    leave_out = shutil.ignore_patterns("results", "reference", "__pycache__", ".ipynb_checkpoints")
    for name in ("book", "isonb"):
        shutil.copytree(places.PROJECT / name, folder / name, ignore=leave_out)
    (folder / "tests").mkdir()
    shutil.copy(places.PROJECT / "tests" / "test_distributed.py", folder / "tests")  # a chapter shows its tolerances
    return folder


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build strictly, with the folder's own package and results."""
    environment = {name: value for name, value in os.environ.items() if name not in ("ISONB_RESULTS", "ISONB_RUNS")}
    command = [*publishing.BUILDER, "build", ".", "-W", "-n", "--keep-going", *options]
    return subprocess.run(
        command, cwd=folder, env=environment | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False
    )


def page(folder: Path, name: str) -> str:
    """The HTML of a built page."""
    return (folder / "_build" / "html" / f"{name}.html").read_text(encoding="utf-8")


def write_results(folder: Path) -> None:
    """A made record for every smoke cell, the first with an executed notebook, and two files that are damaged."""
    results = folder / "book" / "results"
    previous = os.environ.get("ISONB_RESULTS")
    os.environ["ISONB_RESULTS"] = str(results)
    try:
        for cell, notebook in itertools.zip_longest(studies.cells("smoke"), [_executed_notebook()]):
            leave_record(_hostile(made_record(cell, LOSSES[cell.run.block])), notebook)
    finally:
        os.environ.pop("ISONB_RESULTS") if previous is None else os.environ.update(ISONB_RESULTS=previous)
    for damaged in ("cpu/damaged.json", "benchmarks/steps.json"):
        (results / damaged).parent.mkdir()
        (results / damaged).write_text("null")


def _executed_notebook() -> bytes:
    heading = nbformat.v4.new_markdown_cell("# A cell that ran")
    output = nbformat.v4.new_output("stream", name="stdout", text="said by the executed cell")
    code = nbformat.v4.new_code_cell("print('never executed again')", execution_count=7, outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[heading, code])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.writes(notebook).encode()


def _hostile(record: schema.Record) -> schema.Record:
    """The record with text that would do harm if a page obeyed it."""
    data = record.data.model_copy(update={"name": HOSTILE, "remarks": [HOSTILE]})
    environment = record.environment.model_copy(update={"platform": HOSTILE, "git_revision": HOSTILE})
    probe = record.probe.model_copy(update={"protocol": HOSTILE})
    return record.model_copy(update={"data": data, "environment": environment, "probe": probe})


def book_with_results(shared: Path) -> Path:
    """The book built once from made results, however many test processes ask for it."""
    folder = shared / "book-with-results"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            copy_sources(folder)
            write_results(folder)
            built = build(folder, "--all")
            (folder / "build.log").write_text(f"exit {built.returncode}\n{built.stdout}\n{built.stderr}")
    return folder


def published_book(shared: Path) -> Path:
    """The pages of the project's own book, built from its own results as `make book` does, unless they are there."""
    environment = {name: value for name, value in os.environ.items() if name not in ("ISONB_RESULTS", "ISONB_RUNS")}
    code = "from isonb.running import publishing as p; raise SystemExit(0 if p.is_built() else p.build_book())"
    with FileLock(shared / "published.lock"):
        built = subprocess.run(
            [sys.executable, "-c", code],
            cwd=places.PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert built.returncode == 0, built.stdout + built.stderr
    return places.PROJECT / "_build" / "html"


def shared_folder(tmp_path_factory) -> Path:
    """A folder that all processes of one pytest-xdist run see."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
