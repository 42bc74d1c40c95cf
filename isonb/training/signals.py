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

PREEMPTED = os.EX_TEMPFAIL  # exit status after SIGTERM or SIGINT, 75: the state is saved, run the same command again
REQUESTS = (signal.SIGTERM, signal.SIGINT)


class Preempted(KeyboardInterrupt):
    """The run was asked to stop, finished its step and wrote a checkpoint."""


@contextlib.contextmanager
def stop_requests(also: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets instead of their usual effect; `also` is then called as well.

    Only the main thread can receive signals: elsewhere the event is never set.
    """
    stop = threading.Event()

    def request(*_: object) -> None:
        stop.set()
        also()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, request) for number in REQUESTS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def die_with_parent() -> None:
    """Ask Linux for SIGTERM at the parent's end, however that comes, so that nothing computes on unseen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG
