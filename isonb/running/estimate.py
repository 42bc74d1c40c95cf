"""How long a profile's study will take and what memory it needs, before it is started.

Hours are operations times a throughput that a few real training steps of each kind of network measure on this
machine, once. Memory is counted: what a training step keeps for its backward pass, with an allowance for what comes and
goes, weights, gradients and Adam's two averages. torch is imported only where something is measured or counted.

Book: chapter "Training".
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

from isonb import config, records, studies
from isonb.config import Execution, RunConfig
from isonb.fingerprints import CIFAR10_IMAGES
from isonb.running import predictions

DEPTHS = (1, 3)  # two points make a line: what every network costs, and what each block adds
WARM_UP, FEWEST, MOST, SECONDS = 3, 4, 64, 2.0  # then steps are timed, as many as take so long: short ones vary
LARGEST_BATCH = 32  # of a measurement; an image costs hardly less in a larger one
BYTES_PER_PARAMETER = 16  # float32 weight, gradient, and Adam's two averages
TRANSIENT = 1.8  # measured peak over what is kept: gradients under way, and what the allocator does not give back
Counts = tuple[int, int, int]  # training, validation and test images
FORWARD_SHARE = 1 / 3  # of a training step: the backward pass makes two products of each of the forward pass


class _Enough(Exception):
    """Enough steps are timed."""


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Seconds that one image costs in a training step: those of any network, and those of an operation in a block."""

    fixed: float
    per_operation: float

    def seconds(self, run: RunConfig) -> float:
        """Seconds an image of this network."""
        return self.fixed + self.per_operation * _operations(run)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A cell's predicted seconds: pre-training, and all that comes after it but the fit of the linear probes."""

    cell: config.Cell
    training: float
    evaluation: float
    memory_bytes: int

    @property
    def hours(self) -> float:
        """Training and evaluation together."""
        return (self.training + self.evaluation) / 3600


def _operations(run: RunConfig) -> int:
    from isonb.models import blocks

    return run.depth * blocks.multiply_accumulates(run)


def kind(run: RunConfig) -> str:
    """The block, with the number of heads of a transformer, and its causal form."""
    return run.block + (f"-{run.heads}" if run.block == "transformer" else "") + ", causal" * run.is_causal


def timed_as(run: RunConfig) -> str:
    """What has a throughput of its own: a kind of network, in batches of the size that is timed."""
    return f"{kind(run)}, batches of {min(run.batch_size, LARGEST_BATCH)}"


def given(images_per_second: float, cells: list[config.Cell]) -> dict[str, Throughput]:
    """The same seconds an operation for every kind of network, from what the first cell is said to reach."""
    speed = Throughput(0.0, 1 / (images_per_second * _operations(cells[0].run)))
    return dict.fromkeys([timed_as(cell.run) for cell in cells], speed)


def measured(cells: list[config.Cell], execution: Execution, at_once: int = 1) -> dict[str, Throughput]:
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
    return records.runs_folder("estimate") / f"throughput-{execution.precision}-{execution.threads}.json"


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
    small = RunConfig(**{**run.model_dump(), **settings, "data": "photos", "validation_fraction": 0.1})
    images = (WARM_UP + MOST) * batch_size
    pixels_BNC = torch.randint(256, (images, small.image_size**2, 3), dtype=torch.uint8)
    noise = data.Split(pixels_BNC, torch.zeros(images, dtype=torch.int64), torch.arange(images))
    one = data.Split(noise.pixels_BNC[:1], noise.labels_B[:1], noise.index_B[:1])
    all_images = data.Images("noise", ("noise",), small.image_size, noise, one, one, {})
    times: list[float] = []

    def on_step(*_: float) -> None:
        times.append(time.perf_counter())
        if len(times) >= WARM_UP + FEWEST and times[-1] - times[WARM_UP - 1] >= SECONDS:
            raise _Enough

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Enough):
        train.pretrain(small, all_images, Path(folder), execution, on_step)
    return statistics.median(b - a for a, b in zip(times[WARM_UP - 1 :], times[WARM_UP:], strict=False)) / batch_size


