"""How fast a kind of network trains: some real training steps of each kind are timed on this machine, once.

Two depths give a line: what every network costs, and what each operation in a block adds. torch is imported only where
something is timed.

Book: chapter "Training".
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

from isonb import places
from isonb.config import Cell, Execution, RunConfig
from isonb.features import even_colours
from isonb.running import predictions

DEPTHS = (1, 3)
WARM_UP, FEWEST, MOST, SECONDS = 3, 4, 64, 2.0  # then steps are timed, as many as take so long: short ones vary
LARGEST_BATCH = 32  # of a measurement; an image costs hardly less in a larger one


class _Enough(Exception):
    """Enough steps are timed."""


@dataclass(frozen=True)
class Throughput:
    """Seconds that one image costs in a training step: those of any network, and those of an operation in a block."""

    fixed: predictions.Seconds
    per_operation: predictions.Seconds

    def seconds(self, run: RunConfig) -> float:
        """Seconds an image of this network."""
        return self.fixed + self.per_operation * _operations(run)


def _operations(run: RunConfig) -> int:
    from isonb.models import blocks

    return run.depth * blocks.multiply_accumulates(run)


def kind(run: RunConfig) -> str:
    """The network by its name, which says the number of heads, its causal form, and its palette."""
    return run.network + ", causal" * run.is_causal + ", palette" * run.has_palette


def timed_as(run: RunConfig) -> str:
    """What has a throughput of its own: a kind of network, in batches of the size that is timed."""
    return f"{kind(run)}, batches of {min(run.batch_size, LARGEST_BATCH)}"


def given(images_per_second: float, cells: Sequence[Cell]) -> dict[str, Throughput]:
    """The same seconds an operation for every kind of network, from what the first cell reaches."""
    speed = Throughput(0.0, 1 / (images_per_second * _operations(cells[0].run)))
    return dict.fromkeys([timed_as(cell.run) for cell in cells], speed)


def measured(cells: Sequence[Cell], execution: Execution, at_once: int = 1) -> dict[str, Throughput]:
    """The throughput of all that cells are `timed_as`, in one of `at_once` processes: cached or by training steps."""
    import torch

    from isonb.training import launch

    threads = execution.threads or torch.get_num_threads()
    device = torch.cuda.get_device_name() if launch.is_on_gpu(execution) else f"cpu, {threads} threads"
    device += f", {at_once} at once" if at_once > 1 else ""
    path = cache(execution)
    known = predictions.load(path, Throughput)
    keys = {timed_as(cell.run): f"{timed_as(cell.run)} on {device}, torch {torch.__version__}" for cell in cells}
    for cell in cells:
        if (key := keys[timed_as(cell.run)]) not in known:
            known[key] = calibrate(cell.run, execution, at_once)
            predictions.keep(path, known)
    return {name: known[key] for name, key in keys.items()}


def cache(execution: Execution) -> Path:
    """Where measured throughputs are kept; delete the file to have them measured again."""
    return places.runs_folder("estimate") / f"throughput-{execution.precision}-{execution.threads}.json"


def calibrate(run: RunConfig, execution: Execution, at_once: int = 1) -> Throughput:
    """A line through the seconds an image of two depths."""
    low, high = (_seconds_at_once(run, depth, execution, at_once) for depth in DEPTHS)
    operations = [_operations(run.model_copy(update={"depth": depth})) for depth in DEPTHS]
    per_operation = max(high - low, 0.0) / (operations[1] - operations[0])
    return Throughput(max(low - per_operation * operations[0], 0.0), per_operation)


def _seconds_at_once(run: RunConfig, depth: int, execution: Execution, at_once: int) -> float:
    """The mean over processes that train at the same time, each of which takes time from the others."""
    if at_once == 1:
        return _seconds_per_image(run, depth, execution)
    with futures.ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as pool:
        return statistics.mean(pool.map(_seconds_per_image, *zip(*[(run, depth, execution)] * at_once, strict=True)))


def _seconds_per_image(run: RunConfig, depth: int, execution: Execution) -> float:
    """The median of some real steps of the trainer, on noise; masks, optimiser and all."""
    import torch

    from isonb.training import data, train

    batch_size = min(run.batch_size, LARGEST_BATCH)
    settings = {"depth": depth, "batch_size": batch_size, "epochs": 1, "warmup_epochs": 1.0, "evaluation_masks": 1}
    small = RunConfig(**{**run.model_dump(), **settings})
    images = (WARM_UP + MOST) * batch_size
    pixels_BNC = torch.randint(256, (images, small.image_size**2, 3), dtype=torch.uint8)
    noise = data.Split(pixels_BNC, torch.zeros(images, dtype=torch.int64), torch.arange(images))
    one = data.Split(noise.pixels_BNC[:1], noise.labels_B[:1], noise.index_B[:1])
    all_images = data.Images("noise", ("noise",), small.image_size, noise, one, one, {}, palette_KC=even_colours())
    told: list[tuple[int, float]] = []  # steps taken, and when; on a GPU several are told of at once

    def on_step(step: int, *_: float) -> None:
        told.append((step, time.perf_counter()))
        warm = _warm(told)
        if warm and warm[-1][0] - warm[0][0] >= FEWEST and warm[-1][1] - warm[0][1] >= SECONDS:
            raise _Enough

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Enough):
        train.pretrain(small, all_images, Path(folder), execution, on_step)
    pairs = itertools.pairwise(_warm(told))
    return statistics.median((later - then) / (last - first) for (first, then), (last, later) in pairs) / batch_size


def _warm(told: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """What was told from the last step of the warm-up on."""
    return [one for one in told if one[0] >= told[0][0] + WARM_UP - 1]
