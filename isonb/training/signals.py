"""How a process is asked to stop, and how it ends together with the one that started it.

Book: chapter "Training".
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

PREEMPTED = os.EX_TEMPFAIL  # exit status after a request to stop, 75: the state is saved, run the same command again
REQUESTS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
)  # Ctrl-C; kill, docker stop, systemd, Slurm; a closed terminal


class Preempted(KeyboardInterrupt):
    """The run was asked to stop, finished its step and wrote a checkpoint."""


def heed(handler: Callable[..., None]) -> dict[int, Any]:
    """Call `handler` at each request to stop; returns the handlers before. Only the main thread can do this.

    SIGHUP stays ignored where nohup has seen to it.
    """
    numbers = [number for number in REQUESTS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers}


@contextlib.contextmanager
def heeded(handler: Callable[..., None]) -> Iterator[None]:
    """Call `handler` at each request to stop that comes meanwhile. Outside the main thread nothing is done."""
    before = heed(handler) if threading.current_thread() is threading.main_thread() else {}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier or signal.SIG_DFL)


@contextlib.contextmanager
def stop_requests(also: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """An event that a request to stop sets instead of its usual effect; `also` is then called as well.

    Only the main thread can receive signals: elsewhere the event is never set.
    """
    stop = threading.Event()

    def request(*_: object) -> None:
        stop.set()
        also()

    with heeded(request):
        yield stop


def die_with_parent() -> None:
    """Ask Linux for SIGTERM at the parent's end, however that comes, so that nothing computes on unseen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG
