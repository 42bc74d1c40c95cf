"""Whether finished cells come out again: each is run anew in a folder of its own and compared, bit for bit.

On the kind of processor that made it a record comes out with the same bits; on another kind it differs by rounding.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isonb import config, places, records, rows, schema
from isonb.evidence import metrics
from isonb.running import runner

STUDY = "cpu"
PARTS = ("data", "counts", "baselines", "training", "reconstruction", "encoding", "probe")
CHOSEN = {("conv", "continuous"), ("mixer", "pix2vec"), ("transformer", "rff")}  # all blocks, and all encodings
MAY_DIFFER = {"seconds", "peak_memory_bytes", "along"}  # times, memory, and probes that are not asked for again


def run() -> Iterator[dict[str, Any]]:
    """One row per block, each with another encoding: its smallest finished network of the grid, and what differs."""
    cheapest: dict[str, schema.Record] = {}
    for record in sorted(records.read_study(STUDY), key=lambda one: one.counts.multiply_accumulates):
        run = record.cell.run
        at_hand = rows.SOURCES[run.data].load().checksums(run, None)
        can_run = metrics.arm(record.cell) == metrics.MAIN and at_hand == record.data.sha256
        if can_run and (run.block, run.encoding) in CHOSEN:
            cheapest.setdefault(run.block, record)
    if not cheapest:
        yield {"skipped": f"No finished cell of the study {STUDY} has its images in ISONB_DATA: set it."}
    for record in cheapest.values():
        yield _repeat(record)


def _repeat(record: schema.Record) -> dict[str, Any]:
    cell = config.Cell(study=STUDY, run=record.cell.run)
    execution = config.Execution(threads=record.environment.threads, precision=record.environment.precision)
    again, arrays = run_apart(cell, execution)
    before, after = (_leaves({part: one.model_dump()[part] for part in PARTS}) for one in (record, again))
    kept = records.read_arrays(records.record_path(record.cell))
    return {
        "run_id": record.run_id,
        "device": record.environment.device,
        "numbers": len(before),
        "arrays": len(kept),
        "different": [
            *(name for name in sorted({*before, *after}) if before.get(name) != after.get(name)),
            *(name for name in sorted({*kept, *arrays}) if not _same(kept.get(name), arrays.get(name))),
        ],
        "test_loss_difference": abs(again.training.test_loss - record.training.test_loss),
    }


def run_apart(cell: config.Cell, execution: config.Execution) -> tuple[schema.Record, dict[str, np.ndarray]]:
    """Run a cell in a process and in folders of its own, which are removed; returns its record and its arrays."""
    settings = [f"{name}={value}" for name, value in runner.parameters(cell, execution).items() if name != "study"]
    with tempfile.TemporaryDirectory() as folder:
        folders = {"ISONB_RESULTS": f"{folder}/results", "ISONB_RUNS": f"{folder}/runs"}
        command = [sys.executable, "-m", "isonb", "run-cell", "--study", cell.study, *settings]
        subprocess.run(command, cwd=places.PROJECT, env=os.environ | folders, check=True, capture_output=True)
        path = Path(folder) / "results" / cell.study / f"{cell.run.run_id}.json"
        return records.read_record(path), records.read_arrays(path)


def _leaves(content: object, name: str = "") -> dict[str, object]:
    """Every number and word of a nested structure, by its place in it."""
    if isinstance(content, dict):
        parts = {key: value for key, value in content.items() if key not in MAY_DIFFER}
    elif isinstance(content, list):
        parts = dict(enumerate(content))
    else:
        return {name: content}
    return {place: leaf for key, value in parts.items() for place, leaf in _leaves(value, f"{name}/{key}").items()}


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)
