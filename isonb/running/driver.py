"""The process that drives a sweep: what the Snakefile's rules are made of, and what is done before and after them.

Snakemake reads the Snakefile in this process, and again in each job of a cluster, which makes the same rules but prints
nothing and handles no signals.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from isonb import config, disk, places, surroundings
from isonb.config import Cell
from isonb.running import box, interruption, placement, predictions, publishing, remaining, runner, sweep, watch
from isonb.training import signals

DRY = {"-n", "--dry-run", "--dryrun"}
ISONB = [sys.executable, "-m", "isonb"]


def begin(given: Mapping[str, Any], is_main_process: bool, logger: logging.Logger) -> Driver:
    """The driver of what `--config` was given; a sweep that cannot be started ends the process with a sentence.

    `logger` is Snakemake's.
    """
    surroundings.use_utf8()
    os.environ[interruption.DRIVER] = str(os.getpid())
    surroundings.provide()
    try:
        driver = Driver(given, bool(DRY & set(sys.argv)), logger)
    except Exception as error:
        sys.exit(sweep.in_a_sentence(error))
    if is_main_process:
        driver.attend()
    return driver


class Refusals(logging.Handler):
    """Shows what Snakemake refuses before a sweep starts, such as an unknown target, and nothing else of its words."""

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
        settings = sweep.Settings.read(given)
        self.is_dry, self.logger, self.template = is_dry, logger, settings.template
        if settings.template:
            runner.require_template(Path(settings.template))
        self.study = config.one_study(settings.study, settings.profile)
        self.cells = sweep.cells(self.study)
        self.base = self.cells[0].study
        self._find_reasons(settings.only == "missing", settings.execution.data_path)
        self.place = placement.resolve(settings.placement) if self.reasons else "given"
        self.is_built = not self.reasons and publishing.is_built()
        self.with_book = settings.book
        self.priorities = sweep.priorities(self.study, self.cells)
        self._share_out(settings.execution, settings.threads, settings.cells_per_gpu)
        self.box = self._begin_box(settings.minutes) if settings.minutes and self.reasons else None
        self.refusals = Refusals(logging.ERROR)
        self.is_started, self.is_stopped, self.held, self.watching = False, False, None, None
        self.is_time_up, self.alarm, self.over = False, None, threading.Event()

    def _find_reasons(self, only_missing: bool, data_path: Path | None) -> None:
        self.reasons = sweep.reasons(self.cells, only_missing, data_path)
        sweep.require_same_data(self.study, self.cells, self.reasons, data_path)
        self.runs = places.runs_folder(self.base)
        self.folder = self.runs / "sweep" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        if not self.runs.is_relative_to(Path.cwd()) and set("{}") & set(str(self.runs)):
            raise config.ConfigError(
                f"{self.runs} has braces in its name, which Snakemake takes for a variable: set ISONB_RUNS to a folder "
                "without them."
            )
        if not surroundings.takes_files(Path(".snakemake")):
            raise config.ConfigError(
                f"{Path.cwd()} cannot be written, and Snakemake keeps a folder .snakemake in it: make it writable, or "
                "add `--directory` and a folder that is."
            )
        if self.reasons and not self.is_dry:
            disk.require_writable(self.runs, places.results_folder(self.base))

    def _share_out(self, execution: config.Execution, threads: int, per_gpu: int | Literal["auto"]) -> None:
        """Share the cores, the memory and the GPUs of the machine out among the cells."""
        if self.reasons and self.place != "given":  # a cluster's nodes have what the machine here may lack
            placement.require_device(execution)
        self.known = predictions.read()
        self.is_on_gpu = "cpu" not in (self.place, execution.device)  # 'given' is taken to be one
        self.is_together = self.place == "cpu" and predictions.is_faster_together(
            self.known, self.reasons, placement.cores()
        )
        largest = predictions.largest_megabytes(self.known, self.reasons, self.is_on_gpu)
        self.per_gpu = 1
        if self.place == "gpu-each":
            needed, most = (
                count(self.known, self.reasons) for count in (predictions.gpu_megabytes, predictions.most_on_a_gpu)
            )
            self.per_gpu = placement.cells_per_gpu(per_gpu, needed, most)
        self.threads = threads or placement.threads(
            self.place, len(self.reasons), self.is_together, largest, self.per_gpu
        )
        on_cpu = {"device": "cpu"} if self.place == "cpu" else {}
        self.execution = {"threads": self.threads, **on_cpu, **execution.model_dump(exclude_unset=True)}

    def _begin_box(self, minutes: float) -> box.Box:
        """Order the cells by what can be finished in so many minutes; a box builds no book, which takes minutes."""
        if self.place == "given":
            raise config.ConfigError(
                "minutes= is for a machine of one's own: on a cluster limit the time of its jobs, each of which goes "
                "on from its last checkpoint."
            )
        left = [cell for cell in self.cells if cell.run.run_id in self.reasons]
        begun = box.begin(minutes, remaining.slowest_step(left))
        ordered = remaining.in_order(left, begun.stops - time.monotonic())
        self.priorities |= {cell.run.run_id: place for place, cell in enumerate(reversed(ordered))}
        self.with_book = False
        return begun

    # What the rules are made of

    def targets(self) -> list[Path]:
        """The markers of what has to be there in the end, without a path to this project, whose braces would count."""
        needs_book = self.with_book and (self.reasons or not self.is_built)
        here = Path.cwd()
        folder = self.folder.relative_to(here) if self.folder.is_relative_to(here) else self.folder
        return [folder / "report.done"] * bool(self.reasons) + [folder / "book.done"] * bool(needs_book)

    def marker(self, name: str) -> str:
        """What a rule's end leaves; `sweep` is for Snakemake to fill in, with any folder, even one named `{x}`."""
        return f"{{sweep}}/{name}.done"

    def message(self, cell: Cell) -> str:
        """Why a cell has to run, and what it is expected to take."""
        run_id = cell.run.run_id
        expected = predictions.words(self.known.get(run_id), self.is_together)
        words = f"{run_id}: {self.reasons.get(run_id, 'asked for')}; {expected}"
        return words.replace("{", "{{").replace("}", "}}")  # Snakemake puts its variables in between

    def slots(self, offered: int | None) -> int:
        """How many of the cores that Snakemake has to give away a cell takes."""
        if offered == 0:
            sys.exit("--cores 0 lets no cell run: give at least 1, or leave it out.")
        return placement.slots(self.threads, offered)

    def megabytes(self, cell: Cell) -> int:
        """The memory of the host that a cell needs."""
        return predictions.megabytes(self.known.get(cell.run.run_id), self.is_on_gpu)

    def command(self, cell: Cell) -> str:
        """The shell command that runs a cell."""
        variable = f"{placement.GPU}={self.per_gpu} " if self.place == "gpu-each" else ""
        return variable + sweep.command(cell, self.execution, self.template)

    # What is done besides

    def attend(self) -> None:
        """Before any rule: say what will be done, and show nothing of what Snakemake says but what it refuses."""
        if not self.is_dry:
            for handler in self.logger.handlers:
                handler.setLevel(logging.CRITICAL)
            self.logger.addHandler(self.refusals)
        signals.heed(self._stop)
        left = [cell for cell in self.cells if cell.run.run_id in self.reasons]
        if left and self.is_dry:
            expected = predictions.in_all(self.known, left)
            print(f"Study {self.study}: {len(left)} of {len(self.cells)} cells have to run. {expected}")
        if not left:
            print(f"Study {self.study}: all of its {len(self.cells)} cells are finished.", file=sys.stderr)
            if self.is_built:
                print(f"The book is built: open {publishing.PAGE.as_uri()}", file=sys.stderr)

    def _stop(self, *_: object) -> None:
        """Ask the runners to save and end, then let Snakemake end; a second request changes nothing."""
        if self.is_stopped:
            return
        self.is_stopped = True
        if not self.is_started:
            self._say_how_to_go_on("Stopped before it began")
            os._exit(interruption.STOPPED)
        interruption.end_jobs(self.over)
        raise KeyboardInterrupt

    def _time_is_up(self) -> None:
        """Ask to stop as somebody else would, from the thread in which the alarm goes off."""
        self.is_time_up = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _say_how_to_go_on(self, words: str) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            again = sweep.again(self.study, self.box and self.box.minutes)
            print(f"{words}: run `{again}` to continue.", file=sys.stderr, flush=True)

    def start(self) -> None:
        """When the first rule is about to run: take the folder, write the plan, and begin to watch."""
        self.logger.removeHandler(self.refusals)
        reused = len(self.cells) - len(self.reasons)
        plan = sweep.Plan(
            study=self.study, base=self.base, started=time.monotonic(), reasons=self.reasons, reused=reused,
            minutes=self.box and self.box.minutes,
        )  # fmt: skip
        try:
            self.held = sweep.hold(self.study)
            plan.write(self.folder)
            self.watching = watch.start(self.folder)
            self.is_started = True
            signals.heed(
                self._stop
            )  # Snakemake has just taken SIGTERM, and would wait for the end of every cell at work
            if self.box:
                self.box.announce()
                self.alarm = threading.Timer(max(0.0, self.box.stops - time.monotonic()), self._time_is_up)
                self.alarm.daemon = True
                self.alarm.start()
        except Exception as error:
            print(sweep.in_a_sentence(error), file=sys.stderr, flush=True)
            os._exit(1)  # an exception from here would be Snakemake's own, with a traceback

    def end(self) -> None:
        """When every rule has succeeded."""
        self._silence_alarm()
        if self.watching:
            self.watching.end()
        self.is_stopped = True  # a request to stop comes too late
        if self.box:
            print("All cells of the study are finished: `make book` builds the book.", file=sys.stderr)

    def _silence_alarm(self) -> None:
        if self.alarm:
            self.alarm.cancel()

    def fail(self) -> None:
        """When a rule has failed or the sweep was stopped: the cells that ended are worth a table and a book.

        A sweep that was stopped ends with status 75, and so does a time box that is over before the study is.
        """
        self._silence_alarm()
        if self.box and self.is_started and (self.is_time_up or not self.is_stopped):
            self._end_box()
        try:
            if self.watching:
                self.watching.end()
            if not self.is_stopped and not (self.folder / "report.done").exists():
                subprocess.run([*ISONB, "report", self.folder], check=False)
                if self.with_book:
                    subprocess.run([*ISONB, "book"], check=False)
        except KeyboardInterrupt:
            pass
        if self.is_stopped:
            self._say_how_to_go_on("Stopped; all training so far is saved")
            interruption.kill_children()
            sys.exit(interruption.STOPPED)

    def _end_box(self) -> None:
        """When a time box is over or has no time for what is left: a table of what there is, and what to do next."""
        self.is_stopped = True  # a request to stop comes too late
        self.over.set()
        if self.watching:
            self.watching.end()
        interruption.kill_children()  # what has not saved by now has had the time of a box's end
        if not (self.folder / "report.done").exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                limit = max(box.LEAST, self.box.ends - time.monotonic())
                subprocess.run([*ISONB, "report", self.folder], check=False, timeout=limit)
        if sweep.failures(self.folder):
            sys.exit(1)  # the report has said which
        stopped, waiting = sweep.left(self.folder)
        if len(waiting) == len(self.reasons):
            print(f"No cell could begin in {self.box.minutes:.6g} minutes: give more of them.", file=sys.stderr)
            sys.exit(1)  # to run it again would change nothing
        self._say_how_to_go_on(
            f"The time is up; cells saved as far as they are: {len(stopped)}, not begun: {len(waiting)}"
        )
        sys.exit(interruption.STOPPED)
