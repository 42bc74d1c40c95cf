"""What an estimate left: what a dry run says of it, and which way of running cells it speaks for."""

import os
import random

import mutations
import pytest

from isonb import config
from isonb.running import predictions
from isonb.running.predictions import Prediction


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))


def test_newer_predictions_replace_older_ones_of_the_same_cell():
    assert predictions.read() == {}
    old, new = (Prediction(alone=seconds, together=None, memory_bytes=1) for seconds in (1.0, 2.0))
    predictions.write({"a": old, "b": old})
    predictions.write({"a": new})
    assert predictions.read() == {"a": new, "b": old}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"a": 3}',
        b'{"a": {"alone": 1.0, "memory_bytes": 1}}',  # of a version without cells side by side
        b'{"a": {"alone": 1.0, "together": null, "memory_bytes": 1, "more": 2}}',
        b"[" * 100_000,
        b'{"a": {"alone": NaN, "together": null, "memory_bytes": 1}}',
        b'{"a": {"alone": 1.0, "together": Infinity, "memory_bytes": 1}}',
        b'{"a": {"alone": -1.0, "together": null, "memory_bytes": 1}}',
        b'{"a": {"alone": 1.0, "together": null, "memory_bytes": -1}}',
        b'{"a": {"alone": 1.0, "together": null, "memory_bytes": 1' + 30 * b"0" + b"}}",
    ],
)
def test_a_damaged_or_older_cache_counts_as_empty_and_is_replaced(content):
    one = Prediction(alone=1.0, together=None, memory_bytes=1)
    predictions.path().parent.mkdir(parents=True)
    predictions.path().write_bytes(content)
    assert predictions.read() == {}
    predictions.write({"b": one})
    assert predictions.read() == {"b": one}


def sparse(path):
    with path.open("wb") as file:
        file.truncate(50 * 2**30)  # takes no room on the disk


@pytest.mark.parametrize("make", [os.mkfifo, sparse, lambda path: path.symlink_to(path)])
def test_what_is_no_cache_counts_as_empty_unread_and_is_replaced(make):
    one = Prediction(alone=1.0, together=None, memory_bytes=1)
    predictions.path().parent.mkdir(parents=True)
    make(predictions.path())
    assert predictions.read() == {}
    predictions.write({"b": one})
    assert predictions.read() == {"b": one}


def test_a_damaged_cache_holds_what_was_written_or_nothing_impossible():
    one = {name: Prediction(alone=12.5, together=25.0, memory_bytes=2**30) for name in ("a", "b")}
    predictions.write(one)
    content, chance = predictions.path().read_bytes(), random.Random(0)
    for _ in range(mutations.COUNT):
        predictions.path().write_bytes(mutations.mutated(content, chance))
        for prediction in predictions.read().values():
            assert 0 <= prediction.alone < float("inf") and 0 <= prediction.memory_bytes < 2**50
            assert predictions.words(prediction, together=False)


def test_a_cache_that_can_be_neither_read_nor_written_counts_as_empty():
    predictions.path().mkdir(parents=True)
    predictions.write({"a": Prediction(alone=1.0, together=None, memory_bytes=1)})
    assert predictions.read() == {}


def test_cells_run_together_when_that_is_faster_in_all():
    def known(alone, together):
        return {name: Prediction(alone=alone, together=together, memory_bytes=1) for name in ("a", "b", "c")}

    assert predictions.is_faster_together(known(10.0, 19.0), ["a", "b"], cores=2)
    assert not predictions.is_faster_together(known(10.0, 21.0), ["a", "b"], cores=2)
    assert predictions.is_faster_together(known(10.0, 21.0), ["a", "b"], cores=4)
    assert predictions.is_faster_together(known(10.0, None), ["a"], cores=2)  # not measured
    assert predictions.is_faster_together({}, ["a"], cores=2)


def test_cells_share_a_gpu_where_that_is_faster_in_all():
    def known(alone, together, at_once=predictions.ON_A_GPU):
        return {"a": Prediction(alone=alone, together=together, at_once=at_once, memory_bytes=1)}

    assert predictions.ON_A_GPU == 4
    assert predictions.most_on_a_gpu(known(10.0, 39.0), ["a"]) == 4
    assert predictions.most_on_a_gpu(known(10.0, 41.0), ["a"]) == 1
    assert predictions.most_on_a_gpu(known(10.0, None), ["a"]) == predictions.most_on_a_gpu({}, ["a"]) == 2
    assert predictions.most_on_a_gpu(known(10.0, 39.0, at_once=None), ["a"]) == 2  # timed on a CPU
    assert predictions.is_faster_together(known(10.0, 99.0), ["a"], cores=2)  # timed on a GPU


def test_a_gpu_has_to_hold_the_largest_step_and_cudas_context():
    known = {name: Prediction(alone=1, together=1, memory_bytes=size * 2**30) for name, size in (("a", 1), ("b", 3))}
    assert predictions.gpu_megabytes(known, ["a"]) == 768 + 1024
    assert predictions.gpu_megabytes(known, ["a", "b"]) == 768 + 3072
    assert predictions.gpu_megabytes(known, ["a", "unknown"]) == 768 + 4096


@pytest.mark.parametrize(
    ("seconds", "words"), [(7200, "about 2.0 h, 1.5 GiB"), (150, "about 2 min, 1.5 GiB"), (20, "about 1 min, 1.5 GiB")]
)
def test_time_and_memory_in_words(seconds, words):
    one = Prediction(alone=seconds, together=2 * seconds, memory_bytes=3 * 2**29)
    assert predictions.words(one, together=False) == words
    assert predictions.words(None, together=True) == "time and memory not predicted yet"


def test_where_cells_run_together_the_time_is_that_of_one_core():
    assert predictions.words(Prediction(alone=60, together=120, memory_bytes=0), together=True).startswith(
        "about 2 min"
    )


def test_a_scheduler_is_asked_for_the_memory_of_a_process_besides():
    assert predictions.megabytes(Prediction(alone=1, together=1, memory_bytes=2**30)) == 2048
    assert predictions.megabytes(None) == 5120


def test_a_step_on_a_gpu_takes_none_of_the_hosts_memory():
    """A gigabyte for the process and two for CUDA, whatever the step keeps on the card."""
    large = Prediction(alone=1, together=None, memory_bytes=30 * 2**30)
    assert predictions.megabytes(large, on_gpu=True) == predictions.megabytes(None, on_gpu=True) == 3 * 1024
    assert predictions.largest_megabytes({"a": large}, ["a"], on_gpu=True) == 3 * 1024


def test_the_largest_of_the_cells_that_are_left_counts():
    known = {name: Prediction(alone=1, together=1, memory_bytes=size * 2**30) for name, size in (("a", 1), ("b", 3))}
    assert predictions.largest_megabytes(known, ["a", "unknown"]) == 2048
    assert predictions.largest_megabytes(known, ["a", "b"]) == 4096
    assert predictions.largest_megabytes(known, ["unknown"]) == 0


def test_the_whole_studys_time_or_how_to_find_it_out():
    cells = [config.cpu(), config.cpu(seed=1)]
    one = Prediction(alone=5400, together=None, memory_bytes=1)
    partly = predictions.in_all({cells[0].run.run_id: one}, cells)
    assert partly == "1 of 2 cells have no prediction yet: run `python -m isonb estimate --study cpu`."
    assert predictions.in_all({cell.run.run_id: one for cell in cells}, cells) == "About 3.0 hours, one after another."
