"""What a sweep adds to a cell, by notebook, kernel, runner and Snakemake, to a script with the same calls."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isonb import places

CELLS = 3
TINY = "width = 8\nimage_size = 8\ndata_fraction = 0.1\nepochs = 1\nevaluation_masks = 1\nprobe_epochs = 1\n"
STUDY = 'study = "smoke"\n' + "".join(f"[[cell]]\nseed = {seed}\n{TINY}" for seed in range(CELLS))
SCRIPT = """
import sys
from isonb import config, records
from isonb.running import sweep
from isonb.training import data, launch, outcome, probes
cell, execution = sweep.cells(sys.argv[1])[int(sys.argv[2])], config.Execution(device="cpu", threads=1)
images = data.load(cell.run)
pretrained = launch.pretrain(cell, images, execution)
probed = probes.of_network(pretrained.network, images, cell.probe, pretrained.progress.precision)
records.write_record(*outcome.record(cell, images, pretrained, probed, execution))
"""


def run() -> Iterator[dict[str, Any]]:
    """One row: seconds a cell, by the clock and of processor time, of script and sweep, one cell after another."""
    seconds = {}
    for way in ("script", "sweep"):
        with tempfile.TemporaryDirectory() as folder:
            study = Path(folder) / "study.toml"
            study.write_text(STUDY)
            script = [[sys.executable, "-c", SCRIPT, study, str(number)] for number in range(CELLS)]
            settings = [f"study={study}", "placement=cpu", "threads=1", "book=no"]
            whole = [[Path(sys.executable).with_name("snakemake"), "--cores", "1", "--config", *settings]]
            folders = {"ISONB_RESULTS": f"{folder}/results", "ISONB_RUNS": f"{folder}/runs", "OMP_NUM_THREADS": "1"}
            before, started = _processor_time(), time.perf_counter()
            for command in script if way == "script" else whole:
                subprocess.run(command, cwd=places.PROJECT, env=os.environ | folders, check=True, capture_output=True)
            clock = (time.perf_counter() - started) / CELLS
            seconds[way] = {"clock": clock, "processor": (_processor_time() - before) / CELLS}
    added = {name: seconds["sweep"][name] - seconds["script"][name] for name in ("clock", "processor")}
    yield {"cells": CELLS, "seconds_per_cell": seconds, "added": added}


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
