"""What drives a sweep: what its rules are made of, what is printed, and whole sweeps of cells of a few lines."""

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import nbformat
import numpy as np
import pytest
from made_records import leave_record, made_arrays, made_record
from nbformat.v4 import new_code_cell, new_notebook

from isonb import config, places, records
from isonb.running import box, driver, interruption, placement, predictions, publishing, remaining, sweep
from isonb.running.driver import Driver
from isonb.training import signals

pytestmark = pytest.mark.slow

BLOCKS = ("conv", "mixer", "transformer")
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
# A cell that leaves the record that the test wrote down for it, or fails as it is told to.
SOURCE = """
import json, os, pathlib
import numpy as np
from isonb import config, records, schema
cell, execution = config.from_parameters({name: globals()[name] for name in ("study", "block", "encoding", "seed")})
assert cell.run.block != os.environ.get("FAILING"), "no " + cell.run.block + " today"
made = pathlib.Path(os.environ["MADE"]) / f"{cell.run.run_id}.json"
arrays = dict(np.load(made.with_suffix(".npz")))
records.write_record(schema.Record(**json.loads(made.read_text())), arrays)
"""


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("ISONB_DRIVER", raising=False)


@pytest.fixture
def study(tmp_path):
    """A TOML file with three cells."""
    path = tmp_path / "study.toml"
    path.write_text('study = "smoke"\n' + "".join(f'[[cell]]\nblock = "{block}"\n' for block in BLOCKS))
    return path


def leave(of):
    """Leave a record and a notebook of a cell."""
    leave_record(made_record(of), b"{}")


LOGGER = logging.getLogger("isonb-test-driver")


def driven(study, is_dry=True, **given):
    return Driver({"study": str(study), "placement": "cpu", **given}, is_dry, LOGGER)


# What the rules are made of


def test_rules_are_made_of_the_cells_that_a_study_lists_and_why_they_have_to_run(study, tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "is_built", lambda: False)
    listed = sweep.cells(str(study))
    leave(listed[0])
    one = driven(study, threads=2)
    assert (one.study, one.base, one.cells) == (str(study), "smoke", listed)
    assert one.reasons == {cell.run.run_id: "no record" for cell in listed[1:]}
    assert one.folder.parent == tmp_path / "runs/smoke/sweep"
    assert one.targets() == [one.folder / "report.done", one.folder / "book.done"]
    assert one.marker("report").format(sweep=one.folder) == str(one.targets()[0])
    messages = [one.message(cell) for cell in listed]
    assert messages[0] == f"{listed[0].run.run_id}: asked for; time and memory not predicted yet"
    assert messages[1] == f"{listed[1].run.run_id}: no record; time and memory not predicted yet"
    words = shlex.split(one.command(listed[1]))
    assert words == shlex.split(sweep.command(listed[1], {"threads": 2, "device": "cpu"}))


@pytest.mark.parametrize(
    ("left", "book", "is_built", "names"),
    [
        (True, "yes", False, ["report", "book"]),
        (True, "no", False, ["report"]),
        (False, "yes", False, ["book"]),
        (False, "yes", True, []),
        (False, "no", False, []),
    ],
)
def test_the_book_is_built_after_a_sweep_and_where_it_is_not_up_to_date(
    left, book, is_built, names, study, monkeypatch
):
    monkeypatch.setattr(publishing, "is_built", lambda: is_built)
    if not left:
        for cell in sweep.cells(str(study)):
            leave(cell)
    assert [path.stem for path in driven(study, book=book).targets()] == names


def test_what_cells_compute_on_is_theirs_unless_execution_settings_say_otherwise(study, tmp_path):
    cell, template = sweep.cells(str(study))[0], tmp_path / "my own.ipynb"
    template.write_text('{"cells": []}')
    asked = {"threads": 3, "precision": "float32"}
    words = shlex.split(driven(study, threads=2, execution=asked, template=str(template)).command(cell))
    execution = {"threads": 3, "device": "cpu", "precision": "float32"}
    assert words == shlex.split(sweep.command(cell, execution, str(template)))


