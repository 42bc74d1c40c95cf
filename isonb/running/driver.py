"""The process that drives a sweep: what the Snakefile's rules are made of, and what is done before and after them.

Snakemake reads the Snakefile in this process, and again in each job of a cluster, which makes the same rules but prints
nothing and handles no signals.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isonb import config, disk, records
from isonb.config import Cell
from isonb.running import interruption, placement, predictions, publishing, sweep, watch

DRY = {"-n", "--dry-run", "--dryrun"}
ISONB = [sys.executable, "-m", "isonb"]


def begin(given: Mapping[str, Any], is_main_process: bool, logger: logging.Logger) -> Driver:
    """The driver of what `--config` was given; a sweep that cannot be started ends the process with a sentence.

    `logger` is Snakemake's, which is told to be quiet, even about errors.
    """
    os.environ[interruption.DRIVER] = str(os.getpid())
    try:
        driver = Driver(given, bool(DRY & set(sys.argv)), logger)
    except Exception as error:
        sys.exit(sweep.in_a_sentence(error))
    if is_main_process:
        driver.attend()
    return driver


class Refusals(logging.Handler):
    """Shows what Snakemake, though told to be quiet, refuses before a sweep starts, such as an unknown target."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message in one line; of a traceback, its last line."""
        message = record.getMessage().strip()
        last = message.splitlines()[-1]
        print(last if message.startswith("Traceback") else " ".join(message.split()), file=sys.stderr)


class Driver:
    """A study as Snakemake runs it: which of its cells have to run, why, where, and in which order.

    `study` is what was asked for, a study or a TOML file. `folder` is the sweep's own, with a marker file for each cell
    that has ended: neither the times of files nor what an earlier sweep left count. Raises `ConfigError`.
    """

    def __init__(self, given: Mapping[str, Any], is_dry: bool, logger: logging.Logger) -> None:
        sweep.check_settings(given)
        self.is_dry, self.logger, self.template = is_dry, logger, given.get("template")
        self.study = str(sweep.one_study(given.get("study"), given.get("profile")))
        self.cells = sweep.cells(self.study)
        self.base = self.cells[0].study
        self.place = placement.resolve(given.get("placement", "auto"))
        execution = dict(given.get("execution", {}))
        self._find_reasons(given.get("only") == "missing", config.Execution(**execution).data_path)
        self.is_built = not self.reasons and publishing.is_built()
        self.with_book = str(given.get("book", "yes")) == "yes"
        self.priorities = sweep.priorities(self.study, self.cells)
        self._share_out(execution, int(given.get("threads", 0)))
        self.refusals = Refusals(logging.ERROR)
        self.is_stopped, self.held, self.watching = False, None, None

    def _find_reasons(self, only_missing: bool, data_path: Path | None) -> None:
        self.reasons = sweep.reasons(self.cells, only_missing, data_path)
        sweep.require_same_data(self.study, self.cells, self.reasons, data_path)
        self.runs = records.runs_folder(self.base)
        self.folder = self.runs / "sweep" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        if self.reasons and not self.is_dry:
            disk.require_writable(self.runs, records.results_folder(self.base))

    def _share_out(self, execution: dict[str, Any], threads: int) -> None:
        """Share the cores and the memory of the machine out among the cells."""
        self.known = predictions.read()
        self.is_on_gpu = "cpu" not in (self.place, execution.get("device"))  # 'given' is taken to be one
        self.is_together = self.place == "cpu" and predictions.is_faster_together(
            self.known, self.reasons, placement.cores()
        )
        largest = predictions.largest_megabytes(self.known, self.reasons, self.is_on_gpu)
        self.threads = threads or placement.threads(self.place, len(self.reasons), self.is_together, largest)
        on_cpu = {"device": "cpu"} if self.place == "cpu" else {}
        self.execution = {"threads": self.threads, **on_cpu, **execution}

    # What the rules are made of

    def targets(self) -> list[Path]:
        """The markers of what has to be there in the end."""
        needs_book = self.with_book and (self.reasons or not self.is_built)
        return [self.folder / "report.done"] * bool(self.reasons) + [self.folder / "book.done"] * bool(needs_book)

    def marker(self, name: str) -> Path:
        """What a rule's end leaves, of any sweep."""
        return self.runs / "sweep" / "{sweep}" / f"{name}.done"

    def message(self, cell: Cell) -> str:
        """Why a cell has to run, and what it is expected to take."""
        run_id = cell.run.run_id
        expected = predictions.words(self.known.get(run_id), self.is_together)
        return f"{run_id}: {self.reasons.get(run_id, 'asked for')}; {expected}"

    def megabytes(self, cell: Cell) -> int:
        """The memory of the host that a cell needs."""
        return predictions.megabytes(self.known.get(cell.run.run_id), self.is_on_gpu)

    def command(self, cell: Cell) -> str:
        """The shell command that runs a cell."""
        variable = f"{placement.GPU}=1 " if self.place == "gpu-each" else ""
        return variable + sweep.command(cell, self.execution, self.template)

    # What is done besides

    def attend(self) -> None:
        """Before any rule: say what will be done, show what Snakemake refuses, and let Ctrl-C save what was trained."""
        if not self.is_dry:
            self.logger.addHandler(self.refusals)
        signal.signal(signal.SIGINT, self._stop)
        left = [cell for cell in self.cells if cell.run.run_id in self.reasons]
        if left and self.is_dry:
            expected = predictions.in_all(self.known, left)
            print(f"Study {self.study}: {len(left)} of {len(self.cells)} cells have to run. {expected}")
        if not left:
            print(f"Study {self.study}: all of its {len(self.cells)} cells are finished.", file=sys.stderr)
            if self.is_built:
                print(f"The book is built: open {publishing.PAGE.as_uri()}", file=sys.stderr)

    def _stop(self, *_: object) -> None:
        """Ask the runners to save and end, then let Snakemake end."""
        self.is_stopped = True
        watch.interrupt_runners()
        raise KeyboardInterrupt

    def start(self) -> None:
        """When the first rule is about to run: take the folder, write the plan, and begin to watch."""
        self.logger.removeHandler(self.refusals)
        reused = len(self.cells) - len(self.reasons)
        plan = sweep.Plan(study=self.study, base=self.base, started=time.time(), reasons=self.reasons, reused=reused)
        try:
            self.held = sweep.hold(self.study)
            plan.write(self.folder)
            self.watching = watch.start(self.folder)
        except Exception as error:
            print(sweep.in_a_sentence(error), file=sys.stderr, flush=True)
            os._exit(1)  # an exception from here would be Snakemake's own, with a traceback

    def end(self) -> None:
        """When every rule has succeeded."""
        if self.watching:
            self.watching.end()

    def fail(self) -> None:
        """When a rule has failed or the sweep was stopped: the cells that ended are worth a table and a book."""
        self.end()
        if self.is_stopped:
            again = sweep.again(self.study)
            print(f"Stopped; all training so far is saved: run `{again}` to continue.", file=sys.stderr, flush=True)
        elif not (self.folder / "report.done").exists():
            subprocess.run([*ISONB, "report", self.folder], check=False)
            if self.with_book:
                subprocess.run([*ISONB, "book"], check=False)
