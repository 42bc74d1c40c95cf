"""Which processor cores and which GPU a cell of a sweep computes on.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import filelock
import psutil

from isonb import records
from isonb.config import ConfigError

PLACEMENTS = ("auto", "cpu", "gpu-each", "gpu-all", "given")
GPU = "ISONB_GPU"  # tells a runner to take a free GPU
PATIENCE = 0.2  # seconds between two looks for a free GPU


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs of this host, as CUDA_VISIBLE_DEVICES names them; asked of NVIDIA's own tool, without torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name and name != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []


@functools.cache
def is_usable_by_torch() -> bool:
    """Whether this environment's PyTorch can compute on a GPU; another process imports it, which takes seconds."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def resolve(placement: str) -> str:
    """'auto' is a GPU for each cell where PyTorch can use any, else the CPU; 'given' is what a cluster gives a job.

    Says so on standard error where there are GPUs that PyTorch cannot use. Raises `ConfigError` for an unknown
    placement and for GPUs that are not there.
    """
    if placement not in PLACEMENTS:
        raise ConfigError(f"placement={placement!r} is not allowed: choose {', '.join(PLACEMENTS)}.")
    if placement == "auto":
        if not gpus():
            return "cpu"
        if not is_usable_by_torch():
            print("There is a GPU, but this PyTorch cannot use it: cells run on the CPU.", file=sys.stderr)
            return "cpu"
        return "gpu-each"
    if placement.startswith("gpu") and not gpus():
        raise ConfigError(f"placement={placement!r} needs a GPU, and nvidia-smi finds none: choose 'cpu'.")
    return placement


def threads(placement: str, left: int, together: bool = True, megabytes: int = 0) -> int:
    """CPU threads for each of the cells that are left, so that as many run at once as there are devices for them.

    On a CPU as many cells as there are cores, with a core each, or one after another with all cores; no more than fit
    into the machine's memory where the largest is known to need so many `megabytes`.
    """
    at_once = {"gpu-all": 1, "gpu-each": len(gpus())}.get(placement, cores() if together else 1)
    if megabytes:
        at_once = min(at_once, memory_mb() // megabytes)
    return max(1, cores() // max(1, min(at_once, left)))


def memory_mb() -> int:
    """The machine's memory."""
    return psutil.virtual_memory().total // 2**20


@contextlib.contextmanager
def a_gpu() -> Iterator[str | None]:
    """Where ISONB_GPU asks for one: a GPU of this host for this process alone, set in CUDA_VISIBLE_DEVICES.

    Waits until one is free. It is free again when the process ends, however that comes.
    """
    names = gpus() if os.environ.get(GPU) else []
    if not names:
        yield None
        return
    folder = records.runs_folder("gpus")
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for name in names:
            lock = filelock.FileLock(folder / f"{socket.gethostname()}-{name}.lock", blocking=False)
            try:
                lock.acquire()
            except filelock.Timeout:
                continue
            os.environ["CUDA_VISIBLE_DEVICES"] = name
            try:
                yield name
            finally:
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
                lock.release()
            return
        time.sleep(PATIENCE)