def test_a_cell_on_a_gpu_asks_for_one_of_its_own_and_for_little_memory(study, monkeypatch):
    monkeypatch.setattr(placement, "resolve", lambda place: place)
    monkeypatch.setattr(placement, "gpus", lambda: ["0"])
    monkeypatch.setattr(placement, "gpu_memories", lambda visible: (8 * 2**30,))  # which are not enough for two
    cell = sweep.cells(str(study))[0]
    predicted = predictions.Prediction(alone=60, together=None, memory_bytes=8 * 2**30)
    predictions.write({cell.run.run_id: predicted})
    on_gpu, on_cpu, given = (driven(study, placement=place) for place in ("gpu-each", "cpu", "given"))
    assert [one.command(cell).startswith("ISONB_GPU=1 ") for one in (on_gpu, on_cpu, given)] == [True, False, False]
    # a process with torch, and besides it CUDA's libraries or the training step
    assert [one.megabytes(cell) for one in (on_gpu, on_cpu, given)] == [1024 + 2048, 1024 + 8192, 1024 + 2048]
    assert driven(study, placement="given", execution={"device": "cpu"}).megabytes(cell) == 1024 + 8192


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"study": "smok"}, "study='smok' is not allowed: choose smoke, cpu, paper."),
        ({"study": "smoke", "profile": "paper"}, "'smoke' and 'paper' name two studies: remove one of them."),
        (
            {"template": "/nowhere.ipynb"},
            "/nowhere.ipynb cannot be run as a template (No such file or directory): name a notebook, as "
            "notebooks/cell.ipynb.",
        ),
        ({"stdy": "cpu"}, "There is no setting called 'stdy': did you mean 'study'?"),
        ({"execution": {"precison": "x"}}, "There is no setting called 'precison': did you mean 'precision'?"),
    ],
)
def test_what_keeps_a_sweep_from_starting_ends_the_process_with_a_sentence(given, message):
    with pytest.raises(SystemExit) as end:
        driver.begin(given, True, LOGGER)
    assert end.value.code == message


def test_a_study_goes_by_its_older_name_too():
    for given in ({"profile": "cpu"}, {"study": "cpu", "profile": "cpu"}):
        assert Driver({"placement": "cpu", **given}, True, LOGGER).study == "cpu"


# What is done besides


@pytest.fixture
def logger():
    yield LOGGER
    LOGGER.handlers.clear()


@pytest.fixture
def interrupts():
    """Whatever a test makes of the requests to stop, they have their usual effect afterwards."""
    before = {number: signal.getsignal(number) for number in signals.REQUESTS}
    yield lambda: signal.getsignal(signal.SIGINT) is not before[signal.SIGINT]
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_job_of_a_cluster_prints_nothing_and_handles_no_signals(study, logger, interrupts, capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["snakemake"])
    given = {"study": str(study), "placement": "cpu"}
    driver.begin(given, False, logger)
    assert capfd.readouterr() == ("", "") and not interrupts() and not logger.handlers
    driver.begin(given, True, logger)
    assert interrupts() and len(logger.handlers) == 1
    assert os.environ["ISONB_DRIVER"] == str(os.getpid())


def test_a_dry_run_says_how_much_there_is_to_do(study, logger, interrupts, capfd):
    driven(study).attend()
    command = "`python -m isonb estimate --study smoke`"
    expected = f"Study {study}: 3 of 3 cells have to run. 3 of 3 cells have no prediction yet: run {command}.\n"
    assert capfd.readouterr() == (expected, "")
    assert not logger.handlers


def test_a_finished_study_says_so_and_where_its_book_is(study, logger, interrupts, capfd, monkeypatch):
    for cell in sweep.cells(str(study)):
        leave(cell)
    for is_built in (False, True):
        monkeypatch.setattr(publishing, "is_built", lambda is_built=is_built: is_built)
        driven(study).attend()
        lines = [
            f"Study {study}: all of its 3 cells are finished.",
            f"The book is built: open {publishing.PAGE.as_uri()}",
        ]
        assert capfd.readouterr().err.splitlines() == lines[: 1 + is_built]


