"""What a sweep shows while it runs: a line for each cell at work, and one for each that has ended.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from isonb import places
from isonb.running import sweep

PERIOD = 1.0  # seconds between two looks
QUIET_PERIOD = 60.0  # seconds between two lines of a cell where no terminal can overwrite them
TAIL = 4096  # bytes of a log that hold its last line
UP, CLEAR = "\x1b[{}A", "\x1b[J"


class Watch(threading.Thread):
    """A thread that shows how the cells of a sweep are doing, from the files in its folder, until `end`."""

    def __init__(self, folder: Path, stream: TextIO) -> None:
        super().__init__(daemon=True)
        self.folder, self.stream = folder, stream
        self.plan = sweep.Plan.read(folder)
        self.ended: set[str] = set()
        self.drawn = 0
        self.printed: dict[str, float] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Look now and then."""
        while not self.over.wait(PERIOD):
            self.look()

    def end(self) -> None:
        """Show what has ended since the last look, and stop."""
        self.over.set()
        self.join()
        self.look()
        self._clear()

    def look(self) -> None:
        """Show which cells have ended since the last look, and how those at work are doing."""
        lines = [self._last_words(run_id) for run_id in self._ended()]
        working = [f"  {self._state(run_id)}" for run_id in self._working()]
        self._clear()
        for line in lines:
            print(line, file=self.stream)
        if self.stream.isatty():
            columns = os.get_terminal_size(self.stream.fileno()).columns
            for line in working:
                print(line[: columns - 1], file=self.stream)
            self.drawn = len(working)
        else:
            for run_id, line in zip(self._working(), working, strict=False):
                if time.monotonic() - self.printed.get(run_id, -QUIET_PERIOD) >= QUIET_PERIOD:
                    self.printed[run_id] = time.monotonic()
                    print(line, file=self.stream)
        self.stream.flush()

    def _clear(self) -> None:
        if self.drawn:
            print(UP.format(self.drawn) + "\r" + CLEAR, end="", file=self.stream)
            self.drawn = 0

    def _working(self) -> list[str]:
        return [
            run_id
            for run_id in self.plan.reasons
            if run_id not in self.ended and (self.folder / f"{run_id}.log").exists()
        ]

    def _ended(self) -> list[str]:
        """Cells that have ended since the last look."""
        ended = {path.stem for end in ("done", "failed") for path in self.folder.glob(f"*.{end}")}
        return [run_id for run_id in self.plan.reasons if run_id in ended - self.ended]

    def _last_words(self, run_id: str) -> str:
        self.ended.add(run_id)
        words = sweep.last_words(self.folder / f"{run_id}.log", run_id)
        return f"[{len(self.ended)}/{len(self.plan.reasons)}] {words or run_id}"

    def _state(self, run_id: str) -> str:
        """How far a cell at work is: the last line of its notebook, which is the progress bar's while it trains."""
        begun = (self.folder / f"{run_id}.log").stat().st_mtime
        log = places.runs_folder(self.plan.base) / "logs" / f"{run_id}.log"
        line = last_line(log) if log.exists() and log.stat().st_mtime >= begun else ""
        return line if line.startswith(run_id) and "|" in line else f"{run_id}: {line or 'begins'}"


def start(folder: Path, stream: TextIO | None = None) -> Watch:
    """Begin to watch a sweep."""
    watching = Watch(folder, stream or sys.stderr)
    watching.start()
    return watching


def last_line(path: Path) -> str:
    """The last line of a log that says something; a progress bar begins each of its states with a carriage return."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""
