"""`make gpu` where there is no GPU, all of its script on a CPU, and what the book shows of it where there was one."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import recorded
import torch

from isonb.evidence import gpu
from isonb.records import RecordError
from isonb.training import ahead, train

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


@pytest.fixture
def script(monkeypatch):
    """The part `gpu` of the benchmarks; steps are recorded by a stand-in, and nothing is handed to a compiler."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "benchmarks")
    graphs = recorded.on_cpu(monkeypatch)
    part = importlib.import_module("gpu")
    part.graphs = graphs
    return part


@pytest.mark.slow
def test_all_of_the_script_runs_and_the_book_shows_what_it_finds(script, write, tmp_path, monkeypatch):
    place = Path(__file__).parent / "benchmarks" / "__main__.py"
    spec = importlib.util.spec_from_file_location("benchmarks", place)
    benchmarks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmarks)
    monkeypatch.setattr(benchmarks, "machine", lambda: MACHINE | {"python": "3", "float32_rate": 1, "bfloat16_rate": 1})
    rows = []
    benchmarks.write("gpu", (rows.append(row) or row for row in script.run("cpu")))
    assert [row["check"] for row in rows if not row.get("holds", True)] == []
    names = ["conv", "mixer", "transformer-1", "transformer-4"]
    ways = ("compiled: nats apart", "not recorded: nats apart", "in float32, step by step: nats apart")
    expected = [f"{name}, {what}" for name in names for what in (*(f"4 steps {way}" for way in ways), "warnings")]
    expected = [text.replace(", warnings", ": warnings") for text in expected]
    expected += [
        "mask bits that differ",
        "a resumed run: nats apart at its end",
        "words of a divergence that are missing",
    ]
    assert [row["check"] for row in rows if "check" in row] == expected
    assert len(script.graphs()) > len(names)
    speeds = {row["network"]: row["images_per_second"] for row in rows if "network" in row}
    assert list(speeds) == names
    for name, others in speeds.items():
        library = {"ImageGPT", "ImageGPT compiled"} if "transformer" in name else set()
        assert {"ours", "step by step", "plain", "plain compiled", *library} <= {*others}
    assert f"{len(expected)} of {len(expected)} checks hold." in gpu.in_words()
    assert list(gpu.table()["network"]) == names
    text = (tmp_path / "benchmarks" / "gpu.txt").read_text()
    assert text.count("  holds: ") == len(expected) and "FAILS" not in text


def test_an_error_is_a_check_that_fails_and_ends_nothing(script, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("CUDA error: device-side assert triggered")

    for name in ("speeds", "losses", "resumed", "diverged"):
        monkeypatch.setattr(script, name, fail)
    found = [row for row in script.run("cpu") if "check" in row]
    assert [row["check"] for row in found if not row["holds"]] == [
        *(f"{name}, {what}: errors" for name in ("conv", "mixer", "transformer-1", "transformer-4")
          for what in ("speeds", "losses")),
        "a resumed run: nats apart at its end: errors", "words of a divergence that are missing: errors",
    ]  # fmt: skip
    assert [row["check"] for row in found if row["holds"]] == ["mask bits that differ"]
    assert capsys.readouterr().err.count("RuntimeError: CUDA error") == 10


def test_the_checks_of_the_script_can_fail(script, monkeypatch):
    config, on = script.RunConfig(**script.TINY, epochs=1), torch.device("cpu")
    images = script.noise(config, 4)
    sound = ahead.Steps.read
    monkeypatch.setattr(script.objectives.splitmix, "is_below", lambda share, bits: bits > 0)
    assert script.masks(config, images, on) > 0

    def read(steps):
        launched = steps.launched - steps.read_from
        sound(steps)
        return [ahead.Taken(1.0, 1, None)] * launched  # as if nothing had happened

    monkeypatch.setattr(ahead.Steps, "read", read)
    assert [row["holds"] for row in script.losses(config, images, on, 4)] == [False, False, True, True]
    assert script.diverged(config, images, on) > 0


def test_a_full_memory_is_made_and_undone(script, monkeypatch):
    config, shares = script.RunConfig(**script.TINY), []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda on: 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda on: type("Properties", (), {"total_memory": 2**34}))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, on: shares.append(share))
    for words, missing in (
        ("The memory of a GPU is full: set micro_batch to fewer images.", 0),
        ("Something else.", 2),
    ):

        def fail(*_, words=words):
            raise train.TrainingError(words)

        monkeypatch.setattr(train, "pretrain", fail)
        assert script.full(config, script.noise(config, 1), torch.device("cuda")) == missing
    assert shares == [2**-4 + 2**-8, 1.0] * 2


@pytest.mark.slow
def test_without_a_gpu_one_sentence_says_so_and_nothing_is_kept(tmp_path):
    script = Path(__file__).parent / "benchmarks"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "ISONB_RESULTS": str(tmp_path)}
    done = subprocess.run([sys.executable, script, "gpu"], env=environment, capture_output=True, text=True, check=False)
    sentence = "make gpu: there is no GPU here that PyTorch can use, so nothing was checked or measured.\n"
    assert (done.returncode, done.stdout) == (0, sentence)
    assert list(tmp_path.iterdir()) == []
