"""What of a machine is really this process's own: its cores and its memory.

A container, a batch system or systemd may give less than there is, by control groups (cgroup v1 and v2): each of them
lies in others, and the smallest limit holds.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path("/")
MEMORY = ("memory.max", "memory.high", "memory.limit_in_bytes")  # bytes or "max"; the last is that of version 1
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"  # of version 1; version 2 has both in cpu.max
KILLS = ("memory.events", "memory.oom_control")  # with a line such as "oom_kill 3"
# Of a line of /proc/self/mountinfo: what of a hierarchy is shown, where, of which version and with which controllers.
MOUNT = re.compile(r"^\S+ \S+ \S+ (\S+) (\S+) .*- (cgroup2?) \S+ (\S+)$", re.MULTILINE)


def cores(root: Path = ROOT) -> int:
    """The processor cores that this process may use: those it may run on, and no more than its share of time is worth.

    `root` is where the system's /proc and /sys lie.
    """
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on; it heeds PYTHON_CPU_COUNT, too
        usable = os.process_cpu_count()
    else:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min([usable or 1, *_shares(root)])))


def _shares(root: Path) -> Iterator[float]:
    """The processor time of each control group that limits it, in cores."""
    for folder in _control_groups("cpu", root):
        both = _read(folder / "cpu.max") or f"{_read(folder / QUOTA)} {_read(folder / PERIOD)}"
        if limit := re.fullmatch(r"(\d+) ([1-9]\d*)", both):  # no limit is "max 100000", or -1 in version 1
            yield int(limit[1]) / int(limit[2])


def memory_mb(root: Path = ROOT) -> int:
    """The machine's memory, or what the control groups of this process leave of it.

    A limit of the address space (`ulimit -v`) does not count: it is one for each process, not one for all.
    """
    limits = (_read(folder / name) for folder in _control_groups("memory", root) for name in MEMORY)
    return min([psutil.virtual_memory().total, *(int(limit) for limit in limits if limit.isdecimal())]) // 2**20


def memory_kills(root: Path = ROOT) -> int:
    """How often a process was killed for want of memory so far, on this machine or in a control group of this process.

    The number only tells whether there was one between two looks: one kill may be counted in several places.
    """
    places = [root / "proc" / "vmstat"]
    places += [folder / name for folder in _control_groups("memory", root) for name in KILLS]
    return sum(int(count) for place in places for count in re.findall(r"^oom_kill (\d+)$", _read(place), re.MULTILINE))


def _control_groups(controller: str, root: Path) -> list[Path]:
    """The folders of the control groups that this process is in and that may limit `controller`, inner ones first.

    A mount may show only a part of the hierarchy, as in a container, and not the part that this process is in.
    """
    groups = {}  # that this process is in, by controller; that of version 2 by the empty word
    for controllers, group in re.findall(r"^\d+:([^:]*):(.*)$", _read(root / "proc/self/cgroup"), re.MULTILINE):
        groups |= dict.fromkeys(controllers.split(","), group)
    folders: list[Path] = []
    for shown, mounted, kind, options in MOUNT.findall(_read(root / "proc/self/mountinfo")):
        if kind == "cgroup2" or controller in options.split(","):
            inside = Path(os.path.relpath(groups.get("" if kind == "cgroup2" else controller, "/"), shown))
            levels = [] if ".." in inside.parts else [inside, *inside.parents]
            folders += [root / mounted.lstrip("/") / level for level in levels or [Path()]]
    return folders


def _read(path: Path) -> str:
    """A file's text without the white space around it; empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""
