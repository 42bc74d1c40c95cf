"""A sweep: what has to run and why, one at a time in a folder, and what a failure leaves."""

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_records import DATA, leave_record, made_record

from isonb import __main__ as command_line
from isonb import config, numerics, records
from isonb.config import ConfigError
from isonb.running import runner, sweep
from isonb.training.sources import folder

BLOCKS, ENCODINGS = config.GRID_BLOCKS, config.GRID_ENCODINGS


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def study(tmp_path):
    """A TOML file with a cell of each block."""
    path = tmp_path / "study.toml"
    path.write_text('study = "smoke"\n' + "".join(f'[[cell]]\nblock = "{block}"\n' for block in BLOCKS))
    return path


def leave(of, **changes):
    """Leave a record and a notebook of a cell."""
    leave_record(made_record(of).model_copy(update=changes), b"{}")


def test_a_study_is_one_of_isonbs_or_that_of_a_file(study):
    assert len(sweep.cells("smoke")) == len(BLOCKS) * len(ENCODINGS)
    listed = [config.smoke(block=block) for block in BLOCKS]
    assert sweep.cells(str(study)) == listed
    study.write_text(study.read_text().replace("study =", "profile ="))  # its older name
    assert sweep.cells(str(study)) == listed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("study = ", "cannot be read"),
        ("", "must hold [[cell]] tables of settings after a line such as study = "),
        ("cell = 3", "must hold [[cell]] tables of settings after a line such as study = "),
        ("cell = [1]", "must hold [[cell]] tables of settings after a line such as study = "),
        ("[[cell]]\nname = 'mine'", "There is no setting called 'name'"),
        ("prof = 'smoke'\n[[cell]]", "must hold [[cell]] tables of settings after a line such as study = "),
        ("[[cell]]\ndept = 3", "There is no setting called 'dept'"),
        ("study = 'smok'\n[[cell]]", "study='smok' is not allowed"),
        ("study = 'smoke'\nprofile = 'cpu'\n[[cell]]", "'smoke' and 'cpu' name two studies: remove one of them."),
        ("[[cell]]\n[[cell]]\nblock = 'conv'", "lists the same network twice"),
    ],
)
def test_a_file_that_is_no_study_is_refused_in_a_sentence(content, message, tmp_path):
    path = tmp_path / "study.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(message)):
        sweep.cells(str(path))


def test_a_study_may_be_named_in_several_places_but_not_two_studies():
    assert config.one_study() == config.one_study(None, None) == "smoke"
    assert config.one_study(None, "cpu") == config.one_study("cpu", None, "cpu") == "cpu"
    for names in (("smoke", "paper"), (None, "cpu", "cpu", "paper"), ("paper", None, "smoke")):
        with pytest.raises(ConfigError, match="name two studies: remove one of them"):
            config.one_study(*names)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stdy": "cpu"}, "There is no setting called 'stdy': did you mean 'study'?"),
        ({"only": "mising"}, "only='mising' is not allowed: choose missing."),
        ({"book": "never"}, "book='never' is not allowed: it must be True or False."),
        ({"threads": "two"}, "threads='two' is not allowed: it must be a whole number."),
        ({"threads": True}, "threads=True is not allowed: it must not be True or False."),
        ({"threads": 1.5}, "threads=1.5 is not allowed: it must be a whole number."),
        ({"placement": "gpu"}, "placement='gpu' is not allowed: choose auto, cpu, gpu-each, gpu-all or given."),
        ({"execution": "float32"}, "execution='float32' is not allowed: write 'execution={precision: float32}'."),
        ({"execution": ["float32"]}, "execution=['float32'] is not allowed: write 'execution={precision: float32}'."),
        *(
            (
                {"cells_per_gpu": word},
                f"cells_per_gpu={shown} is not allowed: it must be auto or a number from 1 to 64.",
            )
            for word, shown in (("0", 0), (65, 65), ("many", "'many'"), ("1.5", 1.5))
        ),
        ({"minutes": "12m"}, "minutes='12m' is not allowed: it must be a number."),
        ({"minutes": "0"}, "minutes='0' is not allowed: it must be greater than 0."),
        ({"minutes": "inf"}, "minutes='inf' is not allowed: it must be a finite number."),
        ({"execution": {"precison": "float32"}}, "There is no setting called 'precison': did you mean 'precision'?"),
        ({"execution": {"compile": "perhaps"}}, "compile='perhaps' is not allowed: it must be True or False."),
        ({"execution": {True: "yes"}}, "There is no setting called 'True': choose among checkpoint_seconds, "),
    ],
)
def test_what_a_study_cannot_be_run_with_is_refused_in_a_sentence(given, message):
    with pytest.raises(ConfigError) as refusal:
        sweep.Settings.read({"study": "cpu", **given})
    assert str(refusal.value).startswith(message) and message.endswith((str(refusal.value), ", "))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, {}),
        ({"only": None, "threads": None, "execution": None, "book": None, "study": "null"}, {}),
        ({"only": "missing", "placement": "cpu"}, {"only": "missing", "placement": "cpu"}),
        ({"template": "my own.ipynb"}, {"template": "my own.ipynb"}),
        *(({"book": word}, {"book": False}) for word in (False, "no", "No", "NO", "off", "false", "False", 0, "0")),
        *(({"book": word}, {}) for word in (True, "yes", "Yes", "on", "ON", "true", "TRUE", 1, "1")),
        *(({"threads": word}, {"threads": 2}) for word in (2, "2", 2.0, "2.0", "2e0")),
        *(
            ({"execution": {"compile": word}}, {"execution": {"compile": True}})
            for word in (True, "true", "True", "yes", "on", 1, "1")
        ),
        ({"execution": {"checkpoint_seconds": "1e-4", "threads": "~"}}, {"execution": {"checkpoint_seconds": 0.0001}}),
        ({"study": 2024}, {"study": "2024"}),
        *(({"minutes": word}, {"minutes": 12.0}) for word in (12, "12", "12.0", "1.2e1")),
        *(({"cells_per_gpu": word}, {"cells_per_gpu": 4}) for word in (4, "4", "4.0")),
        ({"minutes": None, "cells_per_gpu": "auto"}, {}),
    ],
)  # fmt: skip
def test_every_channels_words_are_read_alike(given, meant):
    """Python's values, YAML's, and the strings that Snakemake makes of `--config 'execution={compile: true}'`."""
    assert sweep.Settings.read(given).model_dump(exclude_defaults=True) == meant


