"""Two processes of one thread against one process of one thread, on the same global batch.

torchrun starts this file twice. Both train together, then each by itself at the same time, then the first alone while
the other sleeps, in turns. What two processes lose that have nothing to do with each other is the machine's doing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import steps
import torch
from timing import Contestant, speed_up

from isonb.config import Execution, RunConfig
from isonb.training import data, train

PROCESSES = 2


def run(rounds: int, repeats: int) -> Iterator[dict[str, Any]]:
    """One row: conv at depth 3 and batch 64."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "row.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
        subprocess.run([*command, __file__, str(out), str(rounds), str(repeats)], check=True)
        yield json.loads(out.read_text())


def work(out: Path, rounds: int, repeats: int) -> None:
    """What each process does; the first writes the row."""
    config = RunConfig(block="conv", depth=3, batch_size=64)
    images = data.load(config)
    folder = Path(tempfile.gettempdir()) / "isonb-benchmark-without-checkpoints"
    execution = Execution(checkpoint_seconds=1e9)
    with train.join_world(execution) as world:
        torch.set_num_threads(1)
        together = train._Run(config, images, folder, execution, world)
        stop = threading.Event()

        def step(number: int) -> float:
            share_B = data.rank_slice(steps.batch(config, images, number), world.rank, world.size)
            return together._step(0, share_B, stop)[0]

        pair = Contestant("two processes", config.batch_size, step, keeps_memory=True)
        alone, apart = (steps.trainer(config, images, name) for name in ("one process", "each by itself"))
        for contestant in (pair, apart, alone):
            contestant.warm_up()
        for _ in range(rounds):
            for contestant in (pair, apart):
                world.sum(torch.zeros(1))  # all begin at once
                contestant.take(repeats)
            world.sum(torch.zeros(1))
            if world.rank == 0:
                alone.take(repeats)
        cpu = world.sum(torch.tensor(pair.cpu, dtype=torch.float64)).tolist()
        if world.rank == 0:
            ratio = speed_up(pair, alone)
            del ratio["processor_time"]
            out.write_text(json.dumps({
                "block": config.block,
                "depth": config.depth,
                "batch": config.batch_size,
                "processes": PROCESSES,
                "images_per_second": {one.name: one.images_per_second() for one in (pair, apart, alone)},
                "efficiency": {name: value / PROCESSES for name, value in ratio.items()},
                "efficiency_best_rounds": min(alone.wall) / min(pair.wall) / PROCESSES,
                "efficiency_processor_time": min(alone.cpu) / min(cpu),
                "efficiency_apart": speed_up(apart, alone)["median"],
                "loss_difference": max(abs(a - b) for a, b in zip(pair.losses, alone.losses, strict=True)),
            }))  # fmt: skip


if __name__ == "__main__":
    work(Path(sys.argv[1]), *map(int, sys.argv[2:]))
