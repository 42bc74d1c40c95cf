"""Pre-train a cell on all local devices, from a shell or from inside a notebook.

One process trains right here. More are started by torchrun in a child process that dies with its parent; its
progress is passed on, and a worker's traceback comes back in the exception.

Book: chapter "Training".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import filelock
import psutil
import torch

from isonb import disk, places, records, schema
from isonb.config import PROBE_PREFIX, Cell, ConfigError, Execution
from isonb.numerics import NUMERICS
from isonb.training import checkpoint, data, signals, train, world

# What a worker tells its launcher on standard output, a line each: the word, a space, then JSON or a sentence.
PROGRESS, STOPPED, FAILED = "isonb-progress", "isonb-stopped", "isonb-failed"
TORCHRUN = (  # by this detour it ends with its parent; Popen's own hook for that is unsafe among threads
    "import runpy; from isonb.training import signals; signals.die_with_parent();"
    "runpy.run_module('torch.distributed.run', run_name='__main__')"
)
LOOPBACK = "127.0.0.1"
SHORTLY = 5  # seconds in which a host reaches itself
MEETING = ("--nnodes=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={LOOPBACK}:0", f"--local-addr={LOOPBACK}")
GRACE = 300  # seconds that workers have to finish their step and save before torchrun kills them; its own are 30
NOTE = 40  # lines of the workers' log in an exception's note
FAULTS = (
    train.TrainingError,
    checkpoint.CheckpointError,
    data.DataError,
    world.WorldError,
)  # their messages say what to do


def checkpoints_folder(cell: Cell, images: data.Images | schema.Data) -> Path:
    """Where a cell's checkpoints and its workers' log live.

    Another folder for other numerics, for other images, and for a run that is probed along its training: what one
    without has left lacks the weights of its epochs.
    """
    name = folder_name(images.sha256, cell.probe.along)
    return places.runs_folder(cell.study) / "checkpoints" / cell.run.run_id / name


def folder_name(sha256: Mapping[str, str], is_probed_along: bool) -> str:
    """What the folder of a cell's checkpoints is called, by the checksums of its images."""
    content = repr((NUMERICS, sorted(sha256.items()))).encode()
    return hashlib.sha256(content).hexdigest()[:12] + "-along" * is_probed_along


