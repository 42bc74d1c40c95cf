"""A time box: the minutes that a sweep has, by when its cells are asked to save, and by when they must have done so.

Times are of `time.monotonic`, which the processes of a machine share and nobody sets back.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

import psutil

from isonb.validation import ConfigError

UNTIL = "ISONB_UNTIL"  # when runners are asked to save, and when they must have done so; only a sweep sets it
SAVING, REPORTING = 20.0, 20.0  # seconds at a box's end: for a step and its checkpoint, and for the table of results
LEAST = 10.0  # seconds that the table is given even where saving has taken its time
STEPS = 2.5  # of the slowest network that saving may have to wait for
SHARE = 0.25  # of a box, the most that its end may take


@dataclass(frozen=True)
class Box:
    """When a box ends, when its cells are asked to save, and when they must have done so."""

    minutes: float
    stops: float
    saved: float
    ends: float

    def announce(self) -> None:
        """Tell the processes that this one starts."""
        os.environ[UNTIL] = f"{self.stops} {self.saved}"


def begin(minutes: float, slowest_step: float = 0.0) -> Box:
    """A box that began with this process; cells whose steps take so many seconds are asked to save the earlier."""
    ends = time.monotonic() - _age() + 60 * minutes
    saving = max(SAVING, STEPS * slowest_step)
    shrunk = min(1.0, SHARE * 60 * minutes / (saving + REPORTING))
    return Box(minutes, ends - shrunk * (saving + REPORTING), ends - shrunk * REPORTING, ends)


def _age() -> float:
    """Seconds since this process began, in which it has read its own code; none where the clock was set meanwhile."""
    age = time.time() - psutil.Process().create_time()
    return age if 0 < age < 60 else 0.0


def left() -> float | None:
    """Seconds until the cells of the box are asked to save, None outside of any box.

    Raises `ConfigError` where ISONB_UNTIL is no time.
    """
    times = _times()
    return times[0] - time.monotonic() if times else None


def grace() -> float:
    """Seconds that what was asked to save still has, none outside of any box. Raises as `left` does."""
    times = _times()
    return max(0.0, times[1] - time.monotonic()) if times else 0.0


def _times() -> tuple[float, float] | None:
    named = os.environ.get(UNTIL)
    if not named:
        return None
    try:
        stops, saved = map(float, named.split())
    except ValueError:
        stops = saved = math.nan
    if not (math.isfinite(stops) and math.isfinite(saved)):
        raise ConfigError(f"{UNTIL}={named!r} holds no two times: unset it; only a sweep sets it.")
    return stops, saved
