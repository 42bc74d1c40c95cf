"""One execution of one experiment cell: a success where its notebook has reached its end and its record exists.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal

import filelock

from isonb import config, disk, numerics, places, records
from isonb.config import Cell, Execution
from isonb.running import box, interruption, outdated, placement, remaining

TEMPLATE = places.TEMPLATE
NOT_BEGUN = "was not begun"
CHANGED = "the code has changed while it ran: run it again"


class CellError(RuntimeError):
    """A cell that did not finish; its message is one sentence with the last line of the traceback."""


class Stopped(CellError):
    """A cell that was asked to end before it had finished; the same command goes on from its last checkpoint."""


@dataclass(frozen=True)
class Outcome:
    """How one cell ended, `run` or `reused` (it had been run before), after how many seconds, and remarks on images."""

    run_id: str
    status: Literal["run", "reused"]
    seconds: float
    remarks: tuple[str, ...] = ()
    reason: str = ""


def parameters(cell: Cell, execution: Execution | None = None) -> dict[str, Any]:
    """The notebook parameters that give this cell: its study, what names it, and what departs from the study."""
    default = config.cell(cell.study, block=cell.run.block)
    named = ("block", "encoding", "depth", "seed")
    settings = {
        prefix + name: value
        for part, prefix in config.PREFIXES.items()
        for name, value in _departures(getattr(cell, part), getattr(default, part), named * (part == "run")).items()
    }
    return {"study": cell.study, **settings, **_departures(execution or Execution(), Execution())}


def _departures(chosen: config.Frozen, default: config.Frozen, named: Sequence[str] = ()) -> dict[str, Any]:
    values = chosen.model_dump()
    return {name: value for name, value in values.items() if name in named or value != getattr(default, name)}


def run_cell(
    settings: Mapping[str, Any], template: Path = TEMPLATE, timeout: float | None = None, progress: bool = False
) -> Outcome:
    """Execute one cell, unless its executed notebook is there and its record is not outdated.

    `settings` are the notebook's parameters; `timeout` is in seconds for each notebook cell; `progress` draws a bar.
    What the notebook prints goes to `_runs/<study>/logs/<run_id>.log`; a notebook that fails is kept, traceback
    included, as `_runs/<study>/failed/<run_id>.ipynb`, and no part of it reaches the results.
    A second execution of the same cell waits for the end of the first. SIGINT, SIGTERM and the end of the process that
    ISONB_DRIVER names stop it after the training step at hand.
    A damaged record in the cell's place is replaced. Raises `ConfigError` for settings and templates that cannot be run
    and folders that cannot be written, `NewerRecordError` where a newer version has left a record, `CellError` when the
    execution fails, and `Stopped` when it was asked to end, or where a time box leaves too little for anything worth
    keeping.
    """
    start = time.monotonic()
    cell, execution = config.from_parameters(settings)
    require_template(template)
    run_id = cell.run.run_id
    if not (reason := outdated.why(cell, execution.data_path)):
        return _outcome(cell, "reused", start)
    placement.require_device(execution)
    if (left := box.left()) is not None and (why := remaining.why_not(cell, left)):
        raise Stopped(f"{run_id} {NOT_BEGUN}: {why} of the time box.")
    lock = places.runs_folder(cell.study) / "running" / f"{run_id}.lock"
    disk.require_writable(lock.parent, places.results_folder(cell.study))
    with interruption.heeded() as asked_to_stop:
        try:
            with filelock.FileLock(lock).acquire(cancel_check=asked_to_stop.is_set):
                if not outdated.why(cell, execution.data_path):  # another execution has finished it meanwhile
                    return _outcome(cell, "reused", start)
                _run_alone(cell, execution, template, timeout, progress, asked_to_stop)
        except filelock.Timeout:
            raise Stopped(f"{run_id} was stopped while it waited for another run of it: start it again.") from None
    return _outcome(cell, "run", start, reason)


def require_template(template: Path) -> None:
    """Raise `ConfigError` where a template is no notebook that can be read."""
    try:
        notebook = json.loads(disk.read_bytes(template, records.LARGEST[".ipynb"]))
        cause = "" if isinstance(notebook, dict) and "cells" in notebook else "it is no notebook"
    except (ValueError, RecursionError) as error:
        cause = str(error) if isinstance(error, disk.Unreadable) else "it is no notebook"
    if cause:
        raise config.ConfigError(
            f"{template} cannot be run as a template ({cause}): name a notebook, as notebooks/cell.ipynb."
        )


def _outcome(cell: Cell, status: Literal["run", "reused"], start: float, reason: str = "") -> Outcome:
    record = records.readable(cell)
    remarks = tuple(remark for _, data in record.read() for remark in data.remarks) if record else ()
    return Outcome(cell.run.run_id, status, time.monotonic() - start, remarks, reason)


def _run_alone(
    cell: Cell, execution: Execution, template: Path, timeout: float | None, progress: bool, asked_to_stop: Event
) -> None:
    """Execute the cell and put record, arrays and notebook among the results. Raises `CellError` and `Stopped`."""
    from isonb.running import notebook  # here, as papermill takes a second to import

    runs, run_id = places.runs_folder(cell.study), cell.run.run_id
    names = {"running": "ipynb", "logs": "log", "failed": "ipynb"}
    running, log, failed = (runs / folder / f"{run_id}.{suffix}" for folder, suffix in names.items())
    for path in (running, log, failed):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    fault, clock = "it was asked to stop", remaining.Clock(cell)
    with _stage(runs / "staged" / run_id) as stage:
        if not asked_to_stop.is_set():
            fault = notebook.execute(template, running, parameters(cell, execution), log, timeout, progress)
        if fault and asked_to_stop.is_set():  # what has reached its end all the same is kept
            clock.note(is_finished=False)
            running.unlink(missing_ok=True)
            raise Stopped(f"{run_id} was stopped: run the same command again to continue from its last checkpoint.")
        if not fault:
            fault = _keep(cell, execution, stage / f"{run_id}.json", notebook.cleaned(running))
    if fault:
        if running.exists():
            running.replace(failed)
        raise CellError(f"{run_id} failed: {fault.rstrip('.')}. See {failed if failed.exists() else log}.")
    clock.note(is_finished=True)
    running.unlink()


@contextlib.contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """An empty folder in which a kernel leaves its record until its notebook has reached its end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[records.STAGE] = str(folder)
    try:
        yield folder
    finally:
        del os.environ[records.STAGE]
        shutil.rmtree(folder, ignore_errors=True)


def _keep(cell: Cell, execution: Execution, staged: Path, notebook: bytes) -> str:
    """Put what a kernel has left among the results; returns why it is no result of this cell, or nothing."""
    try:
        record, arrays = records.read(staged)
    except records.NewerRecordError:
        return CHANGED
    except records.RecordError as error:
        return str(error) if staged.exists() else "the notebook left no record of this cell"
    if record.cell != cell.with_extras(record.cell):
        return "the notebook left the record of another cell"
    if numerics.since(record.numerics):
        return CHANGED
    if reason := outdated.of_record(record, execution.data_path):
        return f"{reason} while it ran"
    records.write_record(record, arrays, notebook)
    return ""
