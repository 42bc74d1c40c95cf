"""A sweep: which cells of a study have to run and why, who holds the folder, and what is reported at the end.

`driver` asks here and the Snakefile hands the cells to Snakemake. What has to run is decided by content, never by the
times of files, which a checkout makes anew.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import sys
import time
import tomllib
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import pydantic

from isonb import config, disk, places, records, rows, schema, studies
from isonb.config import Cell, ConfigError, Execution
from isonb.running import outdated, runner
from isonb.running.interruption import STOPPED
from isonb.running.placement import MOST_PER_GPU, PLACEMENTS
from isonb.validation import Frozen, given, in_brief

PLAN_LIMIT = STUDY_LIMIT = 2**24  # bytes; a study of a thousand cells has a hundredth of it
LONGEST = 60 * 24 * 365  # minutes of a time box
INTERRUPTED = "130"  # exit status of a runner that was asked to stop before it could listen
TAIL = 2**16  # bytes at the end of a log in which its last words stand


class SweepError(RuntimeError):
    """A sweep that cannot be started; its message says why and what to do."""


def in_a_sentence(error: Exception) -> str:
    """What keeps a sweep from starting and what to do; for a bug, where it is."""
    if isinstance(error, ConfigError | SweepError | records.RecordError):
        return str(error)
    if isinstance(error, OSError):
        return disk.in_a_sentence(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    cause = f"{type(error).__name__}: {error}; {last.filename}, line {last.lineno}"
    return f"The study cannot be run ({cause}); this is a bug in isonb: please report it."


def _cells_per_gpu(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and 1 <= value <= MOST_PER_GPU):
        return value
    raise ValueError(f"it must be auto or a number from 1 to {MOST_PER_GPU}")


class Settings(Frozen):
    """What the command line, `--config` and its files may say of a sweep; `profile` is the older name of `study`."""

    study: str | None = None
    profile: str | None = None
    only: Literal["missing"] | None = None
    placement: Literal[PLACEMENTS] = "auto"
    threads: int = pydantic.Field(0, ge=0, le=1024)
    execution: Execution = Execution()
    cells_per_gpu: Annotated[Literal["auto"] | int, pydantic.BeforeValidator(_cells_per_gpu)] = "auto"
    minutes: Annotated[float, pydantic.Field(gt=0, le=LONGEST, allow_inf_nan=False)] | None = None
    template: str | None = None
    book: bool = True

    @classmethod
    def read(cls, values: Mapping[Any, Any]) -> Settings:
        """The settings as Snakemake hands them on. Raises `ConfigError` for a name or a value that is not allowed."""
        values = given(values)
        execution = values.pop("execution", {})
        if not isinstance(execution, Mapping):
            raise ConfigError(f"execution={execution!r} is not allowed: write 'execution={{precision: float32}}'.")
        return cls(**values, execution=Execution(**given(execution)))


class Plan(pydantic.BaseModel):
    """What a sweep set out to do: when it began, why each cell of `reasons` has to run, and how many need not.

    `study` is what was asked for, a study or a TOML file; `base` is the study that its cells belong to. `started` is of
    `time.monotonic`, which the processes of a machine share and nobody sets back; `minutes` are those of a time box.
    """

    study: str
    base: str
    started: float
    reasons: dict[str, str]
    reused: int
    minutes: float | None = None

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan that a sweep left in its folder. Raises `ConfigError` where there is none."""
        try:
            return cls.model_validate(disk.read_json(folder / "plan.json", PLAN_LIMIT))
        except ValueError as error:
            raise ConfigError(
                f"{folder} is not the folder of a sweep ({in_brief(str(error))}): choose one in _runs/*/sweep/."
            ) from None

    def write(self, folder: Path) -> None:
        """Leave the plan in the sweep's folder; the folders of earlier sweeps are removed."""
        for earlier in folder.parent.glob("*/plan.json"):
            if earlier.parent != folder:
                shutil.rmtree(earlier.parent)
        disk.write_atomically(folder / "plan.json", self.model_dump_json(indent=1).encode())


