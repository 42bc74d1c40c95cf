"""One papermill execution of one experiment cell, told success from failure.

papermill calls a notebook complete although its kernel died or a cell left by `sys.exit(0)`, so success is judged by
what must be there afterwards: every code cell has run without an error, and the record of this very cell exists.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal

import filelock
import nbformat
import papermill
import traitlets.config

from isonb import config, interruption, records
from isonb.config import Cell, Execution

TEMPLATE = records.PROJECT / "notebooks" / "cell.ipynb"
START = 300  # seconds that a kernel may take to start on a busy machine


class CellError(RuntimeError):
    """A cell that did not finish; its message is one sentence with the last line of the traceback."""


class Stopped(CellError):
    """A cell that was asked to end before it had finished; the same command goes on from its last checkpoint."""


@dataclass(frozen=True)
class Outcome:
    """How one cell ended, `run` or `reused` (it had been run before), and in how many seconds."""

    run_id: str
    status: Literal["run", "reused"]
    seconds: float


def parameters(cell: Cell, execution: Execution | None = None) -> dict[str, Any]:
    """The notebook parameters that give this cell: its profile, what names it, and what departs from the profile."""
    default = config.profile(cell.profile, block=cell.run.block)
    named = {"block", "encoding", "depth", "seed"}
    run = _departures(cell.run, default.run, named)
    probe = {config.PROBE_PREFIX + name: value for name, value in _departures(cell.probe, default.probe).items()}
    return {"profile": cell.profile, **run, **probe, **_departures(execution or Execution(), Execution())}


def _departures(chosen: config.Frozen, default: config.Frozen, named: set[str] = frozenset()) -> dict[str, Any]:
    values = chosen.model_dump()
    return {name: value for name, value in values.items() if name in named or value != getattr(default, name)}


def notebook_path(cell: Cell) -> Path:
    """Where the executed notebook of a finished cell lies: beside its record."""
    return records.results_folder(cell.profile) / f"{cell.run.run_id}.ipynb"


def run_cell(
    settings: Mapping[str, Any], template: Path = TEMPLATE, timeout: float | None = None, progress: bool = False
) -> Outcome:
    """Execute one cell, unless its executed notebook is there and its record is not outdated.

    `settings` are the notebook's parameters; `timeout` is in seconds for each notebook cell; `progress` draws a bar.
    What the notebook prints goes to `_runs/<profile>/logs/<run_id>.log`; a notebook that fails is kept, traceback
    included, as `_runs/<profile>/failed/<run_id>.ipynb`, and no part of it reaches the results.
    A second execution of the same cell waits for the end of the first. SIGINT, SIGTERM and the end of the process that
    ISONB_DRIVER names stop it after the training step at hand.
    Raises `ConfigError` for settings that cannot be run, `RecordError` for a damaged record in the cell's place,
    `CellError` when the execution fails, and `Stopped` when it was asked to end.
    """
    start = time.monotonic()
    cell, execution = config.from_parameters(settings)
    run_id = cell.run.run_id
    if _is_there(cell, execution):
        return Outcome(run_id, "reused", time.monotonic() - start)
    lock = records.runs_folder(cell.profile) / "running" / f"{run_id}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with interruption.heeded() as asked_to_stop:
        try:
            with filelock.FileLock(lock).acquire(cancel_check=asked_to_stop.is_set):
                if _is_there(cell, execution):  # another execution has finished it meanwhile
                    return Outcome(run_id, "reused", time.monotonic() - start)
                _run_alone(cell, execution, template, timeout, progress, asked_to_stop)
        except filelock.Timeout:
            raise Stopped(f"{run_id} was stopped while another execution of it was at work.") from None
    return Outcome(run_id, "run", time.monotonic() - start)


def _run_alone(
    cell: Cell, execution: Execution, template: Path, timeout: float | None, progress: bool, asked_to_stop: Event
) -> None:
    """Execute the cell and put its notebook among the results. Raises `CellError` and `Stopped`."""
    runs, run_id, output = records.runs_folder(cell.profile), cell.run.run_id, notebook_path(cell)
    names = {"running": "ipynb", "logs": "log", "failed": "ipynb"}
    running, log, failed = (runs / folder / f"{run_id}.{suffix}" for folder, suffix in names.items())
    for path in (running, log, failed):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    fault = ""
    if not asked_to_stop.is_set():
        fault = _execute(template, running, parameters(cell, execution), log, timeout, progress)
    if asked_to_stop.is_set():
        running.unlink(missing_ok=True)
        raise Stopped(f"{run_id} was stopped: the same command goes on from its last checkpoint.")
    if not fault and records.why_outdated(cell, execution.data_path):
        fault = f"the notebook left no record of this cell in {output.parent}"
    if fault:
        if running.exists():
            running.replace(failed)
        raise CellError(f"{run_id} failed: {fault.rstrip('.')}. See {failed if failed.exists() else log}.")
    notebook = nbformat.read(running, as_version=4)
    _forget_the_moment(notebook)
    records.write_atomically(output, nbformat.writes(notebook).encode())
    running.unlink()


def _is_there(cell: Cell, execution: Execution) -> bool:
    return notebook_path(cell).exists() and not records.why_outdated(cell, execution.data_path)


def _execute(
    template: Path, output: Path, values: Mapping[str, Any], log: Path, timeout: float | None, progress: bool
) -> str:
    """Execute a template into `output`; returns what went wrong in a few words, or nothing."""
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of parameters that it does not recognise as such
    with tempfile.TemporaryDirectory(prefix="isonb-") as sockets, log.open("w") as stream:
        # Sockets in a short-lived folder: kernels that start at the same moment can collide on network ports.
        transport = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
        try:
            papermill.execute_notebook(
                template,
                output,
                dict(values),
                kernel_name="python3",
                progress_bar=progress,
                stdout_file=stream,
                stderr_file=stream,
                start_timeout=START,
                execution_timeout=timeout,
                coalesce_streams=True,  # of a progress bar the last state stays
                config=traitlets.config.Config(KernelManager=transport),
            )
        except papermill.PapermillExecutionError as error:
            return f"{error.ename}: {error.evalue}" if error.evalue else error.ename
        except Exception as error:  # a dead kernel, a timeout, a template that cannot be read: each has its own class
            return f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
    return _unfinished(nbformat.read(output, as_version=4))


def _unfinished(notebook: nbformat.NotebookNode) -> str:
    """What shows that an execution did not reach its end, in a few words, or nothing."""
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if errors:
            return f"cell {number} left by {errors[0].ename}: {errors[0].evalue}"
        if cell.execution_count is None:
            return f"cell {number} was not executed"
    return ""


def _forget_the_moment(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs from one execution to the next although nothing of interest does: times, paths, random ids."""
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
