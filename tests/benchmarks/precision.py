"""What bfloat16 does to a result: the smallest cell of each block in float32 and in bfloat16, on the same images.

Beside the differences stands the spread of the seeds in the study's records of the same images: rounding that does
less than another seed does not decide a comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import repeat
import torch

from isonb import config, records, schema
from isonb.config import Execution
from isonb.evidence import metrics

STUDY = "cpu"
BLOCKS = ("conv", "mixer", "transformer")
PRECISIONS = ("float32", "bfloat16")


def run(study: str = STUDY, **changes: Any) -> Iterator[dict[str, Any]]:
    """One row per block, at size 1 with continuous input and seed 0; `changes` are further settings of its cells."""
    for block in BLOCKS:
        cell = config.cell(study, block=block, **changes)
        threads = torch.get_num_threads()
        made = {name: repeat.run_apart(cell, Execution(threads=threads, precision=name))[0] for name in PRECISIONS}
        data = made["float32"].data
        yield {
            "block": block,
            "depth": cell.run.depth,
            "encoding": cell.run.encoding,
            "device": made["float32"].environment.device,
            "data": data.name,
            "train_images": data.train,
            "test_images": data.test,
            "validation_loss": {name: record.training.validation_loss for name, record in made.items()},
            "accuracy": {name: record.probe.test_accuracy for name, record in made.items()},
            "seeds": spread(cell, data),
        }


def spread(cell: config.Cell, data: schema.Data) -> dict[str, float | int | None]:
    """Standard deviation of loss and accuracy over the seeds of a cell that have a record of the same images.

    `count` is how many these are; None for a deviation of fewer than two.
    """
    of_seeds = [
        record
        for record in records.read_study(cell.study)
        if record.cell.run.model_copy(update={"seed": cell.run.seed}) == cell.run
        if metrics.data_id(record.data) == metrics.data_id(data)
    ]
    losses = [record.training.validation_loss for record in of_seeds]
    accuracies = [record.probe.test_accuracy for record in of_seeds]
    several = len(of_seeds) > 1
    return {
        "count": len(of_seeds),
        "validation_loss": float(np.std(losses, ddof=1)) if several else None,
        "accuracy": float(np.std(accuracies, ddof=1)) if several else None,
    }
