"""A sweep: which cells of a study have to run and why, who holds the folder, and what is said of it at the end.

The Snakefile asks here and hands the cells to Snakemake. What has to run is decided by content, never by the times of
files, which a checkout makes anew.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import pydantic

from isonb import config, disk, fingerprints, records, studies
from isonb.config import Cell, ConfigError
from isonb.running import runner
from isonb.validation import unknown_name

PAGE = records.PROJECT / "_build" / "html" / "index.html"
CONTENTS = records.PROJECT / "_build" / "contents.sha256"  # of what the book was built from
NOISE = "Kernel is running over TCP without encryption"  # warns every kernel; its sockets stay on this machine
READ_BY_THE_BOOK = ("_config.yml", "_toc.yml", "CHANGELOG.md", "CITATION.cff", "book", "isonb", "notebooks")


# What `snakemake --config` may be given, with the allowed values where these are few.
SETTINGS = {
    "study": (),
    "only": ("missing",),
    "placement": (),
    "threads": (),
    "execution": (),
    "template": (),
    "book": ("yes", "no"),
}


class SweepError(RuntimeError):
    """A sweep that cannot be started; its message says why and what to do."""


def in_a_sentence(error: Exception) -> str:
    """What keeps a sweep from starting and what to do; of a fault of the program, where it lies."""
    if isinstance(error, ConfigError | SweepError):
        return str(error)
    if isinstance(error, OSError):
        return disk.in_a_sentence(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    fault = f"{type(error).__name__}: {error}; {last.filename}, line {last.lineno}"
    return f"The study cannot be run ({fault}): this is a fault of the program, so tell its authors."


class Plan(pydantic.BaseModel):
    """What a sweep set out to do: when it began, why each cell of `reasons` has to run, and how many need not."""

    study: str
    profile: str
    started: float
    reasons: dict[str, str]
    reused: int

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan that a sweep left in its folder. Raises `ConfigError` where there is none."""
        try:
            return cls(**json.loads((folder / "plan.json").read_text()))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{folder} is not the folder of a sweep ({error}): name one of _runs/*/sweep.") from None

    def write(self, folder: Path) -> None:
        """Leave the plan in the sweep's folder; the folders of earlier sweeps are removed."""
        for earlier in folder.parent.glob("*/plan.json"):
            if earlier.parent != folder:
                shutil.rmtree(earlier.parent)
        disk.write_atomically(folder / "plan.json", self.model_dump_json(indent=1).encode())


def cells(study: str) -> list[Cell]:
    """The cells of a study: a profile's own, or those that a TOML file lists.

    Such a file has `profile = "smoke"` and, for each cell, a table `[[cell]]` of settings. Raises `ConfigError`.
    """
    if not study.endswith(".toml"):
        return studies.cells(study)
    try:
        content = tomllib.loads(Path(study).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"The study {study} cannot be read ({error}): name a profile or a TOML file.") from None
    listed = content.get("cell")
    is_listed = isinstance(listed, list) and listed and all(isinstance(settings, dict) for settings in listed)
    if set(content) - {"profile", "cell"} or not is_listed:
        raise ConfigError(f"The study {study} must hold a profile and tables [[cell]] of settings, nothing else.")
    found = [config.profile(content.get("profile", "smoke"), **settings) for settings in listed]
    if len({cell.run.run_id for cell in found}) < len(found):
        raise ConfigError(f"The study {study} lists a network twice: leave one of them out.")
    return found


def check_settings(given: Mapping[str, object]) -> None:
    """Refuse what `snakemake --config` was given if the Snakefile knows no such name or value. Raises `ConfigError`."""
    if unknown := set(given) - set(SETTINGS):
        raise ConfigError(unknown_name(min(unknown), SETTINGS))
    for name, allowed in SETTINGS.items():
        if allowed and str(given.get(name, allowed[0])) not in allowed:
            raise ConfigError(f"{name}={given[name]!r} is not allowed: choose {' or '.join(allowed)}.")
    if not str(given.get("threads", 1)).isdecimal():
        raise ConfigError(f"threads={given['threads']!r} is not allowed: give a number of CPU threads.")
    execution = given.get("execution", {})
    if not isinstance(execution, Mapping):
        raise ConfigError(f"execution={execution!r} is not allowed: write 'execution={{precision: float32}}'.")
    config.Execution(**execution)


def priorities(study: str, listed: Sequence[Cell]) -> dict[str, int]:
    """Which cells begin before which, by run_id: the greater one first.

    The study's order is the one in which its cells are worth having. The smoke study is worth having as a whole: there
    the longest cells, which it lists last, begin first, so that none computes alone in the end.
    """
    ordered = listed if study == "smoke" else reversed(listed)
    return {cell.run.run_id: place for place, cell in enumerate(ordered)}


def reasons(listed: Sequence[Cell], only_missing: bool = False, folder: Path | None = None) -> dict[str, str]:
    """Why each cell that has to run has to, by run_id.

    With `only_missing` a record of these very settings is good enough, whatever code and data it was made from. Else
    the data are compared with those in `folder`, or in ISONB_DATA.
    """
    found = {cell.run.run_id: _why(cell, only_missing, folder) for cell in listed}
    return {run_id: reason for run_id, reason in found.items() if reason}


def _why(cell: Cell, only_missing: bool, folder: Path | None) -> str:
    try:
        reason = records.why_outdated(cell, folder, only_missing)
    except records.RecordError:
        return "its record is damaged"
    return reason or ("" if runner.notebook_path(cell).exists() else "no executed notebook")