def test_only_what_is_missing_or_outdated_has_to_run_and_says_why(monkeypatch):
    listed = [config.smoke(block=block, seed=seed) for block in ("conv", "mixer", "transformer") for seed in (0, 1)]
    listed.append(config.smoke(seed=2))
    now, old, fresh, damaged, bare, other, torn = listed
    for cell in (now, bare):
        leave(cell)
    records.notebook_path(bare).unlink()
    leave(old, numerics=numerics.NUMERICS - 1)
    leave(damaged)
    records.record_path(damaged).write_text("{")
    leave(torn)
    records.record_path(torn).with_suffix(".npz").unlink()
    leave(other, cell=config.smoke(block="transformer", seed=1, probe_epochs=3))
    expected = {
        old: f"results have changed: {numerics.CHANGES[numerics.NUMERICS]}",
        fresh: "no record",
        damaged: "its record is damaged",
        bare: "no executed notebook",
        other: "its probe or fine-tuning settings differ",
        torn: "its record is damaged",
    }
    by_id = {cell.run.run_id: reason for cell, reason in expected.items()}
    assert sweep.reasons(listed) == by_id
    assert sweep.reasons(listed, only_missing=True) == {name: by_id[name] for name in by_id if name != old.run.run_id}


def test_a_record_of_a_newer_version_is_refused_and_not_made_again():
    cells = [config.smoke(), config.smoke(seed=1)]
    leave(cells[1])
    records.record_path(cells[1]).write_text(json.dumps({"schema_version": config.VERSION + 1}))
    for only_missing in (False, True):
        with pytest.raises(records.NewerRecordError) as refusal:
            sweep.reasons(cells, only_missing)
        assert sweep.in_a_sentence(refusal.value) == str(refusal.value)


def read(of, train, validation, test):
    """Leave the finished cell of a network that has read so many images."""
    counts = {"name": of.run.data, "train": train, "validation": validation, "test": test}
    leave_record(made_record(of, data=DATA.model_copy(update=counts)), b"{}")


@pytest.mark.parametrize(("source", "title"), [("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100")])
@pytest.mark.parametrize("counts", [(45_000, 5_000, 200), (450, 50, 10_000)])
def test_records_of_a_part_of_a_source_are_not_joined_by_cells_of_the_whole(
    counts, source, title, tmp_path, monkeypatch
):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    cells = kept, _ = [config.cpu(data=source), config.cpu(data=source, seed=1)]
    read(kept, *counts)
    left = sweep.reasons(cells)
    with pytest.raises(ConfigError, match=f"have read a part of {title}, .* set ISONB_DATA to the folder of that part"):
        sweep.require_same_data("cpu", cells, left)
    sweep.require_same_data("cpu", cells, {})  # nothing is left to run
    sweep.require_same_data("cpu", cells, {cell.run.run_id: "no record" for cell in cells})  # nothing stays
    sweep.require_same_data("cpu", cells, left, tmp_path)
    other = config.cpu(data="cifar100" if source == "cifar10" else "cifar10")
    sweep.require_same_data("cpu", [kept, other], {other.run.run_id: "no record"})  # reads another source
    monkeypatch.setenv("ISONB_DATA", str(tmp_path))
    sweep.require_same_data("cpu", cells, left)