def test_what_snakemake_refuses_is_shown_in_one_line_until_the_sweep_starts(study, logger, interrupts, capfd):
    one = driven(study, is_dry=False)
    one.attend()
    logger.error("No rule\n  to produce it.\n")
    logger.error("Traceback (most recent call last):\n  File\nValueError: too much\n")
    logger.info("three jobs")
    assert capfd.readouterr().err == "No rule to produce it.\nValueError: too much\n"
    one.start()
    one.end()
    capfd.readouterr()
    logger.error("hidden")
    assert "hidden" not in capfd.readouterr().err
    one.held.close()


def test_a_sweep_that_starts_leaves_its_plan_holds_the_folder_and_is_watched(study, logger, interrupts):
    leave(sweep.cells(str(study))[0])
    one = driven(study, is_dry=False)
    one.attend()
    one.start()
    plan = sweep.Plan.read(one.folder)
    assert (plan.study, plan.base, plan.reused) == (str(study), "smoke", 1) and plan.reasons == one.reasons
    with pytest.raises(sweep.SweepError, match="Another sweep is at work"):
        sweep.hold("smoke")
    assert one.watching.is_alive()
    one.end()
    assert not one.watching.is_alive()
    one.held.close()


def test_a_sweep_beside_another_ends_at_once_with_a_sentence(study, logger, interrupts, capfd, monkeypatch):
    def leave_process(status):
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave_process)
    one = driven(study, is_dry=False)
    one.attend()
    with sweep.hold("cpu"), pytest.raises(SystemExit, match="1"):
        one.start()
    [sentence] = capfd.readouterr().err.splitlines()
    assert sentence.startswith("Another sweep is at work in this folder (study cpu, process")
    assert not one.folder.exists()


@pytest.fixture
def commands(monkeypatch):
    """What would be run after a failure."""
    given = []
    program = types.SimpleNamespace(run=lambda command, check: given.append(command[3:]))
    monkeypatch.setattr(driver, "subprocess", program)
    return given


@pytest.mark.parametrize("request_to_stop", signals.REQUESTS)
def test_a_stopped_sweep_says_how_to_continue_and_makes_no_book(
    request_to_stop, study, logger, interrupts, commands, capfd, monkeypatch
):
    asked = []
    monkeypatch.setattr(interruption, "end_jobs", lambda over: asked.append("jobs"))
    one = driven(study, is_dry=False)
    one.attend()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Snakemake takes it before the first rule
    one.start()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(request_to_stop)
    signal.raise_signal(request_to_stop)  # a second one changes nothing
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        one.fail()
    one.held.close()
    assert (end.value.code, asked, commands) == (75, ["jobs"], [])
    command = sweep.again(str(study))
    assert capfd.readouterr().err == f"Stopped; all training so far is saved: run `{command}` to continue.\n"


class Alarm:
    """A timer that goes off when a test says so."""

    def __init__(self, seconds, function):
        self.seconds, self.function, self.is_on = seconds, function, False

    def start(self):
        self.is_on = True

    def cancel(self):
        self.is_on = False


@pytest.fixture
def boxed(study, logger, interrupts, monkeypatch):
    """A sweep whose alarm a test sets off, and what would have been run and ended by then."""
    asked, ran = [], []
    monkeypatch.setattr(interruption, "end_jobs", lambda over: asked.append(over))
    monkeypatch.setattr(interruption, "kill_children", lambda: None)
    monkeypatch.delenv(box.UNTIL, raising=False)
    monkeypatch.setattr(threading, "Timer", Alarm)
    ending = [time.monotonic() + seconds for seconds in (1000, -20, -10)]
    monkeypatch.setattr(box, "begin", lambda minutes, slowest: box.Box(minutes, *ending))
    program = types.SimpleNamespace(
        run=lambda command, check, timeout: ran.append((*command[3:], timeout)), TimeoutExpired=OSError
    )
    monkeypatch.setattr(driver, "subprocess", program)
    one = driven(study, is_dry=False, minutes="7.5")
    one.attend()
    one.start()
    yield one, asked, ran
    one.held.close()
    os.environ.pop(box.UNTIL, None)


