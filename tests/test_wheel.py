"""The package without its project, as `pip install .` leaves it: what works, and what says that it needs more."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from isonb import places

pytestmark = pytest.mark.slow

TINY = ("width=8", "epochs=1", "image_size=8", "data_fraction=0.02", "probe_epochs=1")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds the installed package, and one to work in."""
    source, above = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("above")
    for name in ("isonb", "notebooks"):
        shutil.copytree(places.PROJECT / name, source / name, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-text"):
        shutil.copy(places.PROJECT / name, source)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", above)
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=source, check=True)
    with zipfile.ZipFile(next(above.glob("*.whl"))) as wheel:
        wheel.extractall(above / "site")
    (above / "here").mkdir()
    return above / "site", above / "here"


def run(installed, *command):
    site, here = installed
    own = {name: value for name, value in os.environ.items() if not name.startswith("ISONB_")}
    command = [sys.executable, "-m", *command]
    return subprocess.run(
        command, cwd=here, env=own | {"PYTHONPATH": str(site)}, capture_output=True, text=True, check=False
    )


def test_every_file_of_the_package_is_in_the_wheel(installed):
    def files(folder):
        paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path.relative_to(folder): path.read_bytes() for path in paths}

    assert files(installed[0] / "isonb") == files(places.PROJECT / "isonb")


def test_a_cell_runs_and_is_kept_in_the_working_folder(installed):
    done = run(installed, "isonb", "run-cell", *TINY)
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.split()[0]
    here = installed[1]
    for suffix in (".json", ".npz", ".ipynb"):
        assert (here / "book/results/smoke" / f"{run_id}{suffix}").exists()
    assert {path.name for path in here.iterdir()} == {"book", "_runs"}
    assert run(installed, "isonb", "run-cell", *TINY).stdout.split()[1] == "reused,"


@pytest.mark.parametrize("command", ["cells", "claims"])
def test_what_only_reads_works(installed, command):
    done = run(installed, "isonb", command)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout


def test_the_book_needs_the_project(installed):
    done = run(installed, "isonb", "book")
    assert done.returncode == 2
    assert done.stderr == (
        f"The package in {installed[0]} was installed without the book's pages: run the same command in the project's "
        "folder.\n"
    )
