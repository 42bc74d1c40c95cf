"""Timing on a machine that others use, too: contestants take turns, and only ratios within a round are compared.

The trainer keeps the memory that its process has freed. Others do without, as they do where nobody sets that.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from isonb.training.allocator import MMAP_THRESHOLD, TRIM_THRESHOLD, keep_freed_memory

LARGEST_OF_HEAP = 32 * 2**20  # bytes; what glibc's threshold rises to by itself when large pieces are freed


@dataclasses.dataclass
class Contestant:
    """Something that takes a training step: `step(number)` returns its loss. Its seconds are kept by round."""

    name: str
    images: int
    step: Callable[[int], float]
    keeps_memory: bool = False
    wall: list[float] = dataclasses.field(default_factory=list)
    cpu: list[float] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)
    first_step: float = 0.0

    def take(self, steps: int) -> None:
        """Take one untimed step and some more; keep the seconds that one took, by the clock and on the processors."""
        keep_freed_memory() if self.keeps_memory else return_freed_memory()
        self.losses.append(self.step(len(self.losses)))
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.losses.append(self.step(len(self.losses)))
        self.wall.append((time.perf_counter() - wall) / steps)
        self.cpu.append((time.process_time() - cpu) / steps)

    def warm_up(self, steps: int = 2) -> None:
        """Take untimed steps; the first one's seconds are kept, as they hold what is compiled."""
        started = time.perf_counter()
        self.losses.append(self.step(0))
        self.first_step = time.perf_counter() - started
        for _ in range(steps - 1):
            self.losses.append(self.step(len(self.losses)))

    def images_per_second(self) -> float:
        """In the best round."""
        return self.images / min(self.wall)


def return_freed_memory() -> None:
    """What glibc settles on by itself: larger pieces than a limit are returned at once, and the heap beyond two."""
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, LARGEST_OF_HEAP)
        libc.mallopt(TRIM_THRESHOLD, 2 * LARGEST_OF_HEAP)


def alternate(contestants: Sequence[Contestant], rounds: int, steps: int) -> None:
    """Let everybody take `steps` steps in each round, in an order that moves on by one from round to round."""
    for contestant in contestants:
        contestant.warm_up(min(steps, 2))
    for number in range(rounds):
        shift = number % len(contestants)
        for contestant in (*contestants[shift:], *contestants[:shift]):
            contestant.take(steps)


def speed_up(ours: Contestant, theirs: Contestant) -> dict[str, float]:
    """How many times as fast we are: the median, least and greatest of the rounds' ratios; and in processor time."""
    ratios = [b / a * ours.images / theirs.images for a, b in zip(ours.wall, theirs.wall, strict=True)]
    cpu = [b / a * ours.images / theirs.images for a, b in zip(ours.cpu, theirs.cpu, strict=True)]
    return {
        "median": statistics.median(ratios),
        "least": min(ratios),
        "greatest": max(ratios),
        "processor_time": statistics.median(cpu),
    }


def multiply_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 8) -> float:
    """Multiply-accumulates a second of a large square matrix product, the best of some."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    seconds = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - started)
    return size**3 / min(seconds[2:])


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code. `load` is how many processes wanted to run as it began."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "float32_rate": multiply_rate(torch.float32),
        "bfloat16_rate": multiply_rate(torch.bfloat16),
    }
