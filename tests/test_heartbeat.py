"""Kernels that hang: stopped after some time without a sign of life, and none that shows one."""

import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from isonb.config import ConfigError
from isonb.running import heartbeat

WAITS = "import threading; print('up', flush=True); threading.Event().wait()"
IS_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " + WAITS
COMPUTES = "import time; print('up', flush=True)\nwhile True: sum(range(10**5))"
IN_A_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {COMPUTES!r}])"
IN_A_WAITING_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAITS!r}])"


@pytest.fixture
def kernel(monkeypatch):
    """A function that starts a process as a kernel of this one."""
    monkeypatch.setenv(heartbeat.PATIENCE, "1")
    monkeypatch.setattr(heartbeat.interruption, "GRACE", 0.5)
    started = []

    def start(code):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        started.append(process)
        assert process.stdout.readline() == b"up\n"
        return process

    yield start
    for process in started:
        for one in [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []:
            one.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("code", "ending"),
    [(WAITS, (1, -signal.SIGINT)), (IS_DEAF, (-signal.SIGKILL,)), (IN_A_WAITING_CHILD, (1, -signal.SIGINT))],
)
def test_a_kernel_without_a_sign_of_life_is_interrupted_and_then_killed(code, ending, kernel, tmp_path):
    process = kernel(code)
    with heartbeat.watched(tmp_path / "none.log") as is_hung:
        assert process.wait(60) in ending
    assert is_hung.is_set()


def test_a_kernel_that_is_stopped_by_a_signal_hangs(kernel, tmp_path):
    process = kernel(WAITS)
    process.send_signal(signal.SIGSTOP)
    with heartbeat.watched(tmp_path / "none.log") as is_hung:
        assert process.wait(60) == -signal.SIGKILL
    assert is_hung.is_set()


@pytest.mark.parametrize("code", [COMPUTES, IN_A_CHILD])
def test_a_long_computation_without_a_word_is_no_hang(code, kernel, tmp_path):
    process = kernel(code)
    with heartbeat.watched(tmp_path / "none.log") as is_hung:
        assert not is_hung.wait(3)
    assert process.poll() is None


def test_a_line_now_and_then_is_a_sign_of_life(kernel, tmp_path):
    process, log, over = kernel(WAITS), tmp_path / "one.log", threading.Event()

    def write():
        with log.open("w") as file:
            while not over.wait(0.1):
                print("a step", file=file, flush=True)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    with heartbeat.watched(log) as is_hung:
        assert not is_hung.wait(3)
        over.set()
        assert process.wait(60) and is_hung.is_set()
    writer.join()


def test_nobody_is_stopped_when_all_is_over(kernel, tmp_path):
    process = kernel(WAITS)
    with heartbeat.watched(tmp_path / "none.log") as is_hung:
        pass
    time.sleep(2)
    assert process.poll() is None and not is_hung.is_set()


@pytest.mark.parametrize("word", ["soon", "0", "-3", "nan", "10 min"])
def test_a_patience_that_is_no_time_is_refused(word, monkeypatch, tmp_path):
    monkeypatch.setenv(heartbeat.PATIENCE, word)
    expected = r"ISONB_PATIENCE=.* is not allowed: give a number of seconds above 0"
    with pytest.raises(ConfigError, match=expected), heartbeat.watched(tmp_path / "none.log"):
        pass


def test_what_is_said_names_the_time_and_how_to_change_it(monkeypatch):
    monkeypatch.delenv(heartbeat.PATIENCE, raising=False)
    assert heartbeat.words() == (
        "its kernel wrote no line and used no processor time for 600 seconds and was stopped; "
        "run it again, with ISONB_PATIENCE=seconds if it needs longer"
    )
