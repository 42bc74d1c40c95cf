"""Compiled training, steps ahead of the host: the same run as one step at a time, on a CPU and without a compiler.

Each part runs in a process of its own (`compiled_runs`). A graph that breaks fails in every one of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compiled_runs import KINDS, RUNS

from isonb.config import Execution, RunConfig
from isonb.models import encodings, fixed, objectives
from isonb.training import evaluate

ROUNDING = 1e-9  # in double precision; Adam magnifies what is left of a gradient of zero
pytestmark = pytest.mark.slow


def told(part, folder):
    """What a part of `compiled_runs` says of each case."""
    here = Path(__file__).parent
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "compiled_runs.py", part, str(folder)]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line.pop("case"): line for line in lines}, done.stderr


def assert_close(case):
    assert max(case["losses"], case["weights"]) < ROUNDING


def test_every_kind_of_network_has_one_graph_with_the_same_loss_and_gradients(tmp_path):
    found, _ = told("kinds", tmp_path)
    assert list(found) == list(KINDS)
    assert {name: case for name, case in found.items() if max(case["loss"], case["gradients"]) > ROUNDING} == {}


def test_a_compiled_run_is_the_same_run_whatever_fits_the_graph(tmp_path):
    found, warned = told("runs", tmp_path)
    assert list(found) == [*RUNS, "too many for the graph"] and "cannot be compiled" not in warned
    for case in found.values():
        assert_close(case)


def test_a_table_may_learn_by_one_product(tmp_path):
    found, warned = told("product", tmp_path)
    assert_close(found["product"])
    assert "cannot be compiled" not in warned


def test_a_run_stops_and_goes_on_at_any_step_with_the_same_bits(tmp_path):
    found = told("interruptions", tmp_path)[0]["interrupted"]
    assert found["message"] == "Stopped after step 2 of 6: run the same command again."
    assert found["files"] == ["step-00000002.safetensors"]
    assert found["same"] == [True, True]  # interrupted, and several steps at once
    assert found["told"] == [1, 3, 4, 6]  # after the first step as many as the epoch has


def test_what_is_not_finite_ends_a_run_at_its_very_step_and_leaves_sound_weights(tmp_path):
    found, _ = told("divergence", tmp_path)
    for what in ("gradient", "loss"):
        assert found[what]["message"] == (
            f"The {what} is not finite at step 4 with learning rate 0.0075; lower the learning rate. "
            "The last good checkpoint is FOLDER/step-00000004.safetensors."
        )
        assert found[what]["finite"] and found[what]["same"]
    assert told("broken", tmp_path)[0]["broken"] == {"same": True, "told": [None, "gradient"]}


def test_without_a_compiler_a_warning_says_so_and_the_run_is_the_same(tmp_path):
    found = told("uncompiled", tmp_path)[0]["uncompiled"]
    assert found["warned"] == [
        "The training step cannot be compiled here, and is slower (no compiler is installed): compile=False leaves it "
        "as it is."
    ]
    assert_close(found)


def test_one_process_may_compile_many_networks(tmp_path):
    found, _ = told("many", tmp_path)
    assert found["many"]["graphs"] == 10


def test_two_processes_compile_the_same_run(tmp_path):
    found, warned = told("processes", tmp_path)
    assert list(found) == ["shares", "images"] and "cannot be compiled" not in warned
    for case in found.values():
        assert_close(case)


def test_steps_are_compiled_on_a_gpu_unless_told_otherwise_and_on_a_cpu_where_told():
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    for chosen, expected in ((None, (False, True)), (True, (True, True)), (False, (False, False))):
        assert tuple(evaluate.compiles(Execution(compile=chosen), device) for device in (cpu, gpu)) == expected


@pytest.mark.parametrize(
    ("settings", "share"),
    [({}, 0.15), ({"mask_unit": "subpixel"}, 1 - 0.85**3), ({"mask_rate": 0.999}, 0.999),
     ({"objective": "autoregressive"}, 1.0)],
)  # fmt: skip
def test_the_graph_has_room_for_hardly_more_than_what_is_scored(settings, share):
    config = RunConfig(**settings)
    room, positions = fixed.capacity(config, 128), 128 * 1024
    assert room <= positions and (room % 64 == 0)
    deviation = (positions * share * (1 - share)) ** 0.5
    assert min(positions, positions * share + 7 * deviation) <= room < positions * share + 7 * deviation + 65


def test_the_counts_of_an_epoch_are_those_of_its_masks(monkeypatch):
    monkeypatch.setattr(fixed, "AT_ONCE", 3)
    config, index_B = RunConfig(image_size=8, mask_unit="subpixel"), 5 * torch.arange(7)
    is_scored_BNC = objectives.sample_scored(config, index_B, "training", 4)
    positions_B, subpixels_B = fixed.scored(config, index_B, 4)
    assert positions_B.tolist() == [int((image.sum(1) > 0).sum()) for image in is_scored_BNC]
    assert subpixels_B.tolist() == [int(image.sum()) for image in is_scored_BNC]


def test_a_tables_gradient_is_the_same_added_and_multiplied():
    generator = torch.Generator().manual_seed(0)
    gradient_TD = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    row_TC = torch.randint(0, 7, (50, 3), generator=generator, dtype=torch.int32)
    expected_RD = torch.zeros(7, 4, dtype=torch.float64)
    for token in range(50):
        for row in row_TC[token].tolist():
            expected_RD[row] += gradient_TD[token]
    for gradient_of in (encodings.by_adding, encodings.by_product):
        torch.testing.assert_close(gradient_of(gradient_TD, row_TC, 7), expected_RD, rtol=1e-12, atol=1e-12)
