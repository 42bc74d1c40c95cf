"""The command line: what it lists, what it passes on, and how it says that a request cannot be met."""

import json
import subprocess
import sys
import time

import pytest
from made_records import leave_record, made_record

from isonb import config, studies
from isonb.__main__ import main
from isonb.running import runner, sweep
from isonb.running.runner import CellError, Outcome

TWO_STUDIES = "'smoke' and 'paper' name two studies: remove one of them.\n"
NO_CUDA = "device='cuda' is not allowed: PyTorch finds no such device here; choose 'auto' or 'cpu'.\n"
NO_BLOCK = f"is not allowed: choose {', '.join(config.BLOCKS[:-1])} or {config.BLOCKS[-1]}.\n"
NO_FOLDER = "ISONB_DATA '/nothing' is not a directory: name the one that holds cifar-10-batches-bin.\n"


def test_cells_lists_every_cell_of_a_study_with_its_settings(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    assert main(["cells", "--study", "smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(studies.cells("smoke")) >= 9
    settings = "study=smoke block=conv depth=1 encoding=continuous seed=0"
    assert lines[0].split() == [config.smoke().run.run_id, "no", "record", *settings.split()]


def test_what_cells_prints_of_a_cell_is_what_run_cell_takes(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    ran = []
    monkeypatch.setattr(runner, "run_cell", lambda settings, *_, **__: ran.append(settings) or Outcome("one", "run", 1))
    main(["cells", "--study", "cpu"])
    for line in capsys.readouterr().out.splitlines():
        settings = [word for word in line.split() if "=" in word and not word.startswith("study=")]
        assert main(["run-cell", "--study", "cpu", *settings]) == 0
    assert [config.from_parameters(settings)[0] for settings in ran] == studies.cells("cpu")


def test_a_reader_who_has_seen_enough_is_no_fault():
    listing = [sys.executable, "-m", "isonb", "cells", "--study", "paper"]
    with subprocess.Popen(listing, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # as `head` does
        assert (process.stderr.read(), process.wait()) == ("", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cells", "--study", "smok"], "study='smok' is not allowed: choose smoke, cpu, paper.\n"),
        (["claims", "--study", "smok"], "study='smok' is not allowed: choose smoke, cpu, paper.\n"),
        (["estimate", "--study", "smok"], "study='smok' is not allowed: choose smoke, cpu, paper.\n"),
        (["run-cell", "dept=3"], "There is no setting called 'dept': did you mean 'depth'?\n"),
        (["run-cell", 'block=["conv"]'], f"block=['conv'] {NO_BLOCK}"),
        (["pretrain", "block={}"], f"block={{}} {NO_BLOCK}"),
        (["run-cell", "depth=0"], "depth=0 is not allowed: it must be greater than or equal to 1.\n"),
        (["pretrain", "device=cuda"], NO_CUDA),
        (["estimate", "--device", "cuda"], NO_CUDA),
        (["estimate", "--study", "cpu"], NO_FOLDER),
        (["run-cell", "dpeth=[3]"], "There is no setting called 'dpeth': did you mean 'depth'?\n"),
        (["run-cell", "_depth=3"], "There is no setting called '_depth': did you mean 'depth'?\n"),
        (["pretrain", "dpeth=null"], "There is no setting called 'dpeth': did you mean 'depth'?\n"),
        (["run-cell", "depth=1", "depth=3"], "'depth' is given twice: remove one of the two.\n"),
        (["pretrain", "seed=1", "depth=3", "seed=1"], "'seed' is given twice: remove one of the two.\n"),
        (["run-cell", "study=paper", "--study", "smoke"], TWO_STUDIES),
        (["run-cell", "profile=paper", "--study", "smoke"], TWO_STUDIES),
        (["run-cell", "profile=paper", "--profile", "smoke"], TWO_STUDIES),
        (["pretrain", "profile=paper", "study=smoke"], TWO_STUDIES),
        (["cells", "--profile", "smoke", "--study", "paper"], TWO_STUDIES),
        (["estimate", "--study", "smoke", "--study", "paper"], TWO_STUDIES),
        (["claims", "--study", "smoke", "--profile", "paper"], TWO_STUDIES),
        (["run-cell", "study=[3]"], "study=[3] is not allowed: choose smoke, cpu, paper.\n"),
        (["run-cell", "depth"], "'depth' is not a setting: write name=value, as in depth=3.\n"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_sentence_and_exit_2(arguments, message, capsys, monkeypatch):
    monkeypatch.setenv("ISONB_DATA", "/nothing")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(arguments) == 2
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("command", "variable"), [("run-cell", "ISONB_RUNS"), ("run-cell", "ISONB_RESULTS"), ("pretrain", "ISONB_RUNS")]
)
def test_a_folder_that_cannot_be_written_is_one_sentence_before_anything_is_trained(
    command, variable, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("isonb.training.train.pretrain", lambda *_: pytest.fail("it trains"))
    monkeypatch.setattr("isonb.running.notebook.execute", lambda *_: pytest.fail("it executes the notebook"))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    assert main([command, "seed=7"]) == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"{tmp_path / 'file'}")
    assert sentence.endswith(f": fix it, or set {variable} to another folder.")


def test_a_disk_that_fails_any_other_command_is_one_sentence(capsys, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(studies, "cells", fail)
    assert main(["cells"]) == 2
    assert capsys.readouterr().err.startswith("The disk is full (No space left on device): make room ")


def test_settings_arrive_with_their_types(monkeypatch):
    passed = {}
    monkeypatch.setattr(
        runner, "run_cell", lambda settings, *_, **__: passed.update(settings) or Outcome("id", "run", 0.0)
    )
    settings = ["block=mixer", "depth=3", "learning_rate=1e-3", "rff_trainable=true", "positions=none", "heads=null"]
    assert main(["run-cell", "--study", "cpu", *settings]) == 0
    assert passed == {
        "study": "cpu", "block": "mixer", "depth": 3, "learning_rate": 0.001, "rff_trainable": True,
        "positions": "none", "heads": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        "--study cpu block=mixer depth=3",
        "block=mixer --study cpu depth=3",
        "block=mixer depth=3 --study cpu",
        "--profile cpu block=mixer depth=3",
        "study=cpu block=mixer depth=3",
        "block=mixer profile=cpu depth=3",
        "--study cpu block=mixer study=cpu depth=3 profile=cpu --profile cpu",
        "--study cpu block=mixer study=null depth=3",
    ],
)
def test_settings_stand_before_between_and_after_options_and_a_study_may_be_either(words, monkeypatch):
    passed = {}
    monkeypatch.setattr(
        runner, "run_cell", lambda settings, *_, **__: passed.update(settings) or Outcome("id", "run", 0.0)
    )
    assert main(["run-cell", *words.split()]) == 0
    assert passed == {"study": "cpu", "block": "mixer", "depth": 3}


@pytest.mark.parametrize("words", ["cells block=mixer", "run-cell block=mixer --dept", "run-cell --dept block=mixer"])
def test_what_a_command_does_not_know_is_refused(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    assert "unrecognized arguments: " in capsys.readouterr().err


def test_a_failed_cell_is_exit_1(monkeypatch, capsys):
    def fail(*_, **__):
        raise CellError("conv failed: RuntimeError: no memory.")

    monkeypatch.setattr(runner, "run_cell", fail)
    assert main(["run-cell"]) == 1
    assert capsys.readouterr().err == "conv failed: RuntimeError: no memory.\n"


def test_run_cell_says_why_it_runs_again_and_what_is_doubtful(capsys, monkeypatch):
    outcome = Outcome("one", "run", 2, ("3 test images are also among the training images.",), "the data have changed")
    monkeypatch.setattr(runner, "run_cell", lambda *_, **__: outcome)
    assert main(["run-cell"]) == 0
    told = capsys.readouterr()
    assert told.out == "one run again (the data have changed), 2 s\n"
    assert told.err == "3 test images are also among the training images.\n"


def test_a_folder_that_is_no_sweeps_is_refused(capsys, tmp_path):
    assert main(["report", str(tmp_path)]) == 2
    assert "is not the folder of a sweep" in capsys.readouterr().err


def test_cells_names_a_damaged_record_among_the_others(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    path = leave_record(made_record(config.smoke()))
    path.write_text("{")
    assert main(["cells"]) == 1
    first, *others = capsys.readouterr().out.splitlines()
    assert "its record is damaged" in first and len(others) == len(studies.cells("smoke")) - 1
    assert all("no record" in line for line in others)


def test_cells_names_a_record_of_a_newer_version_and_run_cell_leaves_it_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    path = leave_record(made_record(config.smoke()))
    content = json.dumps({"schema_version": config.VERSION + 1})
    path.write_text(content)
    assert main(["cells"]) == 1
    assert "newer than this isonb study=smoke" in " ".join(capsys.readouterr().out.splitlines()[0].split())
    assert main(["run-cell"]) == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"{path} was written by a newer version of isonb") and path.read_text() == content


def test_a_report_leaves_table_and_verdicts_and_names_a_damaged_record(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "runs/smoke/sweep/1"
    reasons = {"one": "no record"}
    sweep.Plan(study="smoke", base="smoke", started=time.monotonic(), reasons=reasons, reused=1).write(folder)
    (folder / "one.done").touch()
    leave_record(made_record(config.smoke(), validation_loss=3.5))
    assert main(["report", str(folder)]) == 0
    capsys.readouterr()
    (folder / "report.done").unlink()
    (tmp_path / "smoke" / "damaged.json").write_text("{")
    assert main(["report", str(folder)]) == 1
    assert (folder / "report.done").exists()  # the sweep goes on
    assert "3.5" in (tmp_path / "smoke" / "table.csv").read_text()
    assert (tmp_path / "smoke" / "claims.txt").read_text().startswith("id ")
    printed = capsys.readouterr()
    assert "Study smoke: 1 run, 1 reused, 0 failed, in 0 min" in printed.out
    assert "damaged.json cannot be read as a result" in printed.err


def test_claims_are_printed_as_a_table_or_as_json(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    assert main(["claims"]) == 0
    assert capsys.readouterr().out.startswith("id ")
    assert main(["claims", "--json"]) == 0
    verdicts = {claim["id"]: claim["verdict"] for claim in json.loads(capsys.readouterr().out)["claims"]}
    assert verdicts["C5"] == "not run"


@pytest.mark.parametrize("command", ["cells", "claims", "complete"])
def test_results_that_are_no_folder_are_refused(command, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    assert main([command]) == 2
    expected = f"{tmp_path / 'file'} is not a folder: move it away, or set ISONB_RESULTS to another folder.\n"
    assert capsys.readouterr().err == expected
