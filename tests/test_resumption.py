"""A cell whose runner and kernel are killed in the middle of training is finished later, with the same record.

`make chaos` kills whole sweeps at random moments; this is the one kill that every test run can afford, and one stop.
"""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from chaos import without_times

from isonb.running import box, interruption

pytestmark = pytest.mark.slow

CELL = ["block=conv", "encoding=rff", "width=8", "image_size=8", "data_fraction=0.1", "epochs=2", "evaluation_masks=1"]
CELL += ["probe_epochs=3", "device=cpu", "threads=1", "precision=float32", "checkpoint_seconds=0"]
PATIENCE = 300  # seconds


def start(folder, *more, **variables):
    places = {"ISONB_RESULTS": str(folder / "results"), "ISONB_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
    places |= variables
    command = [sys.executable, "-m", "isonb", "run-cell", *CELL, *more]
    return subprocess.Popen(command, env=os.environ | places, stderr=subprocess.PIPE, text=True)


def result(folder):
    """The record without times and places, and the bytes of each array."""
    [path] = (folder / "results/smoke").glob("*.json")
    with np.load(path.with_suffix(".npz")) as arrays:
        return without_times(json.loads(path.read_text())), {name: arrays[name].tobytes() for name in arrays.files}


def checkpoints(folder):
    return sorted(path.name for path in folder.rglob("step-*.safetensors"))


def test_a_cell_that_is_killed_in_training_is_finished_by_the_same_command_with_the_same_record(tmp_path):
    """In the middle of a time box, of which the second command knows nothing."""
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    in_a_box = {box.UNTIL: f"{time.monotonic() + PATIENCE} {time.monotonic() + 2 * PATIENCE}"}
    with start(quiet) as undisturbed, start(killed, **in_a_box) as first:
        end = time.monotonic() + PATIENCE
        while not checkpoints(killed) and first.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        runner = psutil.Process(first.pid)
        for process in [runner, *runner.children(recursive=True)]:
            process.kill()
        assert undisturbed.wait(PATIENCE) == 0, undisturbed.stderr.read()
    assert "step-00000000" < checkpoints(killed)[-1] < checkpoints(quiet)[-1]
    assert not list(killed.rglob("smoke/*.json"))
    with start(killed) as second:
        assert second.wait(PATIENCE) == 0, second.stderr.read()
    (record, arrays), (expected, expected_arrays) = result(killed), result(quiet)
    assert {name for name in expected if record[name] != expected[name]} == set()
    assert arrays == expected_arrays


def test_a_cell_that_is_stopped_in_fine_tuning_says_so_and_keeps_its_trained_network(tmp_path):
    with start(tmp_path, "finetune_epochs=2000") as running:
        end = time.monotonic() + PATIENCE
        while running.poll() is None and time.monotonic() < end:
            if any("fine-tuned: " in path.read_text() for path in tmp_path.rglob("logs/*.log")):
                break
            time.sleep(0.05)
        trained = {path.name: path.read_bytes() for path in tmp_path.rglob("step-*.safetensors")}
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == interruption.STOPPED
        assert "was stopped: run the same command again to continue from its last checkpoint." in running.stderr.read()
    assert trained and trained == {path.name: path.read_bytes() for path in tmp_path.rglob("step-*.safetensors")}
    assert not list(tmp_path.rglob("smoke/*.json")) and not list(tmp_path.rglob("failed/*"))
