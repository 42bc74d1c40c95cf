"""The kernels of chapters: forks that have the libraries and nothing else of the process that started them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbclient
import nbformat
import psutil
import pytest
import traitlets.config

from isonb import kernel
from isonb.pages import warm

pytestmark = pytest.mark.slow

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every kernel is a process of its own")


def answers(code, folder, **environment):
    """What a cell says on a kernel as chapters have them, started in a folder."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": kernel.NAME, "display_name": "", "language": "python"}
    with kernel.ours(warm.register()) as sockets:
        transport = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
        client = nbclient.NotebookClient(
            notebook,
            resources={"metadata": {"path": str(folder)}},
            timeout=60,
            shutdown_kernel="immediate",
            config=traitlets.config.Config(KernelManager=transport),
        )
        client.execute(env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)
    return "".join(output.get("text", "") for output in notebook.cells[0].outputs)


def program(script, **environment):
    """A program of its own that knows this module: a file, or code."""
    python_path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": python_path} | environment
    command = [script] if isinstance(script, Path) else ["-c", script]
    return subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True)


LOADED = (
    "import sys; print('torch' in sys.modules, sys.modules.get('isonb.config'), sys.modules.get('matplotlib.pyplot'))"
)


@linux
def test_a_kernel_has_the_libraries_and_nothing_of_the_project(tmp_path):
    assert answers(LOADED, tmp_path) == "True None None\n"


OWN = """
import multiprocessing, os, tempfile, torch
print(os.getcwd(), tempfile.gettempdir(), os.environ.get("TOLD"), os.environ.get("BEFORE"))
print(torch.get_num_threads(), multiprocessing.get_start_method(), os.getpgid(0) == os.getpid())
"""


@linux
def test_a_kernel_has_its_own_folder_environment_and_threads(tmp_path):
    (tmp_path / "temporary").mkdir()
    script = f"""
import multiprocessing, os, test_warm
first = test_warm.answers(test_warm.OWN, {str(tmp_path)!r}, TMPDIR={str(tmp_path / "temporary")!r}, TOLD="yes")
del os.environ["BEFORE"]
print(first + test_warm.answers(test_warm.OWN, {str(tmp_path.parent)!r}), multiprocessing.get_start_method())
print(os.environ["OMP_NUM_THREADS"])
"""
    with program(script, BEFORE="a", OMP_NUM_THREADS="2") as running:
        *said, usual, threads = running.communicate(timeout=120)[0].split("\n")[:-1]
    assert said[0] == f"{tmp_path} {tmp_path / 'temporary'} yes a"
    assert said[2] == f"{tmp_path.parent} {tempfile.gettempdir()} None None"
    assert said[1] == said[3] == f"1{usual} True"
    assert threads == "2"


@linux
def test_the_program_that_starts_kernels_runs_once_wherever_its_code_is(tmp_path):
    """multiprocessing would import its script into every fork, and this one starts kernels when it is imported."""
    script = tmp_path / "script.py"
    script.write_text(f"print('begins')\nimport test_warm\nprint(test_warm.answers({LOADED!r}, {str(tmp_path)!r}))\n")
    with program(script) as running:
        assert running.communicate(timeout=120)[0].splitlines() == ["begins", "True None None", ""]


@linux
def test_kernels_know_nothing_of_each_other(tmp_path):
    draw = "import random, uuid; left = 'here'; print(uuid.uuid4(), random.random())"
    assert answers(draw, tmp_path) != answers(draw, tmp_path)
    assert answers("print('left' in globals())", tmp_path) == "False\n"


@linux
@pytest.mark.parametrize("code", ["import os; os._exit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_kernel_that_dies_is_noticed(tmp_path, code):
    with pytest.raises(nbclient.exceptions.DeadKernelError):
        answers(code, tmp_path)


@linux
def test_what_a_kernel_has_started_is_stopped_with_it(tmp_path):
    code = "import subprocess; other = subprocess.Popen(['sleep', '600']); print(other.pid)"
    started = int(answers(code, tmp_path))
    assert ended([started])


@linux
def test_no_kernel_outlives_the_program_that_started_it(tmp_path):
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    script = f"import test_warm; test_warm.answers({code!r}, {str(tmp_path)!r})"
    with program(script) as running:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        family = [*(one.pid for one in psutil.Process(running.pid).children(recursive=True)), running.pid]
        assert int((tmp_path / "pid").read_text()) in family
        running.send_signal(signal.SIGKILL)
    assert ended(family)


@linux
def test_kernels_can_be_had_after_all_that_was_started_has_been_killed(tmp_path):
    script = f"""
import multiprocessing.resource_tracker, test_warm
from isonb.running import interruption
multiprocessing.resource_tracker.ensure_running()
for _ in range(2):
    interruption.kill_children()
    assert test_warm.ended([child.pid for child in test_warm.psutil.Process().children()])
    print(test_warm.answers(test_warm.LOADED, {str(tmp_path)!r}), end="")
"""
    with program(script, PYTHONWARNINGS="error::UserWarning") as running:
        assert running.communicate(timeout=120)[0].splitlines() == ["True None None"] * 2


@linux
def test_where_no_fork_can_be_had_a_kernel_is_a_process_as_any_other(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no more processes")

    monkeypatch.setattr(warm, "_start", refuse)
    assert answers(LOADED, tmp_path) == "False None None\n"


def test_only_on_linux_are_kernels_forks(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert warm.register() is None


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return True


def ended(numbers):
    return wait_until(lambda: not any(computes(number) for number in numbers))


def computes(number):
    """Whether a process is there and not merely waiting to be reaped, for which an orphan may wait for ever."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
