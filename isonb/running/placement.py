"""Which processor cores and which GPU a cell of a sweep computes on.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Literal

import filelock

from isonb import places
from isonb.config import ConfigError, Execution
from isonb.machine import cores, memory_mb

PLACEMENTS = ("auto", "cpu", "gpu-each", "gpu-all", "given")
GPU = "ISONB_GPU"  # tells a runner to take a free GPU, and how many cells share one
MOST_PER_GPU = 64  # cells
FILLED = 0.9  # of a GPU's memory, the most that predictions may add up to
VISIBLE = "CUDA_VISIBLE_DEVICES"
PATIENCE = 0.2  # seconds between two looks for a free GPU
MEMORIES = """import torch
numbers = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
print([torch.cuda.get_device_properties(number).total_memory for number in numbers])"""


def gpus() -> list[str]:
    """The GPUs that PyTorch can compute on, as CUDA_VISIBLE_DEVICES names them: by number, UUID or MIG instance."""
    visible = os.environ.get(VISIBLE)
    count = len(gpu_memories(visible))
    # CUDA ignores a name that it does not know and all that follow: those that count are the first ones.
    return [str(number) for number in range(count)] if visible is None else visible.replace(" ", "").split(",")[:count]


@functools.cache
def gpu_memories(visible: str | None) -> tuple[int, ...]:
    """The bytes of each GPU that PyTorch sees where CUDA_VISIBLE_DEVICES is as given.

    Another process imports PyTorch for this, which takes seconds.
    """
    if visible is not None and visible.strip() in ("", "-1"):
        return ()
    if importlib.metadata.version("torch").endswith("+cpu"):  # a build for CPUs alone
        return ()
    answer = subprocess.run(
        [sys.executable, "-c", MEMORIES], capture_output=True, text=True, encoding="utf-8", check=False
    )
    last = (answer.stdout.splitlines() or [""])[-1]
    is_list = answer.returncode == 0 and re.fullmatch(r"\[(\d+(, \d+)*)?\]", last)
    return tuple(json.loads(last)) if is_list else ()


def cells_per_gpu(wanted: int | Literal["auto"], megabytes: int, most: int) -> int:
    """How many cells share each GPU: as many as are wanted, or as many as fit, but no more than are worth it.

    Each of them needs so many `megabytes` of the GPU and a core to feed it; `most` are faster than one alone.
    """
    if wanted != "auto":
        return wanted
    fit = int(FILLED * min(gpu_memories(os.environ.get(VISIBLE))) / 2**20) // max(1, megabytes)
    return max(1, min(most, fit, cores() // len(gpus())))


def _is_hidden_from_torch() -> bool:
    """Whether NVIDIA's own tool lists a GPU, where PyTorch sees none although none was set apart from it."""
    if VISIBLE in os.environ or shutil.which("nvidia-smi") is None:
        return False
    answer = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, check=False)
    return answer.returncode == 0 and bool(answer.stdout.strip())


def resolve(placement: str) -> str:
    """'auto' is a GPU for each cell where PyTorch can use any, else the CPU; 'given' is what a cluster gives a job.

    Says so on standard error where there are GPUs that PyTorch cannot use. Raises `ConfigError` for an unknown
    placement and for GPUs that are not there.
    """
    if placement not in PLACEMENTS:
        raise ConfigError(f"placement={placement!r} is not allowed: choose {', '.join(PLACEMENTS)}.")
    if placement == "auto":
        if not gpus() and _is_hidden_from_torch():
            print("There is a GPU, but this PyTorch cannot use it: cells run on the CPU.", file=sys.stderr)
        return "gpu-each" if gpus() else "cpu"
    if placement.startswith("gpu") and not gpus():
        raise ConfigError(f"placement={placement!r} needs a GPU, and PyTorch finds none: choose 'cpu'.")
    return placement


def require_device(execution: Execution) -> None:
    """Raise `ConfigError` where a GPU is asked for by name and there is none, or one for each of more processes."""
    if execution.device != "cuda":
        return
    if not gpus():
        raise ConfigError("device='cuda' is not allowed: PyTorch finds no such device here; choose 'auto' or 'cpu'.")
    if execution.processes > len(gpus()):
        raise ConfigError(
            f"processes={execution.processes} is not allowed: each needs a GPU of its own and PyTorch finds "
            f"{len(gpus())}; choose no more than that, or device='cpu'."
        )


def threads(placement: str, left: int, together: bool = True, megabytes: int = 0, per_gpu: int = 1) -> int:
    """CPU threads for each of the cells that are left, so that as many run at once as there are devices for them.

    On a CPU as many cells as there are cores, with a core each, or one after another with all cores; on each GPU one,
    or `per_gpu`; no more than fit into memory where the largest is known to need so many `megabytes`.
    """
    without_gpus = cores() if together and placement != "gpu-all" else 1
    at_once = per_gpu * len(gpus()) if placement == "gpu-each" else without_gpus
    if megabytes:
        at_once = min(at_once, memory_mb() // megabytes)
    share = cores() // max(1, min(at_once, left))
    while megabytes and share < cores() and cores() // share > at_once:  # 8 // 3 threads each would be four cells
        share += 1
    return cores() // (cores() // share)


def slots(threads: int, offered: int | None) -> int:
    """How many of the cores that Snakemake offers a cell of so many threads takes, so that its own share suffices.

    Snakemake offers every core on which a process may run, whatever share of their time is its own; a cluster offers
    none, but what a job asks for.
    """
    return max(threads, offered // max(1, cores() // threads)) if offered else threads


@contextlib.contextmanager
def a_gpu() -> Iterator[str | None]:
    """Where ISONB_GPU asks for one: a GPU of this host for this process, set in CUDA_VISIBLE_DEVICES.

    As many processes share one as ISONB_GPU says; empty ones are filled first. Waits until there is room. There is room
    again when the process ends, however that comes. Raises `ConfigError` where ISONB_GPU is no such number.
    """
    sharing = _sharing()
    names = gpus() if sharing else []
    if not names:
        yield None
        return
    folder = places.runs_folder("gpus")
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for place, name in itertools.product(range(sharing), names):
            file = hashlib.sha256(name.encode()).hexdigest()[:16]  # a name may hold a slash
            beside = f"-{place}" if place else ""
            lock = filelock.FileLock(folder / f"{socket.gethostname()}-{file}{beside}.lock", blocking=False)
            try:
                lock.acquire()
            except filelock.Timeout:
                continue
            os.environ[VISIBLE] = name
            try:
                yield name
            finally:
                os.environ[VISIBLE] = ",".join(names)
                lock.release()
            return
        time.sleep(PATIENCE)


def _sharing() -> int:
    """How many processes share a GPU, 0 where none is asked for."""
    word = os.environ.get(GPU) or "0"
    if not (word.isascii() and word.isdecimal() and int(word[:9]) <= MOST_PER_GPU):
        raise ConfigError(f"{GPU}={word!r} is not allowed: give a number of processes that share a GPU, or unset it.")
    return int(word)