@functools.cache
def memory_bytes(run: RunConfig, batch_size: int, precision: str, on_gpu: bool = False) -> int:
    """Weights, gradients, Adam's state, and what one training step of that batch keeps for its backward pass.

    What is kept is counted on two images of a CPU, once for each storage however often it is kept. On a GPU autocast
    hands a LayerNorm float32, as it does not on a CPU.
    """
    import torch

    from isonb.models import network as networks
    from isonb.models import objectives
    from isonb.training import evaluate

    network = networks.build_network(run)
    for layer in network.modules() if on_gpu and precision == "bfloat16" else ():
        if isinstance(layer, torch.nn.LayerNorm):
            layer.register_forward_pre_hook(lambda _, inputs: tuple(x.float() for x in inputs))
    index_B = torch.arange(2)
    pixels_BNC = torch.zeros(2, run.image_size**2, 3, dtype=torch.uint8)
    own = {p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.Tensor] = {}  # holding the tensors keeps their addresses from being used again

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), evaluate.autocast(torch.device("cpu"), precision):
        objectives.summed_loss(network, pixels_BNC, objectives.sample_scored(run, index_B, "training"), run.objective)
    shapes = {p.shape for p in network.parameters()}  # a bfloat16 copy of a weight does not grow with the batch
    growing = [x for address, x in kept.items() if address not in own and x.shape not in shapes]
    activations = sum(x.untyped_storage().nbytes() for x in growing) / len(index_B)
    return networks.parameters(network) * BYTES_PER_PARAMETER + round(TRANSIENT * activations * batch_size)


def images(run: RunConfig, execution: Execution) -> Counts:
    """How many training, validation and test images the run will read: counted if they are at hand, else published."""
    if run.data == "photos" or execution.data_path or os.environ.get("ISONB_DATA"):
        from isonb.training import data

        found = data.load(run, execution.data_path)
        return len(found.train), len(found.validation), len(found.test)
    return _published_images(run)


def _published_images(run: RunConfig) -> Counts:
    validation = round(run.validation_fraction * CIFAR10_IMAGES[0])
    return round(run.data_fraction * (CIFAR10_IMAGES[0] - validation)), validation, CIFAR10_IMAGES[1]


def estimate(
    cell: config.Cell, speed: Throughput, counts: Counts, precision: str, micro_batch: int = 0, on_gpu: bool = False
) -> Estimate:
    """One cell's cost: every epoch trains once and validates with every fixed mask; at the end test and features.

    Features are extracted once, or with probes along the training once for each epoch. Fine-tuning trains two networks.
    """
    run = cell.run
    train, validation, test = counts
    seconds, tuned = speed.seconds(run), cell.finetune.epochs
    masks = 1 if run.is_causal else run.evaluation_masks
    passes = masks * (validation * (run.epochs + 1) + test) + (run.epochs if cell.probe.along else 1) * sum(counts)
    passes += cell.probe.pixels * (train + test) + 2 * (tuned * validation + (tuned > 0) * test)
    plain = run.model_copy(update={"seed": 0, "epochs": 1, "learning_rate": 0.01})  # what memory does not depend on
    return Estimate(
        cell,
        training=run.epochs * train * seconds,
        evaluation=(passes * FORWARD_SHARE + 2 * tuned * train) * seconds,
        memory_bytes=memory_bytes(plain, min(micro_batch or run.batch_size, run.batch_size), precision, on_gpu),
    )