def marked(one, number, end, log=""):
    """Let a cell of a sweep have ended, or not."""
    run_id = one.cells[number].run.run_id
    (one.folder / f"{run_id}.log").write_text(f"{run_id} {log}")
    if end is not None:
        (one.folder / f"{run_id}.{'failed' if end else 'done'}").write_text(f"{end}\n" * bool(end))


@pytest.mark.parametrize(
    ("middle", "status", "words"),
    [
        (0, 75, "saved as far as they are: 0, not begun: 1"),
        (75, 75, "saved as far as they are: 1, not begun: 1"),
        (None, 75, "saved as far as they are: 1, not begun: 1"),
        (1, 1, ""),
    ],
)
def test_when_the_time_is_up_everything_is_saved_and_told_apart_from_a_failure(middle, status, words, boxed, capfd):
    one, asked, ran = boxed
    assert 0 < one.alarm.seconds <= 1000 and one.alarm.is_on and 0 < box.left() <= 1000
    assert sweep.Plan.read(one.folder).minutes == 7.5
    with pytest.raises(KeyboardInterrupt):
        threading.Thread(target=one.alarm.function).start()
        time.sleep(60)
    assert len(asked) == 1 and not asked[0].is_set()
    marked(one, 0, 0)
    marked(one, 1, middle)
    with pytest.raises(SystemExit) as end:
        one.fail()
    assert end.value.code == status and asked[0].is_set()
    [(command, folder, limit)] = ran  # a table and no book, and not for longer than there is
    assert (command, folder) == ("report", one.folder) and limit == box.LEAST
    sentence = f"The time is up; cells {words}: run `{sweep.again(str(one.study), 7.5)}` to continue."
    assert (sentence in capfd.readouterr().err) == (status == 75)


def test_what_a_box_has_no_time_for_ends_it_early_and_what_no_box_has_time_for_is_no_reason_to_try_again(boxed, capfd):
    one, asked, ran = boxed
    for number in range(3):
        marked(one, number, 75, "was not begun: it needs about 30 s")
    with pytest.raises(SystemExit) as end:
        one.fail()
    assert (end.value.code, asked, len(ran)) == (1, [], 1)
    assert "No cell could begin in 7.5 minutes: give more of them.\n" in capfd.readouterr().err
    assert not one.alarm.is_on


def test_a_study_that_is_finished_in_its_box_says_how_to_build_the_book(boxed, capfd):
    one, asked, _ = boxed
    assert [path.name for path in one.targets()] == ["report.done"]
    one.end()
    assert "All cells of the study are finished: `make book` builds the book." in capfd.readouterr().err
    assert not one.alarm.is_on and asked == []


def test_a_box_begins_what_it_can_finish_and_is_for_a_machine_of_ones_own(study, monkeypatch):
    cells = sweep.cells(str(study))
    monkeypatch.setattr(remaining, "in_order", lambda left, seconds: [left[2], left[0], left[1]])
    priorities = driven(study, minutes=12).priorities
    assert sorted(cells, key=lambda cell: -priorities[cell.run.run_id]) == [cells[2], cells[0], cells[1]]
    with pytest.raises(config.ConfigError, match="minutes= is for a machine of one's own"):
        driven(study, minutes=12, placement="given")


def test_cells_that_share_a_gpu_are_as_many_as_it_holds(study, monkeypatch):
    """One of a hundred GB holds twenty-odd of four: as many as were timed at most, or as somebody asks for."""
    monkeypatch.setattr(placement, "resolve", lambda place: place)
    monkeypatch.setattr(placement, "gpus", lambda: ["0"])
    monkeypatch.setattr(placement, "gpu_memories", lambda visible: (100 * 2**30,))
    monkeypatch.setattr(placement, "cores", lambda: 12)
    listed = sweep.cells(str(study))
    assert driven(study, placement="gpu-each").command(listed[0]).startswith("ISONB_GPU=2 ")
    timed = predictions.Prediction(alone=60, together=70, at_once=4, memory_bytes=4 * 2**30)
    predictions.write({cell.run.run_id: timed for cell in listed})
    one = driven(study, placement="gpu-each")
    assert one.command(listed[0]).startswith("ISONB_GPU=4 ") and one.threads == 4  # three are left: four cores each
    one = driven(study, placement="gpu-each", cells_per_gpu="1")
    assert one.command(listed[0]).startswith("ISONB_GPU=1 ") and one.threads == 12


