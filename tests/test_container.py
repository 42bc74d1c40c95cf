"""What a container may lack, all at once: cells and sweeps run there, or refuse in one sentence."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from isonb import places

pytestmark = pytest.mark.slow

TINY = {"width": 8, "epochs": 1, "image_size": 8, "data_fraction": 0.02, "probe_epochs": 1}
SETTINGS = [f"{name}={value}" for name, value in TINY.items()]
ISONB = [sys.executable, "-m", "isonb"]
SNAKEMAKE = [str(Path(sys.executable).with_name("snakemake")), "--cores", "1"]
# As root of a user namespace: a host's name that nobody resolves, and the project on a disk that cannot be written.
# Then as a number that has no name. There is no network, not even to itself.
INSIDE = """
hostname no-such-host && mount --bind {project} {project} && mount -o remount,bind,ro {project} || exit 99
cd {project}
exec unshare --user --map-user=12345 --map-group=12345 -- "$@"
"""


@pytest.fixture
def contained(tmp_path):
    """A function that runs a command so, with so many kilobytes of address space; gives how it ended."""

    def run(*command, kilobytes="unlimited"):
        inside = f"ulimit -v {kilobytes}" + INSIDE.format(project=shlex.quote(str(places.PROJECT)))
        outer = ["unshare", "--user", "--map-root-user", "--uts", "--net", "--mount", "--", "sh", "-c", inside, "sh"]
        folders = [f"ISONB_RUNS={tmp_path / 'runs'}", f"ISONB_RESULTS={tmp_path / 'results'}"]
        given = ["env", "-i", "PATH=/usr/bin:/bin", "HOME=/proc/nobody", *folders]
        return subprocess.run([*outer, *given, *command], capture_output=True, text=True, check=False)

    try:
        possible = run("sh", "-c", "test $(id -u) = 12345 -a ! -w .")
    except FileNotFoundError as error:
        pytest.skip(f"no container can be imitated here: {error}")
    if possible.returncode:
        pytest.skip(f"no container can be imitated here: {possible.stderr.strip() or 'the project can be written'}")
    return run


@pytest.fixture
def study(tmp_path):
    """A study of one tiny cell."""
    lines = ['study = "smoke"', "[[cell]]", 'block = "mixer"', *(f"{name} = {value}" for name, value in TINY.items())]
    path = tmp_path / "study.toml"
    path.write_text("\n".join(lines))
    return path


def test_a_cell_runs(contained, tmp_path):
    done = contained(*ISONB, "run-cell", *SETTINGS, kilobytes=16_000_000)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert " run, " in done.stdout
    assert len(list(tmp_path.glob("results/smoke/*.ipynb"))) == 1
    assert (tmp_path / "runs/home").is_dir()


def test_a_sweep_runs_in_a_folder_that_can_be_written(contained, study, tmp_path):
    (tmp_path / "state").mkdir()
    words = ["--config", f"study={study}", "book=no"]
    done = contained(*SNAKEMAKE, "--directory", str(tmp_path / "state"), *words)
    assert done.returncode == 0, done.stderr
    assert "1 run, 0 reused, 0 failed" in done.stdout
    refused = contained(*SNAKEMAKE, *words)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        f"{places.PROJECT} cannot be written, and Snakemake keeps a folder .snakemake in it: make it writable, or add "
        "`--directory` and a folder that is."
    )


def test_several_processes_refuse_where_they_cannot_meet(contained):
    done = contained(*ISONB, "pretrain", *SETTINGS, "processes=2")
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert sentence.startswith("Several processes meet at 127.0.0.1, which cannot be reached here (")


@pytest.mark.parametrize("kilobytes", [500_000, 1_000_000, 1_300_000])
def test_a_cell_without_enough_memory_fails_in_a_sentence(kilobytes, contained):
    done = contained(*ISONB, "run-cell", *SETTINGS, kilobytes=kilobytes)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("conv-") and " failed: " in last and ". See " in last


def test_a_book_without_room_for_its_formulas_is_refused_before_anything_is_executed(contained):
    done = contained(*ISONB, "book", kilobytes=20_000_000)
    assert (done.returncode, done.stdout) == (2, "")
    [sentence] = done.stderr.splitlines()
    assert sentence.startswith("The book's formulas cannot be typeset in 20,000,000 KiB of address space")
