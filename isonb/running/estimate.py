"""How long a study will take and what memory it needs, before it is started.

Hours are operations times a measured `throughput`; memory is that of a training step. torch is imported only where
something is measured or counted.

Book: chapter "Training".
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isonb import records, studies
from isonb.config import IMAGES, Cell, Execution, RunConfig
from isonb.features import CHANNELS
from isonb.running import memory, predictions, throughput
from isonb.running.throughput import Throughput
from isonb.training import sources

if TYPE_CHECKING:
    from isonb.models.network import IsotropicNetwork

Counts = tuple[int, int, int]  # training, validation and test images
FORWARD_SHARE = 1 / 3  # of a training step: the backward pass makes two products of each of the forward pass
DATA = {*IMAGES} - {"collection", "image_fit"}  # what numbers of images hang on


TIMED = 2  # images whose pass through a network is timed


@dataclass(frozen=True)
class Estimate:
    """A cell's predicted seconds: pre-training, and all that comes after it but the fit of the linear probes."""

    cell: Cell
    training: float
    evaluation: float
    memory_bytes: int

    @property
    def hours(self) -> float:
        """Training and evaluation together."""
        return (self.training + self.evaluation) / 3600


def published(run: RunConfig) -> Counts | None:
    """How many images of each split the run reads of the whole source; None where nobody has published how many."""
    if run.published is None:
        return None
    train, test = run.published
    validation = round(run.validation_fraction * train)
    return round(run.data_fraction * (train - validation)), validation, test


def images(run: RunConfig, execution: Execution) -> Counts:
    """How many training, validation and test images the run will read: counted if they are at hand, else published.

    Raises `DataError` where they are neither.
    """
    is_at_hand = execution.data_path or os.environ.get("ISONB_DATA")
    if not is_at_hand and (counts := published(run)):
        return counts
    read = sources.load(run, execution.data_path)
    return len(read.train.index_S), len(read.validation.index_S), len(read.test.index_S)


def estimate(
    cell: Cell,
    speed: Throughput,
    counts: Sequence[Counts],
    precision: str,
    micro_batch: int = 0,
    on_gpu: bool = False,
) -> Estimate:
    """One cell's cost: every epoch trains once and validates with every fixed mask; at the end test and features.

    `counts` are the images of pre-training, of the probes and of fine-tuning. Features are extracted once, or with
    probes along the training once for each epoch, and once of the untrained twin. Fine-tuning trains two networks.
    """
    (train, validation, test), probed, (tuned_train, tuned_validation, tuned_test) = counts
    run, seconds, tuned = cell.run, speed.seconds(cell.run), cell.finetune.epochs
    masks = 1 if run.is_causal else run.evaluation_masks
    extracted = (run.epochs if cell.probe.along else 1) + 1
    passes = masks * (validation * (run.epochs + 1) + test) + extracted * sum(probed)
    passes += cell.probe.pixels * (train + test) + 2 * (tuned * tuned_validation + (tuned > 0) * tuned_test)
    plain = run.model_copy(update={"seed": 0, "epochs": 1, "learning_rate": 0.01})  # what memory does not depend on
    batch_size = min(micro_batch or run.batch_size, run.batch_size)
    return Estimate(
        cell,
        training=run.epochs * train * seconds,
        evaluation=(passes * FORWARD_SHARE + 2 * tuned * tuned_train) * seconds,
        memory_bytes=memory.gpu_bytes(cell, batch_size, precision, train)
        if on_gpu
        else memory.training_bytes(plain, batch_size, precision),
    )


def seconds_of_a_pass(network: IsotropicNetwork, counts: Counts, precision: str) -> float:
    """What all these images cost that pass a network once, from a few that do so here; no labels are looked at."""
    import torch

    from isonb.training import evaluate

    size, device = network.config.image_size**2, next(network.parameters()).device
    some_BNC = torch.zeros(TIMED, size, CHANNELS, dtype=torch.uint8, device=device)
    with torch.inference_mode(), evaluate.autocast(device, precision):
        for _ in range(2):  # the first is a warm-up
            started = time.perf_counter()
            network.final_layer(some_BNC).sum().item()  # waits for the device
    return (time.perf_counter() - started) / TIMED * sum(counts)


