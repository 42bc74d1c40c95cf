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

DRIVER = "ISONB_DRIVER"  # the process whose end ends the runners that it started
GRACE = 8.0  # seconds that a kernel has to finish its step and save; what it does not save is a minute's work
PATIENCE = 0.1  # seconds between two looks
STOPPED = os.EX_TEMPFAIL  # exit status of what was asked to end, and goes on when it is started again: 75
REQUESTS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def heeded() -> Iterator[threading.Event]:
    """An event that is set by SIGINT, SIGTERM or the end of the driver; this process's kernels are then interrupted.

    An interrupted kernel takes its training step to the end, saves it and leaves its cell. One that has not done so
    after `GRACE` seconds is killed. The driver is the process that ISONB_DRIVER names, if any.
    """
    asked, over = threading.Event(), threading.Event()

    def ask(*_: object) -> None:
        if not asked.is_set():
            asked.set()
            threading.Thread(target=_end_children, args=(over,), daemon=True).start()

    if driver := os.environ.get(DRIVER):
        threading.Thread(target=_wait_for_end, args=(int(driver), over, ask), daemon=True).start()
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, ask) for number in REQUESTS} if is_main else {}
    try:
        yield asked
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def end_with_driver() -> None:
    """From now on, end this process and those it has started when the driver ends; for work that is soon redone."""
    if driver := os.environ.get(DRIVER):
        threading.Thread(target=_wait_for_end, args=(int(driver), threading.Event(), _end_all), daemon=True).start()


def _end_all() -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(STOPPED)


def _wait_for_end(pid: int, over: threading.Event, ask: Callable[[], None]) -> None:
    """Call `ask` when a process ends; return when nobody wants to know any more. Only Linux can tell."""
    if not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        ask()
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while not over.is_set():
            if poll.poll(500):
                ask()
                return
    finally:
        os.close(descriptor)


def _end_children(over: threading.Event) -> None:
    """Interrupt this process's kernels, those to come, too, and kill the ones that are still there after a while."""
    interrupted: dict[psutil.Process, float] = {}
    while not over.wait(PATIENCE):
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child not in interrupted:
                    interrupted[child] = time.monotonic()
                    child.send_signal(signal.SIGINT)
                elif time.monotonic() - interrupted[child] > GRACE:
                    child.kill()