def cells(study: str) -> list[Cell]:
    """The cells of a study, or those that a TOML file lists.

    Such a file has `study = "smoke"` and, for each cell, a table `[[cell]]` of settings. Raises `ConfigError`.
    """
    if not study.endswith(".toml"):
        return studies.cells(study)
    try:
        content = tomllib.loads(disk.read_bytes(Path(study), STUDY_LIMIT).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{study} cannot be read ({error}): give the name of a study or of a TOML file.") from None
    tables = content.pop("cell", None)
    is_listed = isinstance(tables, list) and tables and all(isinstance(settings, dict) for settings in tables)
    if set(content) - {"study", "profile"} or not is_listed:
        raise ConfigError(
            f'{study} must hold [[cell]] tables of settings after a line such as study = "smoke", no more.'
        )
    base = config.one_study(content.get("study"), content.get("profile"))
    listed = [config.cell(base, **settings) for settings in tables]
    if len({cell.run.run_id for cell in listed}) < len(listed):
        raise ConfigError(f"{study} lists the same network twice: remove one of the two cells.")
    return listed


def priorities(study: str, listed: Sequence[Cell]) -> dict[str, int]:
    """Which cells begin before which, by run_id: the greater one first.

    The study's order is the one in which its cells are worth having. The smoke study is worth having as a whole: there
    the longest cells, which it lists last, begin first, so that none computes alone in the end.
    """
    ordered = listed if study == "smoke" else reversed(listed)
    return {cell.run.run_id: place for place, cell in enumerate(ordered)}


def reasons(listed: Sequence[Cell], only_missing: bool = False, folder: Path | None = None) -> dict[str, str]:
    """Why each cell that has to run has to, by run_id.

    With `only_missing` a record of these very settings is good enough, whatever numerics and data it was made from.
    Else the data are compared with those in `folder`, or in ISONB_DATA. A damaged record is made again; raises
    `NewerRecordError` for one that a newer version has written.
    """
    whys = {cell.run.run_id: outdated.why(cell, folder, only_missing) for cell in listed}
    return {run_id: why for run_id, why in whys.items() if why}


def require_same_data(study: str, listed: Sequence[Cell], left: Mapping[str, str], folder: Path | None = None) -> None:
    """Refuse to add cells of a whole source, as a download is, to records of a part of it.

    Raises `ConfigError` where no folder is named, cells are `left`, and a record that stays has read a part.
    """
    if folder or os.environ.get("ISONB_DATA"):
        return
    for name in sorted({cell.run.data for cell in listed if cell.run.run_id in left}):
        kept = [cell for cell in listed if cell.run.data == name and cell.run.run_id not in left]
        if any(_has_read_a_part(record) for cell in kept if (record := records.readable(cell))):
            title = rows.SOURCES[name].title
            raise ConfigError(
                f"Records of the study {study} have read a part of {title}, and its other cells would read all of it: "
                "set ISONB_DATA to the folder of that part, or ISONB_RESULTS to another folder for a study of your own."
            )


def _has_read_a_part(record: schema.Record) -> bool:
    if record.cell.run.published is None:
        return False
    train, test = record.cell.run.published
    return record.data.test < test or record.data.validation < round(record.cell.run.validation_fraction * train)


def command(cell: Cell, execution: Mapping[str, object], template: str | None = None) -> str:
    """The shell command that runs a cell, from the notebook `template` if one is named."""
    settings = {name: value for name, value in runner.parameters(cell).items() if name != "study"} | dict(execution)
    words = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    options = ["--study", cell.study, *(["--template", template] if template else [])]
    return shlex.join([sys.executable, "-m", "isonb", "run-cell", *options, *words])


def hold(study: str) -> TextIO:
    """Take the folder of all runs for this process; it is free again when the process ends, however it ends.

    Raises `SweepError` when another sweep is at work in it.
    """
    path = places.runs_folder("sweep.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            file.seek(0)
            holder = file.read().strip() or "it has just begun"
        raise SweepError(
            f"Another sweep is at work in this folder ({holder}): wait until it ends, or stop it with Ctrl-C there."
        ) from None
    file.truncate(0)
    file.write(f"study {study}, process {os.getpid()}, since {time.strftime('%H:%M')}")
    file.flush()
    return file


def again(study: str, minutes: float | None = None) -> str:
    """The command that goes on with a study, in the project's folder, for some minutes where so many are given."""
    if study in config.STUDIES:
        return f"make study STUDY={study}" + (f" MINUTES={minutes:.6g}" if minutes else "")
    python = Path(sys.executable)
    program = os.path.relpath(python, places.PROJECT) if python.is_relative_to(places.PROJECT) else str(python)
    words = [f"study={study}", *([f"minutes={minutes:.6g}"] if minutes else [])]
    return shlex.join([program, "-m", "isonb", "sweep", *words])


def failures(folder: Path) -> dict[str, str]:
    """The cells that a sweep did not finish, with the last words that each left."""
    plan = Plan.read(folder)
    unfinished = [run_id for run_id in plan.reasons if not (folder / f"{run_id}.done").exists()]
    if plan.minutes:  # what a time box has stopped, and what it had no time for, has not failed
        unfinished = sorted({*unfinished}.difference(*left(folder)), key=unfinished.index)
    return {run_id: last_words(folder / f"{run_id}.log", run_id) or _silent(folder, run_id) for run_id in unfinished}


def left(folder: Path) -> tuple[list[str], list[str]]:
    """The cells that a time box has stopped, all steps of which are saved, and those that it has not begun."""
    stopped, waiting = [], []
    for run_id in Plan.read(folder).reasons:
        status = "0" if (folder / f"{run_id}.done").exists() else _status(folder, run_id)
        log = folder / f"{run_id}.log"
        is_waiting = (status == "" and not log.exists()) or status == INTERRUPTED
        if is_waiting or runner.NOT_BEGUN in last_words(log, run_id):
            waiting.append(run_id)
        elif status in ("", str(STOPPED)):
            stopped.append(run_id)
    return stopped, waiting


def _status(folder: Path, run_id: str) -> str:
    """The exit status that the Snakefile keeps of a cell that has not finished; empty where there is none."""
    with contextlib.suppress(OSError):
        return (folder / f"{run_id}.failed").read_text(encoding="utf-8").strip()
    return ""


def _silent(folder: Path, run_id: str) -> str:
    """What is known of a cell whose runner said nothing: the Snakefile keeps its exit status."""
    if _status(folder, run_id) == "137":
        return "It was killed (signal 9), as happens where memory runs short."
    return "It ended without a message, or never began."


def last_words(log: Path, run_id: str) -> str:
    """How a cell ended, in a line: what its runner's log says by the cell's name, else the log's last line."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        last = next((line for line in reversed(lines) if line.startswith(run_id)), (lines or [""])[-1])
        return (
            f"{run_id} {runner.NOT_BEGUN}, as it was asked to stop." if last == "KeyboardInterrupt" else in_brief(last)
        )
    return ""


def write_failures(folder: Path) -> Path | None:
    """`FAILURES.md` beside a study's logs: each cell that failed, its last words and its logs. None where none did."""
    plan, last_lines = Plan.read(folder), failures(folder)
    runs = places.runs_folder(plan.base)
    path = runs / "FAILURES.md"
    path.unlink(missing_ok=True)
    if not last_lines:
        return None
    how = f"In the project's folder, this runs them again:\n\n    {again(plan.study)}\n"
    parts = [f"# {len(last_lines)} of {len(plan.reasons)} cells failed\n\n{how}"]
    for run_id, line in last_lines.items():
        log = runs / "logs" / f"{run_id}.log"
        parts.append(
            f"## {run_id}\n\n    {line}\n\nLogs: `{log}` of the notebook, `{folder / run_id}.log` of its runner.\n"
        )
    disk.write_atomically(path, "\n".join(parts).encode(errors="backslashreplace"))
    return path


def summary(folder: Path) -> str:
    """One line: cells run, reused and failed, those that a time box has left, and the time from the start to now."""
    plan, failed = Plan.read(folder), failures(folder)
    stopped, waiting = left(folder) if plan.minutes else ([], [])
    minutes, seconds = divmod(round(time.monotonic() - plan.started), 60)
    counts = f"{len(plan.reasons) - len(failed) - len(stopped) - len(waiting)} run, {plan.reused} reused"
    counts += f", {len(failed)} failed"
    if plan.minutes:
        counts += f", {len(stopped)} stopped and saved, {len(waiting)} not begun"
    return f"Study {plan.study}: {counts}, in {minutes} min {seconds} s."