def test_after_a_failure_the_other_cells_have_a_table_and_a_book_but_only_once(study, commands):
    for book, expected in (("yes", ["report", "book"]), ("no", ["report"])):
        commands.clear()
        one = driven(study, book=book)
        one.fail()
        assert [command[0] for command in commands] == expected
        assert commands[0][1] == one.folder
    one.folder.mkdir(parents=True)
    (one.folder / "report.done").touch()  # it was the book that failed
    commands.clear()
    one.fail()
    assert commands == []


# The Snakefile


@pytest.fixture
def snakemake(study, tmp_path, monkeypatch):
    """Run the Snakefile on the three cells, from a notebook of a few lines, without the book."""
    parameters = new_code_cell(
        "study = block = encoding = seed = threads = device = None", metadata={"tags": ["parameters"]}
    )
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    template = new_notebook(cells=[parameters, new_code_cell(SOURCE)], metadata={"kernelspec": kernel})
    nbformat.write(template, tmp_path / "template.ipynb")
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    (tmp_path / "made").mkdir()
    for cell in sweep.cells(str(study)):
        record, made = made_record(cell), tmp_path / "made" / f"{cell.run.run_id}.json"
        made.write_text(record.model_dump_json())
        np.savez(made.with_suffix(".npz"), **made_arrays(record))

    def run(*words, **environment):
        settings = ["--config", f"study={study}", f"template={tmp_path}/template.ipynb", "book=no"]
        return subprocess.run(
            [SNAKEMAKE, *settings, *words], cwd=places.PROJECT, env={**os.environ, **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_a_failing_cell_leaves_the_others_alone_and_only_it_runs_again(snakemake, study, tmp_path):
    cells = sweep.cells(str(study))
    first = snakemake(FAILING="mixer")
    assert first.returncode == 1, first.stderr
    assert "Study " in first.stdout and "2 run, 0 reused, 1 failed" in first.stdout
    failures = (tmp_path / "runs/smoke/FAILURES.md").read_text()
    assert "no mixer today" in failures and failures.count("## ") == 1
    table = (tmp_path / "results/smoke/table.csv").read_text()
    assert [cell.run.run_id in table for cell in cells] == [True, False, True]
    assert "C1 " in (tmp_path / "results/smoke/claims.txt").read_text()

    dry = snakemake("-n")
    assert dry.returncode == 0
    assert f"{cells[1].run.run_id}: no record; time and memory not predicted yet" in dry.stdout + dry.stderr
    assert cells[0].run.run_id not in dry.stdout + dry.stderr
    assert records.finished(cells[1]) is None

    second = snakemake()
    assert second.returncode == 0, second.stderr
    assert "1 run, 2 reused, 0 failed" in second.stdout
    assert not (tmp_path / "runs/smoke/FAILURES.md").exists()

    os.utime(records.record_path(cells[0]), (1, 1))  # a checkout's times mean nothing
    third = snakemake()
    assert third.returncode == 0 and "all of its 3 cells are finished" in third.stderr and not third.stdout


def errors_of(done):
    """The lines of standard error, but for the one in which Snakemake names its profile."""
    return [line for line in done.stderr.splitlines() if not line.startswith("Using workflow specific profile")]


@pytest.mark.parametrize("variable", ["ISONB_RUNS", "ISONB_RESULTS"])
@pytest.mark.parametrize("place", ["/proc/nobody", "a file", "a file/below"])
def test_a_folder_that_cannot_be_used_is_one_sentence(variable, place, snakemake, tmp_path):
    (tmp_path / "a file").touch()
    done = snakemake(**{variable: str(tmp_path / place)})  # of an absolute path, that path
    assert done.returncode == 1
    [sentence] = errors_of(done)
    assert sentence.startswith(f"{tmp_path / place}")
    assert sentence.endswith(f"fix it, or set {variable} to another folder.")


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "HOME", "MPLCONFIGDIR", "IPYTHONDIR"])
@pytest.mark.parametrize("place", ["/proc/nobody", "a file/below"])
def test_a_home_and_caches_that_cannot_be_written_keep_nothing_from_running(
    variable, place, snakemake, study, tmp_path
):
    (tmp_path / "a file").touch()
    for cell in sweep.cells(str(study))[1:]:
        leave(cell)
    done = snakemake(**{variable: str(tmp_path / place)})
    assert done.returncode == 0, done.stderr
    assert "1 run, 2 reused, 0 failed" in done.stdout


