"""Whatever happens to a result file: the same numbers, or one sentence that names it, and never a record half believed.

The kills are real ones, aimed at every moment between two calls of the system. `make chaos` tries thousands of damages.
"""

import os
import random
import signal
import sys

import numpy as np
import pytest
from made_records import leave_record, made_record
from mutations import COUNT, mutated, tally

from isonb import config, records
from isonb.__main__ import main
from isonb.evidence import metrics
from isonb.running import outdated

CELLS = [config.smoke(seed=seed) for seed in range(3)]
NOTEBOOK = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
NEVER = 1000  # more calls than there are


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    for cell in CELLS:
        leave_record(made_record(cell, 3.0 + cell.run.seed, test_accuracy=0.25 + cell.run.seed / 8), NOTEBOOK)
    return tmp_path / "smoke"


def numbers(t):
    """Everything that a claim or a figure could see of each run."""
    return {
        run_id: [frame[frame["run_id"] == run_id].to_csv(index=False) for frame in (t.runs, t.layers, t.curves)]
        + [(name, array.tobytes()) for name, array in sorted(t.arrays[run_id].items())]
        for run_id in t.runs["run_id"]
    }


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".json", ".npz", ".ipynb"])
def test_damage_changes_no_number_and_is_named(suffix, folder):
    chance = random.Random(suffix)
    damaged, others = CELLS[0], [cell.run.run_id for cell in CELLS[1:]]
    path = records.record_path(damaged).with_suffix(suffix)
    whole, expected = path.read_bytes(), numbers(metrics.read("smoke"))
    survived = noticed = 0
    for _ in range(COUNT):
        path.write_bytes(content := mutated(whole, chance))
        try:
            reason = outdated.why(damaged)
        except records.NewerRecordError as error:
            reason = str(error)
        noticed += bool(reason)
        t = metrics.read("smoke")
        if damaged.run.run_id in t.arrays:
            assert numbers(t) == expected and t.faults == ()
            survived += 1
            assert (reason == "") == (content == whole or suffix == ".json"), (reason, content)
        else:
            assert numbers(t) == {run_id: expected[run_id] for run_id in others}
            (fault,) = t.faults
            assert str(path) in fault and "\n" not in fault and reason
    tally({".json": "record", ".npz": "arrays of a record", ".ipynb": "executed notebook"}[suffix], COUNT, noticed)
    assert survived == COUNT if suffix == ".ipynb" else survived < COUNT / 2  # white space of JSON may change


@pytest.mark.parametrize("command", ["claims", "cells", "complete"])
def test_every_command_ends_with_a_sentence(command, folder, capsys):
    chance = random.Random(command)
    for name in (".json", ".npz", ".ipynb"):
        path = records.record_path(CELLS[0]).with_suffix(name)
        whole = path.read_bytes()
        for content in [mutated(whole, chance), b"", b"[" * 100_000]:
            path.write_bytes(content)
            assert main([command]) in (0, 1, 2)
            assert "Traceback" not in "".join(capsys.readouterr())
        path.write_bytes(whole)


def killed_at(moment: int, work) -> bool:
    """Do some work in another process and kill it right before its so-manieth call that changes a file."""
    changes = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}
    if not (pid := os.fork()):
        calls = iter(range(moment))

        def kill(event, _):
            if event in changes and next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(kill)
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_kill_at_any_moment_leaves_the_old_record_or_the_new_one_or_none(folder):
    cell = CELLS[0]
    new = made_record(cell, validation_loss=2.0, test_accuracy=0.5)
    path = records.record_path(cell)
    before = {suffix: path.with_suffix(suffix).read_bytes() for suffix in (".json", ".npz", ".ipynb")}
    kills, seen = 0, []
    for moment in range(NEVER):
        for suffix, content in before.items():
            path.with_suffix(suffix).write_bytes(content)
        if not killed_at(moment, lambda: leave_record(new, b"new")):
            break
        kills += 1
        if not outdated.why(cell):
            record, arrays = records.read(path)
            is_new = record.training.validation_loss == 2.0
            assert np.mean(arrays["test_correct_LB"][1]) == (0.5 if is_new else 0.25)
            assert records.notebook_of(record).read_bytes() == (b"new" if is_new else NOTEBOOK)
            seen.append("new" if is_new else "old")
        else:
            seen.append("none")
        leave_record(new, b"new")  # what was cut short is made again
        assert outdated.why(cell) == "" and records.read_record(path).training.validation_loss == 2.0
    tally("record, killed while it is written", kills, seen.count("none"))
    assert kills >= 10 and {*seen} == {"old", "none", "new"}
    assert records.read_record(path).training.validation_loss == 2.0


def test_a_record_is_never_believed_with_the_files_of_another_run(folder):
    one, other = (records.record_path(cell) for cell in CELLS[:2])
    for suffix in (".npz", ".ipynb"):
        whole = one.with_suffix(suffix).read_bytes()
        one.with_suffix(suffix).write_bytes(other.with_suffix(suffix).read_bytes() + b" " * (suffix == ".ipynb"))
        if suffix == ".npz" and whole == other.with_suffix(suffix).read_bytes():
            pytest.fail("the two runs have the same arrays")
        assert outdated.why(CELLS[0]) != ""
        one.with_suffix(suffix).write_bytes(whole)
