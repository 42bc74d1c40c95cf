"""A kernel that hangs is not waited for for ever: without a sign of life for some minutes it is stopped as by Ctrl-C.

A sign of life is a line in its log, as every step of a training leaves, or processor time that it or a process of its
own uses: a long probe says nothing, but computes.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from isonb.running import interruption
from isonb.validation import ConfigError

PATIENCE = "ISONB_PATIENCE"  # seconds without a sign of life after which a kernel is stopped; "inf" waits for ever
USUAL = "600"  # of them: longer than a slow disk or an overloaded network file system keeps a process waiting
BUSY = 0.002  # share of a core; a kernel that does nothing uses a tenth of it, one that waits for a lock twice as much
PERIOD = 5.0  # seconds between two looks at most


@contextlib.contextmanager
def watched(log: Path) -> Iterator[threading.Event]:
    """An event that is set when this process's kernels, whose lines go to `log`, hang; they are then stopped.

    Raises `ConfigError` where ISONB_PATIENCE is no time.
    """
    patience = _patience()
    is_hung, over = threading.Event(), threading.Event()

    def watch() -> None:
        if _hangs(log, patience, over):
            is_hung.set()
            interruption.end_kernels(over)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield is_hung
    finally:
        over.set()


def words() -> str:
    """What is said of a kernel that was stopped."""
    return (
        f"its kernel wrote no line and used no processor time for {_patience():g} seconds and was stopped; "
        f"run it again, with {PATIENCE}=seconds if it needs longer"
    )


def _patience() -> float:
    word = os.environ.get(PATIENCE) or USUAL
    try:
        seconds = float(word)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise ConfigError(f"{PATIENCE}={word!r} is not allowed: give a number of seconds above 0.")
    return seconds


def _hangs(log: Path, patience: float, over: threading.Event) -> bool:
    """Wait until the kernels of this process hang, or until it is over and nobody wants to know any more.

    Time is counted in looks: that this process was stopped, or the machine asleep, is no kernel's fault.
    """
    period = min(PERIOD, patience / 10)
    silence, (size, seconds) = 0.0, _signs(log)
    while not over.wait(period):
        silence += period
        new_size, new_seconds = _signs(log)
        if new_size != size or abs(new_seconds - seconds) > BUSY * patience:
            silence, size, seconds = 0.0, new_size, new_seconds
        elif silence >= patience:
            return True
    return False


def _signs(log: Path) -> tuple[int, float]:
    """Bytes that a log has, and seconds of processor time that all processes below this one have used."""
    seconds, children = 0.0, []
    with contextlib.suppress(psutil.Error, OSError):  # too many open files: other time than before, and so a sign
        children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.Error, OSError):
            seconds += sum(child.cpu_times()[:2])
    return (log.stat().st_size if log.exists() else 0), seconds