def require_same_data(study: str, listed: Sequence[Cell], left: Mapping[str, str], folder: Path | None = None) -> None:
    """Refuse to add cells of the whole of CIFAR-10, as a download is, to records of a part of it.

    Raises `ConfigError` where no folder is named, cells are `left`, and a record that stays has read a part.
    """
    if folder or os.environ.get("ISONB_DATA") or not any(_reads_cifar10(cell) for cell in listed if _id(cell) in left):
        return
    kept = [cell for cell in listed if _reads_cifar10(cell) and _id(cell) not in left]
    if any(_has_read_a_part(record) for cell in kept if (record := records.readable(cell))):
        raise ConfigError(
            f"Records of the study {study} have read a part of CIFAR-10, and its other cells would read all of it: "
            "name the folder of that part by ISONB_DATA, or by ISONB_RESULTS another one for a study of your own."
        )


def _id(cell: Cell) -> str:
    return cell.run.run_id


def _reads_cifar10(cell: Cell) -> bool:
    return cell.run.data == "cifar10"


def _has_read_a_part(record: records.Record) -> bool:
    train, test = fingerprints.CIFAR10_IMAGES
    return record.data.test < test or record.data.validation < round(record.cell.run.validation_fraction * train)


def command(cell: Cell, execution: Mapping[str, object], template: str | None = None) -> str:
    """The shell command that runs a cell, from another notebook than the study's if one is named."""
    settings = {name: value for name, value in runner.parameters(cell).items() if name != "profile"} | dict(execution)
    words = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    options = ["--profile", cell.profile, *(["--template", template] if template else [])]
    return shlex.join([sys.executable, "-m", "isonb", "run-cell", *options, *words])


def hold(profile: str, study: str) -> TextIO:
    """Take the folder for this process; it is free again when the process ends, however that comes.

    Raises `SweepError` when another sweep is at work in it.
    """
    path = records.runs_folder(profile).parent / "sweep.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            file.seek(0)
            holder = file.read().strip() or "it has just begun"
        raise SweepError(
            f"Another sweep is at work in this folder ({holder}): wait for its end or stop it by Ctrl-C where it runs. "
            "It was left alone."
        ) from None
    file.truncate(0)
    file.write(f"study {study}, process {os.getpid()}, since {time.strftime('%H:%M')}")
    file.flush()
    return file


def again(study: str) -> str:
    """The command that goes on with a study."""
    return f"make study PROFILE={study}" if study in config.PROFILES else f"snakemake --config study={study}"


def failures(folder: Path) -> dict[str, str]:
    """The cells that a sweep did not finish, with the last line that each left."""
    found = {}
    for run_id in Plan.read(folder).reasons:
        if not (folder / f"{run_id}.done").exists():
            log = folder / f"{run_id}.log"
            words = log.read_text(errors="replace").split("\n") if log.exists() else []
            lines = [line for line in words if line.strip()]
            found[run_id] = lines[-1].strip() if lines else "It ended without a word, or was never begun."
    return found


def write_failures(folder: Path) -> Path | None:
    """`FAILURES.md` beside a profile's logs: each cell that failed, its last line and its log. None where none did."""
    plan, found = Plan.read(folder), failures(folder)
    runs = records.runs_folder(plan.profile)
    path = runs / "FAILURES.md"
    path.unlink(missing_ok=True)
    if not found:
        return None
    parts = [f"# {len(found)} of {len(plan.reasons)} cells failed\n\n`{again(plan.study)}` runs them again.\n"]
    for run_id, line in found.items():
        log = runs / "logs" / f"{run_id}.log"
        parts.append(
            f"## {run_id}\n\n    {line}\n\nLogs: `{log}` of the notebook, `{folder / run_id}.log` of its runner.\n"
        )
    disk.write_atomically(path, "\n".join(parts).encode())
    return path


def summary(folder: Path) -> str:
    """One line: cells run, reused and failed, and the time from the sweep's start to now."""
    plan, failed = Plan.read(folder), failures(folder)
    minutes, seconds = divmod(round(time.time() - plan.started), 60)
    run = len(plan.reasons) - len(failed)
    return f"Study {plan.study}: {run} run, {plan.reused} reused, {len(failed)} failed, in {minutes} min {seconds} s."


def contents() -> str:
    """The SHA-256 of everything that the book is built from."""
    results = os.environ.get("ISONB_RESULTS")
    digest = hashlib.sha256()
    for root in [*(records.PROJECT / name for name in READ_BY_THE_BOOK), *([Path(results)] if results else [])]:
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and ".ipynb_checkpoints" not in path.parts:
                digest.update(f"{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_built() -> bool:
    """Whether the book is built, and from what is there now."""
    return CONTENTS.exists() and CONTENTS.read_text() == contents() and PAGE.exists()


def build_book() -> int:
    """Build the book, warnings being errors, and say where it is; returns the builder's exit status."""
    CONTENTS.unlink(missing_ok=True)
    read = contents()
    builder = Path(sys.executable).with_name("jupyter-book")
    command = [builder, "build", ".", "--all", "-W", "-n", "--keep-going", "--quiet"]
    status = _run(command)
    if status == 0:
        disk.write_atomically(CONTENTS, read.encode())
        print(f"The book is built: open {PAGE.as_uri()}")
    return status


def _run(command: Sequence[str | Path]) -> int:
    """A command's exit status; of what it says on its standard error all is passed on, line by line, but noise."""
    with subprocess.Popen(command, cwd=records.PROJECT, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if NOISE not in line:
                print(line, end="", file=sys.stderr, flush=True)
    return process.returncode