def study(name: str, execution: Execution, images_per_second: float | None = None, at_once: int = 1) -> list[Estimate]:
    """Every cell of a study, in its order, where `at_once` cells run at a time.

    Raises `DataError` where its images can be neither counted nor looked up.
    """
    import torch

    from isonb.training import evaluate, launch

    cells = studies.cells(name)
    sources = [[RunConfig(**run.model_dump(include=DATA)) for run in _read_by_parts(cell)] for cell in cells]
    every = dict.fromkeys(source for of_cell in sources for source in of_cell)
    counts = {source: images(source, execution) for source in every}  # first, as it refuses missing data at once
    if images_per_second:
        speeds = throughput.given(images_per_second, cells)
    else:
        speeds = throughput.measured(cells, execution, at_once)
    on_gpu = launch.is_on_gpu(execution)
    precision = evaluate.resolve_precision(execution, torch.device("cuda" if on_gpu else "cpu"))
    return [
        estimate(
            cell,
            speeds[throughput.timed_as(cell.run)],
            [counts[source] for source in of_cell],
            precision,
            execution.micro_batch,
            on_gpu,
        )
        for cell, of_cell in zip(cells, sources, strict=True)
    ]


def _read_by_parts(cell: Cell) -> list[RunConfig]:
    """The settings by which pre-training, the probes and fine-tuning read their images."""
    return [cell.run, cell.run.read_by(cell.probe), cell.run.read_by(cell.finetune)]


def by_speed(study: str, speeds: Sequence[float]) -> list[dict[str, str]]:
    """A row for each network and size of a study: its cells, the hours of one on devices of some speeds, its memory.

    A speed is how many tera multiply-accumulates a second training sustains, of which a step has three for each of the
    forward pass. All published images are read; the memory is that of bfloat16 products on a GPU.
    """
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in studies.cells(study):
        groups.setdefault((throughput.kind(cell.run), cell.run.depth), []).append(cell)
    table = []
    for (network, size), cells in sorted(groups.items(), key=lambda group: group[0][1]):
        first = cells[0]
        counts = [published(run) or images(run, Execution()) for run in _read_by_parts(first)]
        of_speed = {speed: Throughput(0.0, 1 / (FORWARD_SHARE * speed * 1e12)) for speed in speeds}
        costs = {speed: estimate(first, of_speed[speed], counts, "bfloat16", on_gpu=True) for speed in speeds}
        row = {"network": network, "size": str(size), "cells": str(len(cells))}
        row |= {f"hours at {speed:g}": f"{cost.hours:.2f}" for speed, cost in costs.items()}
        table.append(row | {"memory": f"{next(iter(costs.values())).memory_bytes / 2**30:.1f} GiB"})
    return table


def remember(alone: Sequence[Estimate], together: Sequence[Estimate] = (), at_once: int | None = None) -> None:
    """Keep predictions for the dry runs of sweeps, and for their choice between one cell and several at once.

    On a GPU, `at_once` says how many cells are `together`.
    """
    seconds = {one.cell.run.run_id: 3600 * one.hours for one in together}
    predictions.write({
        one.cell.run.run_id: predictions.Prediction(
            alone=3600 * one.hours,
            together=seconds.get(one.cell.run.run_id),
            at_once=at_once,
            memory_bytes=one.memory_bytes,
        )
        for one in alone
    })  # fmt: skip


def as_text(estimates: Sequence[Estimate]) -> str:
    """One line for each kind of cell, the total, and how far off the predictions were for cells that have run."""
    lines = [f"{'network':<22}{'encoding':<12}{'size':>4}{'cells':>6}{'hours each':>12}{'memory':>11}"]
    groups: dict[tuple[str, str, int], list[Estimate]] = {}
    for one in estimates:
        groups.setdefault((throughput.kind(one.cell.run), one.cell.run.encoding, one.cell.run.depth), []).append(one)
    for (network, encoding, depth), cells in groups.items():
        needed = f"{cells[0].memory_bytes / 2**30:.2f} GiB"
        lines.append(f"{network:<22}{encoding:<12}{depth:>4}{len(cells):>6}{cells[0].hours:>12.2f}{needed:>11}")
    total = sum(one.hours for one in estimates)
    left = sum(one.hours for one in estimates if records.readable(one.cell) is None)
    lines.append(f"In all {total:.1f} hours for {len(estimates)} cells; {left:.1f} hours are left.")
    lines.append("Memory is a training step's, on a GPU a cell's, on top of what a process with torch takes anyway.")
    return "\n".join([*lines, *errors(estimates)])


def errors(estimates: Sequence[Estimate]) -> list[str]:
    """For each finished cell, the training seconds it took beside those predicted; a sentence where there is none."""
    lines = []
    for one in estimates:
        if record := records.readable(one.cell):
            took = record.training.seconds
            error = f"predicted {one.training:.0f} s, {one.training / took - 1:+.0%}."
            lines.append(f"{one.cell.run.run_id} trained for {took:.0f} s; {error}")
    return lines or ["No cell of this study has run yet, so the error of these numbers is unknown."]