def test_records_of_a_whole_source_and_of_one_whose_size_is_not_published_are_joined_by_others(monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    whole, small = config.cpu(), config.cpu(data_fraction=0.1)
    read(whole, 45_000, 5_000, 10_000)
    read(small, 4_500, 5_000, 10_000)
    photos, pictures = ([config.smoke(data=data), config.smoke(data=data, seed=1)] for data in ("photos", "folder"))
    leave(photos[0])
    at_hand = {"all": "aa"}
    leave(pictures[0], data=made_record(pictures[0]).data.model_copy(update={"sha256": at_hand}))
    monkeypatch.setattr(folder, "checksums", lambda run, place: at_hand)
    for cells in ([whole, small, config.cpu(seed=1)], photos, pictures):
        left = sweep.reasons(cells)
        assert list(left) == [cells[-1].run.run_id]  # one is missing, and may be added
        sweep.require_same_data("cpu", cells, left)


def test_data_are_compared_with_the_folder_that_will_be_read(tmp_path, monkeypatch):
    monkeypatch.delenv("ISONB_DATA", raising=False)
    cell = config.cpu()
    leave(cell, data=made_record(cell).data.model_copy(update={"name": "cifar10"}))
    (tmp_path / "data_batch_1.bin").write_bytes(b"other images")
    assert sweep.reasons([cell]) == {}
    assert sweep.reasons([cell], folder=tmp_path) == {cell.run.run_id: "the data have changed"}
    assert sweep.reasons([cell], True, tmp_path) == {}


def test_cells_begin_in_the_studys_order_and_those_of_a_short_study_longest_first(study):
    def begun(name):
        cells = {cell.run.run_id: cell for cell in sweep.cells(name)}
        ranked = sweep.priorities(name, list(cells.values()))
        return [cells[run_id] for run_id in sorted(ranked, key=ranked.get, reverse=True)]

    for name in ("cpu", str(study)):
        assert begun(name) == sweep.cells(name)
    longest_first = [block for block in reversed(BLOCKS) for _ in ENCODINGS]
    assert [cell.run.block for cell in begun("smoke")] == longest_first


def test_a_sweep_and_its_report_start_without_what_executes_notebooks():
    code = "import sys; from isonb.running import driver; from isonb.evidence import claims, metrics"
    code += "; sys.exit('papermill' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_of_a_cell_runs_that_cell(monkeypatch):
    cell = config.cpu(block="transformer", positions="none", encoding="rff", sigma=0.1, probe_pooling="grid4")
    passed = []
    monkeypatch.setattr(
        runner, "run_cell", lambda *given, **_: passed.append(given) or runner.Outcome("id", "run", 0.0)
    )
    words = shlex.split(sweep.command(cell, {"threads": 1, "precision": "float32"}, "my own.ipynb"))
    assert words[:3] == [sys.executable, "-m", "isonb"]
    assert command_line.main(words[3:]) == 0
    [(settings, template)] = passed
    assert config.from_parameters(settings) == (cell, config.Execution(threads=1, precision="float32"))
    assert template == Path("my own.ipynb")


def test_one_sweep_at_a_time_holds_a_folder_until_its_process_ends():
    code = "import time; from isonb.running import sweep; it = sweep.hold('cpu'); print('held', flush=True)"
    code += "; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(sweep.SweepError, match=rf"\(study cpu, process {first.pid}, since \d\d:\d\d\): wait until"):
            sweep.hold("smoke")
        first.kill()
    sweep.hold("smoke").close()


def planned(tmp_path, minutes=None, **reasons):
    folder = tmp_path / "runs/smoke/sweep/1"
    plan = sweep.Plan(
        study="smoke", base="smoke", started=time.monotonic() - 65, reasons=reasons, reused=4, minutes=minutes
    )
    plan.write(folder)
    return folder


def test_what_failed_is_listed_with_its_last_words_and_its_logs(tmp_path):
    folder = planned(tmp_path, good="no record", bad="no record", killed="no record", waiting="no record")
    (folder / "good.done").touch()
    (folder / "bad.log").write_text("Traceback\nValueError: too much\n\n")
    (folder / "killed.log").touch()
    (folder / "killed.failed").write_text("137\n")
    path = sweep.write_failures(folder)
    assert path == tmp_path / "runs/smoke/FAILURES.md"
    words = path.read_text()
    assert words.startswith("# 3 of 4 cells failed\n\n")
    assert "\n\n    make study STUDY=smoke\n" in words
    assert "## bad\n\n    ValueError: too much\n" in words and str(tmp_path / "runs/smoke/logs/bad.log") in words
    assert "## killed\n\n    It was killed (signal 9), as happens where memory runs short.\n" in words
    assert words.count("ended without a message, or never began") == 1 and "## good" not in words
    assert sweep.summary(folder) == "Study smoke: 1 run, 4 reused, 3 failed, in 1 min 5 s."

    for name in ("bad", "killed", "waiting"):
        (folder / f"{name}.done").touch()
    assert sweep.write_failures(folder) is None and not path.exists()


def test_what_a_time_box_has_stopped_or_not_begun_has_not_failed(tmp_path):
    cells = dict.fromkeys(("good", "bad", "stopped", "cut", "short", "early", "waiting"), "no record")
    folder = planned(tmp_path, minutes=1.0, **cells)
    (folder / "good.done").touch()
    (folder / "bad.failed").write_text("1\n")
    (folder / "stopped.failed").write_text("75\n")
    (folder / "stopped.log").write_text("stopped was stopped: run it again.\n")
    (folder / "cut.log").write_text("")  # its runner was killed with the sweep
    (folder / "short.failed").write_text("75\n")
    (folder / "short.log").write_text("short was not begun: it needs about 30 s, and 3 s are left of the time box.\n")
    (folder / "early.failed").write_text("130\n")
    (folder / "early.log").write_text("Traceback (most recent call last):\n  File\nKeyboardInterrupt\n")
    assert sweep.left(folder) == (["stopped", "cut"], ["short", "early", "waiting"])
    assert list(sweep.failures(folder)) == ["bad"]
    counts = "1 run, 4 reused, 1 failed, 2 stopped and saved, 3 not begun"
    assert sweep.summary(folder) == f"Study smoke: {counts}, in 1 min 5 s."
    assert "1 of 7 cells failed" in sweep.write_failures(folder).read_text()


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (b"", ""),
        (b"one failed: no\n", "one failed: no"),
        (b"one failed: no\nresource_tracker: leaked 3 objects\n", "one failed: no"),  # what follows is not the cause
        ("one failed: größer als 🎉 „so“\n".encode(), "one failed: größer als 🎉 „so“"),
        (b"a\xff\xfe b\n", "a\ufffd\ufffd b"),
        (b"\x1b[31mred\x1b[0m \x07bell", "red  bell"),
        (b"Traceback\nKeyboardInterrupt\n", "one was not begun, as it was asked to stop."),
        (b"x" * 70_000, "x" * 150 + " ... " + "x" * 150),
    ],
)
def test_last_words_are_the_runners_own_in_one_line(log, words, tmp_path):
    (tmp_path / "one.log").write_bytes(log)
    assert sweep.last_words(tmp_path / "one.log", "one") == words
    assert sweep.last_words(tmp_path / "none.log", "one") == ""


