"""What is left when a runner, its driver or its kernel ends: nothing that computes on, and a cell that can go on."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from isonb import config, studies
from isonb.__main__ import main
from isonb.running import interruption

pytestmark = pytest.mark.slow

# Says who it is, then computes until it is interrupted; a run that was asked to stop saves, which takes a while.
SOURCE = """
import os, pathlib, time
here = pathlib.Path(os.environ["HERE"])
(here / "kernel").write_text(str(os.getpid()))
try:
    time.sleep(120)
except KeyboardInterrupt:
    time.sleep(0.3)
    (here / "saved").touch()
    raise
"""
STUBBORN = SOURCE.replace("except KeyboardInterrupt:", "finally:\n    time.sleep(120)\nif False:")


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A runner at work, with the process number of its kernel; whatever happens, neither outlives the test."""
    for name, folder in (("ISONB_RESULTS", "results"), ("ISONB_RUNS", "runs"), ("HERE", ".")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    begun = []

    def start(source=SOURCE, driver=None):
        names = new_code_cell("study = block = encoding = depth = seed = None", metadata={"tags": ["parameters"]})
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        template = new_notebook(cells=[names, new_code_cell(source)], metadata={"kernelspec": kernel})
        nbformat.write(template, tmp_path / "template.ipynb")
        command = [sys.executable, "-m", "isonb", "run-cell", "--template", str(tmp_path / "template.ipynb")]
        environment = os.environ | ({interruption.DRIVER: str(driver)} if driver else {})
        runner = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        begun.append(runner)
        assert wait_until(lambda: (tmp_path / "kernel").exists() and (tmp_path / "kernel").read_text())
        begun.append(psutil.Process(int((tmp_path / "kernel").read_text())))
        return runner, begun[-1]

    yield start
    for process in begun:
        if process.is_running() if isinstance(process, psutil.Process) else process.poll() is None:
            process.kill()
        if isinstance(process, subprocess.Popen):
            process.communicate()


@pytest.mark.parametrize("request_to_stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_runner_that_is_asked_to_stop_lets_the_kernel_save(request_to_stop, started, tmp_path):
    runner, kernel = started()
    runner.send_signal(request_to_stop)
    lines = runner.communicate(timeout=60)[1].splitlines()
    run_id = config.smoke().run.run_id
    assert lines[-1] == f"{run_id} was stopped: run the same command again to continue from its last checkpoint."
    assert runner.returncode == 75
    assert (tmp_path / "saved").exists() and not kernel.is_running()
    assert not list((tmp_path / "runs").rglob("*.ipynb")) and not list((tmp_path / "results").rglob("*.*"))


def without_pidfd(*_):
    raise PermissionError(1, "Operation not permitted")  # as a sandbox does


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_the_end_of_the_driver_is_noticed_in_a_sandbox_too(has_pidfd, monkeypatch):
    if not has_pidfd:
        monkeypatch.setattr(os, "pidfd_open", without_pidfd)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as driver:
        monkeypatch.setenv(interruption.DRIVER, str(driver.pid))
        with interruption.heeded() as asked:
            assert not asked.wait(1)
            driver.kill()
            assert asked.wait(30)


@pytest.mark.parametrize("named", ["abc", "-1", "0", " 12", "1.5", "9" * 30, "\u0661"])
@pytest.mark.parametrize("command", [["run-cell"], ["report", "/nowhere"], ["book"]])
def test_a_driver_that_is_no_process_number_is_one_sentence(named, command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(interruption.DRIVER, named)
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path))
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    assert main(command) == 2
    sentence = f"ISONB_DRIVER={named!r} is not the number of a process: unset it; only a sweep sets it.\n"
    assert capsys.readouterr().err == sentence


@pytest.mark.parametrize("request_to_stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_has_nothing_to_save_ends_alike(request_to_stop, monkeypatch, capsys):
    monkeypatch.setattr(studies, "cells", lambda _: signal.raise_signal(request_to_stop))
    assert main(["cells"]) == 75
    assert capsys.readouterr().err == "Interrupted: run the same command again to continue.\n"


def test_nohup_keeps_a_hangup_from_ending_anything(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption.heeded() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked.is_set()
            signal.raise_signal(signal.SIGTERM)
            assert asked.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_runner_ends_with_its_driver_and_lets_the_kernel_save(started, tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as driver:
        runner, kernel = started(driver=driver.pid)
        driver.kill()
        assert runner.wait(60) == 75
    assert (tmp_path / "saved").exists() and not kernel.is_running()


def test_a_runner_whose_driver_has_gone_before_it_began_ends_at_once(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as driver:
        pass
    command = [sys.executable, "-m", "isonb", "run-cell"]
    environment = os.environ | {interruption.DRIVER: str(driver.pid), "ISONB_RUNS": str(tmp_path)}
    assert subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False).returncode == 75
    assert not list(tmp_path.rglob("*.log"))  # no notebook was begun


def test_a_runner_that_waits_for_another_of_its_cell_can_be_stopped(started, tmp_path):
    first, kernel = started()
    command = [sys.executable, "-m", "isonb", "run-cell"]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as driver:
        environment = os.environ | {interruption.DRIVER: str(driver.pid)}
        second = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        time.sleep(3)
        driver.kill()
        assert "was stopped while it waited for another run of it: start it again." in second.communicate(timeout=60)[1]
    assert second.returncode == 75 and first.poll() is None and kernel.is_running()


def test_a_kernel_that_does_not_end_is_killed(started, monkeypatch, tmp_path):
    runner, kernel = started(STUBBORN)
    asked = time.monotonic()
    runner.send_signal(signal.SIGINT)
    assert runner.wait(60) == 75
    assert time.monotonic() - asked >= interruption.GRACE - 1
    assert not kernel.is_running() and not (tmp_path / "saved").exists()


def test_a_kernel_ends_with_its_runner_and_the_cell_can_be_run_again(started):
    runner, kernel = started()
    runner.kill()
    assert wait_until(lambda: not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE)
    runner, _ = started()
    assert runner.poll() is None


def test_a_dead_kernel_is_a_failure_that_the_runner_survives(started):
    runner, kernel = started()
    kernel.kill()
    assert "DeadKernelError" in runner.communicate(timeout=60)[1]
    assert runner.returncode == 1


def test_work_that_is_soon_redone_ends_with_the_driver_and_takes_its_children_along(tmp_path):
    code = "import subprocess, time; from isonb.running import interruption; interruption.end_with_driver();"
    code += "print(subprocess.Popen(['sleep', '120']).pid, flush=True); time.sleep(120)"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as driver:
        environment = os.environ | {interruption.DRIVER: str(driver.pid)}
        with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) as work:
            child = psutil.Process(int(work.stdout.readline()))
            driver.kill()
            assert work.wait(60) == interruption.STOPPED
    assert wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
