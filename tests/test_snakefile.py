"""The verb that runs the Snakefile: what it hands on to Snakemake, and that every refusal is one sentence."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from isonb import config, places
from isonb.__main__ import main

PROFILES = {
    "cut": b"cores: [\n",
    "unknown": b"coers: 3\n",
    "list": b"- 3\n",
    "binary": b"\x8c\xff\x00",
}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("ISONB_DRIVER", raising=False)


@pytest.fixture
def profiles(tmp_path, monkeypatch):
    """In the working folder, profiles of Snakemake that are none."""
    monkeypatch.chdir(tmp_path)
    for name, content in PROFILES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_bytes(content)


def require_sentence(said, beginning):
    """See that all that was said is one sentence, of one line."""
    [sentence] = said.splitlines()
    assert sentence.startswith(beginning) and sentence.endswith((".", "?"))


def swept(tmp_path, *words, **variables):
    """What `python -m isonb sweep` does, in a folder of its own."""
    command = [sys.executable, "-m", "isonb", "sweep", *words]
    own = os.environ | {"PYTHONPATH": str(places.PROJECT)} | variables
    return subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cpu"], "'cpu' is not a setting: write name=value, as in study=cpu."),
        (["=smoke"], "'=smoke' is not a setting"),
        (["study="], "'study=' is not a setting"),
        (["study=cpu", "my-study=1"], "'my-study=1' is not a setting"),
        (["-n", "--config", "study=cpu"], "--config is not needed here: write settings, as study=cpu, before"),
        (["study=cpu", "-C", "threads=1"], "--config is not needed here"),
        (["study=cpu", "--config=threads=1"], "--config is not needed here"),
        (["--nothing"], "Snakemake refuses to start: unrecognized arguments: --nothing; `"),
        (["--cores", "many"], "Snakemake refuses to start: Error parsing number of cores"),
        (["--profile", "nothing"], "Snakemake refuses to start: profile directory given (nothing)"),
        (["--workflow-profile", "cut"], "Snakemake refuses to start: Couldn't parse config file"),
        (["--workflow-profile", "unknown"], "Snakemake refuses to start: unrecognized arguments: --coers=3"),
        (["--workflow-profile", "list"], "Snakemake refuses to start: The config file doesn't appear to contain"),
        (["--workflow-profile", "binary"], "Snakemake refuses to start: Couldn't parse config file"),
    ],
)
def test_what_cannot_be_asked_of_a_sweep_is_one_sentence(words, message, profiles, capsys):
    assert main(["sweep", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    require_sentence(said.err, message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study=smok"], "study='smok' is not allowed: choose smoke, cpu, paper."),
        (["stdy=cpu"], "There is no setting called 'stdy': did you mean 'study'?"),
        (["study=smoke", "--configfile", "/nowhere.yaml"], "Snakemake refuses to start: FileNotFoundError: "),
        (["--configfile", "cut/config.yaml"], "Snakemake refuses to start: WorkflowError: Config file is not valid"),
        (["--snakefile", "/nowhere"], "Snakemake refuses to start: "),
    ],
)
@pytest.mark.slow
def test_a_sweep_that_cannot_start_is_one_sentence(words, message, profiles, tmp_path):
    done = swept(tmp_path, *words)
    assert (done.returncode, done.stdout) == (1, "")
    require_sentence(done.stderr, message)


@pytest.mark.slow
def test_a_dry_run_from_anywhere_is_by_no_profile_of_the_site(tmp_path):
    study = tmp_path / "mine.toml"
    study.write_text('study = "smoke"\n[[cell]]\nblock = "mixer"\n')
    done = swept(tmp_path, "study=mine.toml", "book=no", "-n", SNAKEMAKE_PROFILE="cluster")
    assert done.returncode == 0, done.stderr
    assert f"{config.smoke(block='mixer').run.run_id}: no record; " in done.stdout
    assert not done.stderr


def test_what_make_is_given_reaches_the_sweep(tmp_path):
    (tmp_path / "ready").touch()
    settings = [f"READY={tmp_path}/ready", "BIN=bin", "STUDY=cpu", "MINUTES=12", "SNAKEMAKE=only=missing -n"]
    command = [shutil.which("make"), "--no-print-directory", "--dry-run", "study", *settings]
    done = subprocess.run(command, cwd=places.PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == 'bin/python -m isonb sweep "study=cpu"  minutes=12 only=missing -n\n'


@pytest.mark.slow
def test_a_sweep_that_is_stopped_while_snakemake_is_loaded_says_so(tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "isonb", "sweep", "-n"]
    with subprocess.Popen(command, cwd=places.PROJECT, stderr=subprocess.PIPE, text=True) as sweep:
        for line in sweep.stderr:
            if line.split("|")[-1].strip().startswith("snakemake."):
                sweep.send_signal(signal.SIGINT)
                break
        rest = sweep.stderr.read()
    assert sweep.returncode == 75
    assert "run" in rest.splitlines()[-1] and "to continue" in rest.splitlines()[-1]
