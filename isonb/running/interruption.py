"""How a runner ends before its notebook does: when it is asked to, and when the process that drives it is gone.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

import psutil

from isonb.running import box
from isonb.training import signals
from isonb.validation import ConfigError

DRIVER = "ISONB_DRIVER"  # the process whose end ends the runners that it started
GRACE = 8.0  # seconds that a kernel has to finish its step and save; what it does not save is a minute's work
PATIENCE = 0.1  # seconds between two looks
LARGEST = 2**31 - 1  # number that a process can have
STOPPED = signals.PREEMPTED  # exit status of what was asked to end, and goes on when it is started again


@contextlib.contextmanager
def heeded() -> Iterator[threading.Event]:
    """An event that a request to stop or the end of the driver sets; this process's kernels are then interrupted.

    An interrupted kernel takes its training step to the end, saves it and leaves its cell. One that has not done so
    after `GRACE` seconds, or later where a time box leaves it more, is killed. The driver is the process that
    ISONB_DRIVER names, if any. Raises `ConfigError` where it names none.
    """
    asked, over = threading.Event(), threading.Event()

    def ask(*_: object) -> None:
        if not asked.is_set():
            asked.set()
            threading.Thread(target=end_kernels, args=(over,), daemon=True).start()

    if pid := _driver():
        threading.Thread(target=_wait_for_end, args=(pid, over, ask), daemon=True).start()
    try:
        with signals.heeded(ask):
            yield asked
    finally:
        over.set()


def end_with_driver() -> None:
    """From now on, end this process and those it has started when the driver ends; for work that is soon redone.

    Raises `ConfigError` where ISONB_DRIVER names no process.
    """

    def end() -> None:
        kill_children()
        os._exit(STOPPED)

    if pid := _driver():
        threading.Thread(target=_wait_for_end, args=(pid, threading.Event(), end), daemon=True).start()


def interrupt(*_: object) -> None:
    """Raise `KeyboardInterrupt`: what any request to stop does to a command that has nothing to save."""
    raise KeyboardInterrupt


def kill_children() -> None:
    """Kill all that this process has started and that is still there."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def end_jobs(over: threading.Event) -> None:
    """From now on until it is over, end every job of the sweep that this process drives; those to come, too.

    A runner is asked to save and end. A report or a book is killed with all that it has started: it is soon redone.
    """
    threading.Thread(target=_end_jobs, args=(over,), daemon=True).start()


def _end_jobs(over: threading.Event) -> None:
    asked: set[psutil.Process] = set()
    while not over.is_set():
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                words = child.cmdline()
                if "run-cell" in words and child not in asked:
                    asked.add(child)
                    child.send_signal(signal.SIGINT)
                elif words[1:3] == ["-m", "isonb"] and words[3] in ("report", "book"):
                    for process in [*child.children(recursive=True), child]:
                        process.kill()
        over.wait(PATIENCE)


def _driver() -> int | None:
    """The process that ISONB_DRIVER names. Raises `ConfigError` where that is no process number."""
    named = os.environ.get(DRIVER)
    if not named:
        return None
    if not (named.isascii() and named.isdecimal() and 0 < int(named[:20]) <= LARGEST):
        raise ConfigError(f"{DRIVER}={named!r} is not the number of a process: unset it; only a sweep sets it.")
    return int(named)


def _wait_for_end(pid: int, over: threading.Event, ask: Callable[[], None]) -> None:
    """Call `ask` when a process ends; return when nobody wants to know any more."""
    try:
        ended = _watched(pid)
        while not ended():
            if over.is_set():
                return
    except (ProcessLookupError, psutil.NoSuchProcess):
        pass
    ask()


def _watched(pid: int) -> Callable[[], bool]:
    """A function that waits half a second at most and returns whether a process has ended.

    Raises `ProcessLookupError` or `psutil.NoSuchProcess` where it has ended before.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):  # not Linux, or a sandbox that knows no such call
        process = psutil.Process(pid)

        def look() -> bool:
            time.sleep(0.5)
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE

        return look
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return lambda: bool(poll.poll(500))


def end_kernels(over: threading.Event) -> None:
    """Interrupt this process's kernels, those to come, too, and kill the ones that are still there after a while."""
    interrupted: dict[psutil.Process, float] = {}
    grace = max(GRACE, box.grace())
    while not over.wait(PATIENCE):
        children = []
        with contextlib.suppress(psutil.Error, OSError):  # no file can be opened: look again
            children = psutil.Process().children()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                if child not in interrupted:
                    interrupted[child] = time.monotonic()
                    child.send_signal(signal.SIGINT)
                elif time.monotonic() - interrupted[child] > grace:
                    child.kill()