def test_the_command_that_goes_on_can_be_pasted_into_a_shell():
    assert sweep.again("cpu") == "make study STUDY=cpu"
    assert [sweep.again("cpu", minutes) for minutes in (12.0, 0.5)] == [
        "make study STUDY=cpu MINUTES=12", "make study STUDY=cpu MINUTES=0.5"]  # fmt: skip
    words = ["-m", "isonb", "sweep", "study=mine.toml", "minutes=12"]
    assert shlex.split(sweep.again("mine.toml", 12.0))[1:] == words
    program, *words = shlex.split(sweep.again("my 'own' $tudy.toml"))
    assert words == ["-m", "isonb", "sweep", "study=my 'own' $tudy.toml"]
    assert (sweep.places.PROJECT / program).samefile(sys.executable)


def test_a_new_sweep_leaves_no_old_ones_folder(tmp_path):
    old = planned(tmp_path, good="no record")
    new = old.with_name("2")
    sweep.Plan.read(old).write(new)
    assert new.exists() and not old.exists()


def test_whatever_keeps_a_sweep_from_starting_is_one_sentence():
    assert sweep.in_a_sentence(ConfigError("depth=0 is not allowed.")) == "depth=0 is not allowed."
    full = OSError(28, "No space left on device", "/runs/plan.json")
    assert sweep.in_a_sentence(full).startswith("/runs/plan.json cannot be used (No space left on device): make room")
    try:
        {}["one"]
    except KeyError as error:
        sentence = sweep.in_a_sentence(error)
    assert sentence.startswith(f"The study cannot be run (KeyError: 'one'; {__file__}, line ")
    assert sentence.endswith("); this is a bug in isonb: please report it.")
