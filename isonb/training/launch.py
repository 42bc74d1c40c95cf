"""Pre-train a cell on all local devices, from a shell or from inside a notebook.

One process trains right here. More are started by torchrun in a child process that dies with its parent; its
progress is passed on, and a worker's traceback comes back in the exception.

Book: chapter "Training".
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from isonb import records
from isonb.config import Cell, Execution
from isonb.training import data, train

PROGRESS = "isonb-progress "  # begins the lines in which rank 0 tells its parent where it stands
PREEMPTED = "isonb-preempted"  # the line in which it says that it stopped when asked to


def checkpoints_folder(cell: Cell) -> Path:
    """Where a cell's checkpoints and its workers' log live."""
    return records.runs_folder(cell.profile) / "checkpoints" / cell.run.run_id


def pretrain(
    cell: Cell, images: data.Images, execution: Execution, on_step: train.OnStep | None = None
) -> train.Pretrained:
    """Train a cell's network, or go on from its newest checkpoint, on as many processes as `execution` asks for.

    Raises what `train.pretrain` raises; from several processes a `train.TrainingError` with the workers' last words.
    """
    processes = execution.processes or _local_devices(execution)
    folder = checkpoints_folder(cell)
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        _run_workers(cell, execution, processes, folder, on_step or (lambda *_: None))
    return train.pretrain(cell.run, images, folder, execution, on_step)


def work(cell: Cell, execution: Execution) -> None:
    """What each process of torchrun does. Rank 0 tells its progress on standard output, a line a step."""
    leads = os.environ.get("RANK", "0") == "0"

    def tell(step: int, steps: int, loss: float) -> None:
        if leads:
            print(f"{PROGRESS}{json.dumps([step, steps, loss])}", flush=True)

    images = data.load(cell.run, execution.data_path)
    try:
        train.pretrain(cell.run, images, checkpoints_folder(cell), execution, tell)
    except train.Preempted:
        if leads:
            print(PREEMPTED, flush=True)
        raise


def _local_devices(execution: Execution) -> int:
    return max(1, torch.cuda.device_count()) if execution.device != "cpu" else 1


def _run_workers(cell: Cell, execution: Execution, processes: int, folder: Path, on_step: train.OnStep) -> None:
    """Start torchrun, pass its progress on, and turn its end into an exception when it is not a good one."""
    settings = {**cell.run.model_dump(), **execution.model_dump(), "processes": 1}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "isonb", "pretrain", "--profile", cell.profile]
    command += [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    folder.mkdir(parents=True, exist_ok=True)
    log, was_preempted = folder / "workers.log", False
    with (
        log.open("w") as stream,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stream, text=True, preexec_fn=_die_with_parent, cwd=records.PROJECT
        ) as workers,
    ):
        try:
            for line in workers.stdout:
                if line.startswith(PROGRESS):
                    on_step(*json.loads(line.removeprefix(PROGRESS)))
                elif line.strip() == PREEMPTED:
                    was_preempted = True
                else:
                    stream.write(line)
        except BaseException:
            workers.terminate()  # torchrun passes it on; each worker finishes its step and saves
            workers.wait()
            raise
    if was_preempted:
        raise train.Preempted("The workers were stopped and saved their state: run the same command again to go on.")
    if workers.returncode:
        raise train.TrainingError(f"Training on {processes} processes failed: {_last_words(log)} Its log is {log}.")


def _die_with_parent() -> None:
    """Ask Linux to end torchrun, and through it the workers, when this process is gone, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG


def _last_words(log: Path) -> str:
    """The first exception that a worker's log names, for it is the cause of those that follow."""
    for line in log.read_text(errors="replace").splitlines():
        name, colon, message = line.partition("]:")[2].strip().partition(": ") if "]:" in line else line.partition(": ")
        if colon and name.replace(".", "").replace("_", "").isalnum() and name.endswith(("Error", "Exception")):
            return f"{name}: {message}"
    return "the workers ended without a word."
