"""`make gpu` where there is no GPU, and what the book shows of it where there was one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isonb.evidence import gpu
from isonb.records import RecordError

MACHINE = {"processor": "A processor", "cores": 2, "threads": 1, "amx": True, "avx512_bf16": False,
           "torch": "2.0", "load": 0.25}  # fmt: skip
SPEED = {
    "network": "conv", "depth": 6, "batch": 128, "images_per_second": {"ours": 9000.0, "step by step": 3000.0},
    "operations_per_second": 1.5e14, "first_step_seconds": 20.0, "peak_bytes": 3 * 2**30,
}  # fmt: skip


def check(holds, name="mask bits"):
    return {"check": name, "found": 0.0, "bound": 0.0, "holds": holds}


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    path = tmp_path / "benchmarks" / "gpu.json"
    path.parent.mkdir()
    return lambda rows: path.write_text(json.dumps({"machine": MACHINE, "seconds": 1.0, "rows": rows}))


def test_nothing_is_guessed_where_no_gpu_was_measured(write):
    assert gpu.in_words() == "On a GPU: not yet measured."
    assert gpu.table().to_dict("records") == [{"network": "not yet measured"}]


def test_a_gpu_is_named_with_its_checks_and_its_speeds(write):
    write([{"name": "A <GPU>", "rate": 6e14}, check(True), check(False, "losses"), SPEED])
    words = gpu.in_words()
    assert "600 tera operations a second" in words and "1 of 2 checks hold, but not these: losses." in words
    assert "<GPU>" not in words  # it is text
    assert gpu.table().to_dict("records") == [
        {"network": "conv", "size": 6, "batch": 128, "images a second": "9,000", "tera operations a second": "150",
         "share of the product rate": "25%", "peak memory": "3072 MiB", "times step by step": "3.0"}
    ]  # fmt: skip


@pytest.mark.parametrize("row", [{"name": "A GPU"}, check(None), SPEED | {"images_per_second": {"plain": 1.0}}, {}])
def test_a_row_that_is_neither_a_gpu_nor_a_check_nor_a_speed_is_refused(write, row):
    write([row])
    with pytest.raises(RecordError, match="run make bench BENCH=gpu again"):
        gpu.rows("gpu")


@pytest.mark.slow
def test_without_a_gpu_one_sentence_says_so_and_nothing_is_kept(tmp_path):
    script = Path(__file__).parent / "benchmarks"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "ISONB_RESULTS": str(tmp_path)}
    done = subprocess.run([sys.executable, script, "gpu"], env=environment, capture_output=True, text=True, check=False)
    sentence = "make gpu: there is no GPU here that PyTorch can use, so nothing was checked or measured.\n"
    assert (done.returncode, done.stdout) == (0, sentence)
    assert list(tmp_path.iterdir()) == []
