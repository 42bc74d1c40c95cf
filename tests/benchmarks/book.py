"""The book's build: from nothing, with nothing changed, and with one record changed, in a copy of the project."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isonb import places, records

LEFT_OUT = (".*", "_build", "_runs", "__pycache__", "*.egg-info")


def run() -> Iterator[dict[str, Any]]:
    """One row for each build: its seconds by the clock and on the processors, and their ratio to those of the first."""
    with tempfile.TemporaryDirectory(prefix="isonb-bench-") as folder:
        project = Path(folder) / "project"
        shutil.copytree(places.PROJECT, project, ignore=shutil.ignore_patterns(*LEFT_OUT))
        first: dict[str, float] = {}
        for build, prepare in (("whole", None), ("nothing changed", None), ("one record changed", _change_a_record)):
            if prepare:
                prepare(project)
            measured = _build(project)
            first = first or measured
            ratio = {name: seconds / first[name] for name, seconds in measured.items()}
            yield {"build": build, **measured, "ratio": ratio}


def _build(project: Path) -> dict[str, float]:
    """The seconds of a build, by the clock and on the processors, with its kernels. Raises where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != places.RESULTS}
    _adopt_orphans()
    began, used = time.perf_counter(), _processor_seconds()
    command = [sys.executable, "-m", "isonb", "book"]
    subprocess.run(command, cwd=project, env=environment | {"PYTHONPATH": str(project)}, check=True)
    seconds = time.perf_counter() - began
    with contextlib.suppress(ChildProcessError):  # no more are left
        while True:
            os.wait()
    return {"seconds": seconds, "processor_seconds": _processor_seconds() - used}


def _adopt_orphans() -> None:
    """Become, on Linux, the parent of what outlives its own: the kernels of a build are forks of such a process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)  # 36 is PR_SET_CHILD_SUBREAPER


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _change_a_record(project: Path) -> None:
    """Change the seconds that the training of one network has taken."""
    path = min((project / "book" / "results" / "cpu").glob("*.json"))
    record, arrays = records.read(path)
    training = record.training.model_copy(update={"seconds": record.training.seconds + 1})
    before = os.environ.get(places.RESULTS)
    os.environ[places.RESULTS] = str(project / "book" / "results")
    try:
        changed = record.model_copy(update={"training": training})
        records.write_record(changed, arrays, path.with_suffix(".ipynb").read_bytes())
    finally:
        os.environ.pop(places.RESULTS) if before is None else os.environ.update({places.RESULTS: before})