def test_braces_in_a_folders_name_are_refused_where_snakemake_would_take_them_for_a_variable(snakemake, tmp_path):
    done = snakemake(ISONB_RUNS=str(tmp_path / "{x}"))
    assert done.returncode == 1
    [sentence] = errors_of(done)
    assert sentence.startswith(f"{tmp_path}/{{x}}/smoke has braces in its name")


def test_braces_in_other_folders_names_mean_nothing(snakemake, study, tmp_path):
    (tmp_path / "{x}").mkdir()
    for cell in sweep.cells(str(study))[1:]:
        leave(cell)
    (tmp_path / "results").rename(tmp_path / "{x}" / "results")
    other = study.rename(tmp_path / "{x}" / study.name)
    done = snakemake("--config", f"study={other}", f"template={tmp_path}/template.ipynb", "book=no",
                     ISONB_RESULTS=str(tmp_path / "{x}" / "results"))  # fmt: skip
    assert "1 run, 2 reused, 0 failed" in done.stdout, done.stderr


@pytest.mark.parametrize("options", [[], ["-n"]])
def test_a_folder_in_which_snakemake_cannot_write_is_one_sentence(options, tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    (tmp_path / ".snakemake").touch()
    command = [SNAKEMAKE, "--directory", tmp_path, *options]
    done = subprocess.run(command, cwd=places.PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"{tmp_path} cannot be written, and Snakemake keeps a folder .snakemake in it: make it writable, or add "
        "`--directory` and a folder that is."
    )
    assert not (tmp_path / "runs/smoke").exists()


def test_a_target_that_is_not_there_is_one_sentence(snakemake):
    done = snakemake("--", "nosuch")
    assert done.returncode == 1
    [sentence] = errors_of(done)
    assert "No rule to produce nosuch" in sentence


def test_a_second_sweep_in_the_folder_says_so_and_leaves_the_first_alone(snakemake):
    held = sweep.hold("smoke")
    second = snakemake()
    held.close()
    assert second.returncode == 1
    [sentence] = errors_of(second)
    assert f"process {os.getpid()}" in sentence


def test_a_sweep_leaves_a_record_of_a_newer_version_alone_and_refuses_to_run(snakemake, study):
    path = records.record_path(sweep.cells(str(study))[1])
    path.parent.mkdir(parents=True)
    content = json.dumps({"schema_version": config.VERSION + 1})
    path.write_text(content)
    done = snakemake()
    assert done.returncode == 1
    [sentence] = errors_of(done)
    assert sentence.startswith(f"{path} was written by a newer version of isonb")
    assert path.read_text() == content and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "study=smok"], "study='smok' is not allowed: choose smoke, cpu, paper."),
        (["--config", "study=smoke", "profile=cpu"], "'smoke' and 'cpu' name two studies: remove one of them."),
        (
            ["--config", "placement=gpu"],
            "placement='gpu' is not allowed: choose auto, cpu, gpu-each, gpu-all or given.",
        ),
    ],
)
def test_a_sweep_that_cannot_be_is_one_sentence(words, message):
    done = subprocess.run([SNAKEMAKE, *words], cwd=places.PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
