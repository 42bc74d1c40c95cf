"""What `python -m isonb estimate` predicts for the training of two smoke cells, and what it then takes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isonb import config
from isonb.config import Execution
from isonb.running import throughput
from isonb.training import data, train


def run(blocks: tuple[str, ...] = ("conv", "mixer")) -> Iterator[dict[str, Any]]:
    """One row a cell: seconds of training, predicted from a few steps that are taken just before, and measured."""
    for block in blocks:
        run = config.smoke(block=block).run
        images = data.load(run)
        predicted = run.epochs * len(images.train) * throughput.calibrate(run, Execution()).seconds(run)
        with tempfile.TemporaryDirectory() as folder:
            measured = train.pretrain(run, images, Path(folder), Execution()).progress.seconds
        yield {
            "block": run.block,
            "depth": run.depth,
            "batch": run.batch_size,
            "images": run.epochs * len(images.train),
            "predicted_seconds": predicted,
            "measured_seconds": measured,
        }
