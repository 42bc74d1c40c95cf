"""What of a machine is a process's own: limits of control groups of both versions, in made-up /proc and /sys."""

import os
import types

import psutil
import pytest

from isonb import machine

V2 = "30 20 0:1 {shown} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 31 0:3 {shown} /sys/fs/cgroup/{name} rw,relatime - cgroup cgroup rw,{name}"
ROOT = "23 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw"


@pytest.fixture(autouse=True)
def big_machine(monkeypatch):
    """A machine of 64 cores and 64 GB."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(total=64_000 * 2**20))


def world(root, groups, mounts, **files):
    """A file system with a process's groups, what is mounted, and files of control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(groups) + "\n")
    (root / "proc/self/mountinfo").write_text("\n".join([ROOT, *mounts]) + "\n")
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content + "\n")
    return root


@pytest.mark.parametrize(
    ("group", "shown", "files", "megabytes", "cores"),
    [
        ("/", "/", {}, 64_000, 64),  # no limit anywhere
        ("/", "/", {"memory.max": "max", "cpu.max": "max 100000"}, 64_000, 64),
        ("/", "/", {"memory.max": str(450 * 2**20), "cpu.max": "200000 100000"}, 450, 2),  # a container of its own
        ("/a/b", "/", {"a/memory.max": str(300 * 2**20), "a/b/memory.max": "max"}, 300, 64),  # the outer one holds
        ("/a/b", "/", {"a/memory.max": str(900 * 2**20), "a/b/memory.max": str(500 * 2**20)}, 500, 64),
        ("/a/b", "/", {"a/cpu.max": "350000 100000", "a/b/cpu.max": "max 100000"}, 64_000, 3),
        ("/a", "/", {"a/cpu.max": "50000 100000"}, 64_000, 1),  # half a core is one thread
        ("/a", "/", {"a/memory.high": str(700 * 2**20), "a/memory.max": "max"}, 700, 64),  # as MemoryHigh= of systemd
        ("/other", "/", {"a/memory.max": "1048576"}, 64_000, 64),  # another's limit
        ("/docker/x", "/docker/x", {"memory.max": str(600 * 2**20)}, 600, 64),  # the mount shows its own group
        ("/", "/docker/x", {"memory.max": str(600 * 2**20)}, 600, 64),  # a namespace of its own within that mount
        ("/", "/", {"memory.max": str(2**50)}, 64_000, 64),  # more than there is
        ("/", "/", {"memory.max": "", "cpu.max": "lots"}, 64_000, 64),
    ],
)
def test_the_smallest_limit_of_all_groups_holds(group, shown, files, megabytes, cores, tmp_path):
    root = world(
        tmp_path,
        [f"0::{group}"],
        [V2.format(shown=shown)],
        **{f"sys/fs/cgroup/{path}": content for path, content in files.items()},
    )
    assert (machine.memory_mb(root), machine.cores(root)) == (megabytes, cores)


@pytest.mark.parametrize(
    ("files", "megabytes", "cores"),
    [
        ({}, 64_000, 64),
        ({"memory/memory.limit_in_bytes": "9223372036854771712", "cpu/cpu.cfs_quota_us": "-1"}, 64_000, 64),
        ({"memory/job/memory.limit_in_bytes": str(450 * 2**20)}, 450, 64),
        ({"memory/memory.limit_in_bytes": str(200 * 2**20)}, 200, 64),
        ({"cpu/job/cpu.cfs_quota_us": "800000", "cpu/job/cpu.cfs_period_us": "100000"}, 64_000, 8),
        ({"cpu/job/cpu.cfs_quota_us": "800000", "cpu/job/cpu.cfs_period_us": "0"}, 64_000, 64),
        ({"memory/other/memory.limit_in_bytes": "1048576"}, 64_000, 64),
    ],
)
def test_version_1_has_a_hierarchy_for_each_controller(files, megabytes, cores, tmp_path):
    mounts = [V1.format(shown="/", name=name) for name in ("memory", "cpu")]
    root = world(
        tmp_path,
        ["4:memory:/job", "3:cpuacct,cpu:/job", "0::/"],
        [*mounts, V2.format(shown="/").replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")],
        **{f"sys/fs/cgroup/{path}": content for path, content in files.items()},
    )
    assert (machine.memory_mb(root), machine.cores(root)) == (megabytes, cores)


def test_a_machine_without_control_groups_is_all_ours(tmp_path):
    assert (machine.memory_mb(tmp_path), machine.cores(tmp_path), machine.memory_kills(tmp_path)) == (64_000, 64, 0)


def test_where_a_process_has_no_affinity_all_cores_are_its_own(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert machine.cores(tmp_path) == 6
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5}, raising=False)  # as within a cpuset
    assert machine.cores(tmp_path) == 2


def test_a_kill_for_want_of_memory_is_counted_in_either_version(tmp_path):
    root = world(tmp_path, ["0::/a"], [V2.format(shown="/")])
    events = root / "sys/fs/cgroup/a/memory.events"
    events.parent.mkdir(parents=True)
    before = machine.memory_kills(root)
    events.write_text("low 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n")
    after = machine.memory_kills(root)
    assert (before, after) == (0, 2)
    (root / "proc/vmstat").write_text("nr_free_pages 1\noom_kill 5\npgfault 7\n")
    assert machine.memory_kills(root) == 7
