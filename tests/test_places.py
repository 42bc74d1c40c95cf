"""Where things lie: one meaning of a relative folder in every process, and a package without its project."""

import os
import shutil
import subprocess
import sys

import pytest

from isonb import places

SAY = "import isonb, os; os.chdir('/'); from isonb import places as p"
SAY += "; print(p.results_folder('smoke'), p.runs_folder('cpu'), flush=True)"
AND_A_CHILD = f"{SAY}; import subprocess, sys; subprocess.run([sys.executable, '-c', {SAY!r}], check=True)"


def said_from(folder, code=AND_A_CHILD, **variables):
    """What a process prints that is started in a folder, leaves it, and starts another."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("ISONB_")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=own | variables, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ("out", "{here}/out"),
        ("./out/", "{here}/out"),
        ("../beside", "{above}/beside"),
        ("linked/out", "{above}/real/out"),
        ("a folder/ü", "{here}/a folder/ü"),
        ("~/out", "{home}/out"),
        ("~nobody-of-this-name/out", "{here}/~nobody-of-this-name/out"),
        ("/out", "/out"),
        ("", "{project}"),
    ],
)
def test_a_folder_means_the_same_in_every_process(tmp_path, named, meant):
    here, home = tmp_path / "here", tmp_path / "home"
    for folder in (here, home, tmp_path / "real"):
        folder.mkdir()
    (here / "linked").symlink_to("../real")
    names = {"here": here, "above": tmp_path, "home": home}
    results, runs = (meant.format(**names, project=places.PROJECT / default) for default in ("book/results", "_runs"))
    lines = said_from(here, ISONB_RESULTS=named, ISONB_RUNS=named, HOME=str(home))
    assert lines == [f"{results}/smoke {runs}/cpu"] * 2


def test_the_folder_of_images_is_handed_on_as_an_absolute_one(tmp_path):
    code = "import isonb, os; print(os.environ['ISONB_DATA'])"
    assert said_from(tmp_path, code, ISONB_DATA="cifar") == [f"{tmp_path}/cifar"]


def test_a_package_without_its_project_keeps_results_in_the_working_folder(tmp_path):
    shutil.copytree(places.PROJECT / "isonb", tmp_path / "site" / "isonb")
    here = tmp_path / "here"
    here.mkdir()
    paths = {"PYTHONPATH": str(tmp_path / "site")}
    assert said_from(here, **paths)[0] == f"{here}/book/results/smoke {here}/_runs/cpu"
    assert said_from(here, **paths, ISONB_RESULTS="out", ISONB_RUNS="out") == [f"{here}/out/smoke {here}/out/cpu"] * 2
    code = "from isonb import places; print(places.IS_CHECKOUT, places.TEMPLATE.read_text(encoding='utf-8')[:1])"
    assert said_from(here, code, **paths) == ["False {"]


def made(tmp_path, verb, **variables):
    """What a verb of the Makefile runs, as a stand-in for its program prints the environment that it is given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "jupyter").write_text("#!/bin/sh\nenv\n")
    (programs / "jupyter").chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    ready = tmp_path / "ready"
    ready.touch()
    settings = [f"BIN={programs}", f"READY={ready}", f"OWN={tmp_path}/mine.ipynb"]
    own = os.environ | variables
    command = ["make", verb, *settings]
    done = subprocess.run(command, cwd=places.PROJECT, env=own, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_make_lab_hands_on_absolute_folders(tmp_path):
    lines = made(tmp_path, "lab", ISONB_RESULTS="out", PYTHONPATH=str(places.PROJECT))
    assert f"ISONB_RESULTS={places.PROJECT / 'out'}" in lines