def study(name: str, execution: Execution, images_per_second: float | None = None, at_once: int = 1) -> list[Estimate]:
    """Every cell of the study of the profile `name`, in its order, where `at_once` cells run at a time."""
    import torch

    from isonb.training import evaluate, launch

    cells = studies.cells(name)
    decisive = {"data", "data_fraction", "validation_fraction"}
    sources = [RunConfig(**cell.run.model_dump(include=decisive)) for cell in cells]
    counts = {source: images(source, execution) for source in set(sources)}  # first, as it refuses missing data at once
    speeds = given(images_per_second, cells) if images_per_second else measured(cells, execution, at_once)
    on_gpu = launch.is_on_gpu(execution)
    precision = evaluate.resolve_precision(execution, torch.device("cuda" if on_gpu else "cpu"))
    return [
        estimate(cell, speeds[timed_as(cell.run)], counts[source], precision, execution.micro_batch, on_gpu)
        for cell, source in zip(cells, sources, strict=True)
    ]


def by_speed(profile: str, speeds: Sequence[float]) -> list[dict[str, str]]:
    """A row for each network and size of a profile: its cells, the hours of one on devices of some speeds, its memory.

    A speed is how many tera multiply-accumulates a second training sustains, of which a step has three for each of the
    forward pass. Read are the published numbers of images; the memory is that of bfloat16 products on a GPU.
    """
    groups: dict[tuple[str, int], list[config.Cell]] = {}
    for cell in studies.cells(profile):
        groups.setdefault((kind(cell.run), cell.run.depth), []).append(cell)
    rows = []
    for (network, size), cells in sorted(groups.items(), key=lambda group: group[0][1]):
        of_speed = {speed: Throughput(0.0, 1 / (FORWARD_SHARE * speed * 1e12)) for speed in speeds}
        counts = _published_images(cells[0].run)
        found = {speed: estimate(cells[0], of_speed[speed], counts, "bfloat16", on_gpu=True) for speed in speeds}
        row = {"network": network, "size": str(size), "cells": str(len(cells))}
        row |= {f"hours at {speed:g}": f"{one.hours:.2f}" for speed, one in found.items()}
        rows.append(row | {"memory": f"{next(iter(found.values())).memory_bytes / 2**30:.1f} GiB"})
    return rows


def remember(alone: list[Estimate], together: list[Estimate] | None = None) -> None:
    """Keep predictions for the dry runs of sweeps, and for their choice between one cell and several at once."""
    seconds = {one.cell.run.run_id: 3600 * one.hours for one in together or []}
    found = {one.cell.run.run_id: one for one in alone}
    predictions.write({
        name: predictions.Prediction(alone=3600 * one.hours, together=seconds.get(name), memory_bytes=one.memory_bytes)
        for name, one in found.items()
    })  # fmt: skip


def as_text(found: list[Estimate]) -> str:
    """One line for each kind of cell, the total, and how far off the predictions were for cells that have run."""
    lines = [f"{'network':<22}{'encoding':<12}{'size':>4}{'cells':>6}{'hours each':>12}{'memory':>11}"]
    groups: dict[tuple[str, str, int], list[Estimate]] = {}
    for one in found:
        groups.setdefault((kind(one.cell.run), one.cell.run.encoding, one.cell.run.depth), []).append(one)
    for (network, encoding, depth), cells in groups.items():
        memory = f"{cells[0].memory_bytes / 2**30:.2f} GiB"
        lines.append(f"{network:<22}{encoding:<12}{depth:>4}{len(cells):>6}{cells[0].hours:>12.2f}{memory:>11}")
    total = sum(one.hours for one in found)
    left = sum(one.hours for one in found if records.readable(one.cell) is None)
    lines.append(f"In all {total:.1f} hours for {len(found)} cells; {left:.1f} hours are left.")
    memory = "Memory is a training step's, beyond what a process with torch holds anyway."
    return "\n".join([*lines, memory, *errors(found)])


def errors(found: list[Estimate]) -> list[str]:
    """For each finished cell, the training seconds it took beside those predicted; a sentence where there is none."""
    lines = []
    for one in found:
        if record := records.readable(one.cell):
            took = record.training.seconds
            error = f"predicted {one.training:.0f} s, {one.training / took - 1:+.0%}."
            lines.append(f"{one.cell.run.run_id} trained for {took:.0f} s; {error}")
    return lines or ["No cell of this profile has run yet, so the error of these numbers is unknown."]