def pretrain(
    cell: Cell, images: data.Images, execution: Execution, on_step: train.OnStep | None = None
) -> train.Pretrained:
    """Train a cell's network, or go on from its newest checkpoint, on as many processes as `execution` asks for.

    Several processes read the images themselves. Under torchrun this process is one of them already.
    Raises `ConfigError` for a device that is not there and a folder that cannot be written, `NewerRecordError` where a
    newer version has left the cell's record, and what `train.pretrain` raises; from several processes a
    `train.TrainingError` with the cause that a worker named, and the end of the workers' log as a note.
    """
    require_device(execution)
    # Else cuDNN rounds the factors of float32 convolutions to ten bits (TF32), as is done in no matrix product: float32
    # would mean less in conv than in the other blocks. Without effect on a CPU.
    torch.backends.cudnn.allow_tf32 = False
    processes = execution.processes or _local_devices(execution)
    folder = checkpoints_folder(cell, images)
    if leads := world.is_leading():
        records.require_replaceable(cell)  # now, not after hours
        disk.require_writable(folder)
    if world.is_under_torchrun():
        signals.die_with_parent()
    elif processes > 1:
        if not (execution.threads or is_on_gpu(execution)):  # theirs are those that the record names
            execution = execution.model_copy(update={"threads": max(1, torch.get_num_threads() // processes)})
        _run_workers(cell, execution, processes, folder, on_step or (lambda *_: None))
    with _alone_in(folder) if leads else contextlib.nullcontext():
        return train.pretrain(cell.run, images, folder, execution, on_step, cell.probe.along)


def is_on_gpu(execution: Execution) -> bool:
    """Whether a run with these settings computes on a GPU of this host."""
    return execution.device == "cuda" or (execution.device == "auto" and torch.cuda.is_available())


def require_device(execution: Execution) -> None:
    """Raise `ConfigError` where a GPU is asked for by name and there is none, or one for each of more processes."""
    if execution.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda' is not allowed: PyTorch finds no such device here; choose 'auto' or 'cpu'.")
    if is_on_gpu(execution) and execution.processes > torch.cuda.device_count():
        raise ConfigError(
            f"processes={execution.processes} is not allowed: each needs a GPU of its own and PyTorch finds "
            f"{torch.cuda.device_count()}; choose no more than that, or device='cpu'."
        )


def _alone_in(folder: Path) -> filelock.BaseFileLock:
    """Wait for another process that trains in this folder: one that was killed may take a moment to end."""
    return filelock.FileLock(folder / "training.lock")


def work(cell: Cell, execution: Execution) -> None:
    """What each process that `pretrain` started does: train, and tell on standard output how it goes.

    Rank 0 tells every step and that it stopped; any rank tells the fault that ended it.
    """
    leads = world.is_leading()

    def on_step(*step: float) -> None:
        if leads:
            _tell(PROGRESS, json.dumps(step))

    try:
        pretrain(cell, data.load(cell.run, execution.data_path), execution, on_step)
    except signals.Preempted as stop:
        if leads:
            _tell(STOPPED, str(stop))
        raise
    except FAULTS as fault:
        _tell(FAILED, str(fault))
        raise


def _tell(word: str, what: str) -> None:
    try:
        print(word, what, flush=True)
    except BrokenPipeError:  # the launcher is gone: stop and save, as if asked to
        os.kill(os.getpid(), signal.SIGTERM)


def _local_devices(execution: Execution) -> int:
    return torch.cuda.device_count() if is_on_gpu(execution) else 1


def _run_workers(cell: Cell, execution: Execution, processes: int, folder: Path, on_step: train.OnStep) -> None:
    """Start torchrun, pass its progress on, and turn its end into an exception when it is not a good one."""
    _require_loopback()
    probe = {PROBE_PREFIX + name: value for name, value in cell.probe.model_dump().items()}
    settings = {**cell.run.model_dump(), **probe, **execution.model_dump(), "processes": 1}
    command = [sys.executable, "-c", TORCHRUN, *MEETING, f"--rdzv-id={uuid.uuid4()}", f"--nproc-per-node={processes}"]
    command += [f"--shutdown-timeout={GRACE}", "-m", "isonb", "pretrain", "--worker", "--study", cell.study]
    command += [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    log, told = folder / "workers.log", {}
    with (
        log.open("w", buffering=1, encoding="utf-8", errors="backslashreplace") as stream,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=_environment(),
        ) as workers,
        signals.stop_requests(workers.terminate) as stop,  # torchrun passes it on; the workers save
    ):
        try:
            for line in workers.stdout:
                word, _, what = line.rstrip().partition(" ")
                if word == PROGRESS:
                    on_step(*json.loads(what))
                elif word in (STOPPED, FAILED):
                    told.setdefault(word, what)
                else:
                    stream.write(line)
        except BaseException:
            workers.terminate()
            raise
    if STOPPED in told or stop.is_set():
        raise signals.Preempted(told.get(STOPPED, "Stopped before the first step.") + f" Its log is {log}.")
    if workers.returncode:
        words = log.read_text(encoding="utf-8", errors="replace").splitlines()
        cause = told.get(FAILED) or _cause(words)
        fault = train.TrainingError(f"Training on {processes} processes failed: {cause} Its log is {log}.")
        fault.add_note("\n".join(["The end of the log:", *words[-NOTE:]]))
        raise fault


def _require_loopback() -> None:
    """Raise `TrainingError` where this host cannot reach itself: torchrun would try again and again."""
    try:
        with socket.create_server((LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=SHORTLY).close()
    except OSError as error:
        raise train.TrainingError(
            f"Several processes meet at {LOOPBACK}, which cannot be reached here ({error.strerror or error}): choose "
            "processes=1, or bring the interface up, as by `ip link set lo up`."
        ) from None


def _environment() -> dict[str, str]:
    """What torchrun and its workers are given: nothing that a cluster has set for a torchrun of its own.

    gloo would look for the address that belongs to the host's name, which there need not be.
    """
    paths = [str(places.PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PET_", "TORCHELASTIC_"))}
    interfaces = [name for name, one in psutil.net_if_addrs().items() if LOOPBACK in (part.address for part in one)]
    gloo = {"GLOO_SOCKET_IFNAME": interfaces[0]} if interfaces else {}
    return {**inherited, **gloo, "PYTHONPATH": os.pathsep.join(paths)}


def _cause(words: list[str]) -> str:
    """The first exception that a log names, for it is the cause of those that follow."""
    for line in words:
        text = line.partition("]:")[2].strip() if line.startswith("[rank") else line
        name, colon, message = text.partition(": ")
        if colon and name.replace(".", "").replace("_", "").isalnum() and name.endswith(("Error", "Exception")):
            return f"{name}: {message}"
    return "the workers ended without a word."
