"""Where the cells of a sweep compute: cores shared out, GPUs as torch sees them, and one for each runner."""

import os
import subprocess
import sys

import pytest

from isonb.config import ConfigError, Execution
from isonb.running import placement

TORCH = """
class cuda:
    is_available = lambda: {count} > 0
    device_count = lambda: {count}
    get_device_properties = lambda number: type("Properties", (), {{"total_memory": ({gib} - number) * 2**30}})
"""


@pytest.fixture
def torch_sees(tmp_path, monkeypatch):
    """A function that stands in for torch with so many GPUs, each of a GiB less than the one before it.

    nvidia-smi is on no path, and nobody has set any apart.
    """
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(tmp_path / "installed")]))
    monkeypatch.syspath_prepend(tmp_path / "installed")  # here its version alone, as another torch may be imported
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def see(count, noise="", version="2.13.0+cu130", gib=80):
        (tmp_path / "torch.py").write_text(noise + TORCH.format(count=count, gib=gib))
        about = tmp_path / "installed" / "torch.dist-info" / "METADATA"
        about.parent.mkdir(parents=True, exist_ok=True)
        about.write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        placement.gpu_memories.cache_clear()

    yield see
    placement.gpu_memories.cache_clear()


@pytest.fixture
def two_gpus(torch_sees):
    torch_sees(2)


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [
        (None, 0, []),
        (None, 2, ["0", "1"]),
        ("", 2, []),
        ("-1", 2, []),
        (" ", 2, []),
        ("1", 1, ["1"]),
        ("3, 1", 2, ["3", "1"]),
        ("0,7", 1, ["0"]),  # 7 is out of range: CUDA ignores it and what follows
        ("0,-1,1", 1, ["0"]),
        ("9", 0, []),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", 1, ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]),
        ("MIG-GPU-8932f937/1/0,MIG-GPU-8932f937/2/0", 1, ["MIG-GPU-8932f937/1/0"]),
    ],
)
def test_gpus_are_those_that_torch_sees_by_the_names_they_were_given(visible, count, names, torch_sees, monkeypatch):
    torch_sees(count)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert placement.gpus() == names


def test_nobody_asks_a_torch_for_cpus_alone_or_where_the_cpu_is_chosen(torch_sees, monkeypatch):
    torch_sees(2)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("torch is imported"))
    assert placement.resolve("cpu") == "cpu" and placement.threads("cpu", 1, together=False) == placement.cores()
    assert placement.threads("gpu-all", 3) == placement.cores()
    torch_sees(2, version="2.13.0+cpu")
    assert placement.gpus() == []


def test_a_torch_that_talks_or_fails_is_no_obstacle(torch_sees):
    torch_sees(1, noise="print('a warning of 3 parts')\n")
    assert placement.gpus() == ["0"]
    torch_sees(1, noise="raise ImportError('libcudart')\n")
    assert placement.gpus() == []


def test_cells_go_to_gpus_where_there_are_any(torch_sees, capsys):
    torch_sees(2)
    assert [placement.resolve(word) for word in ("auto", "cpu", "given", "gpu-all")] == [
        "gpu-each",
        "cpu",
        "given",
        "gpu-all",
    ]
    torch_sees(0)
    assert placement.resolve("auto") == "cpu"
    assert capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match="placement='gpu-all' needs a GPU, and PyTorch finds none: choose 'cpu'"):
        placement.resolve("gpu-all")


@pytest.mark.parametrize(
    ("tool", "is_told"), [("echo GPU 0: H100", True), ("echo no driver; exit 9", False), ("true", False)]
)
def test_gpus_that_torch_cannot_use_are_told_of(tool, is_told, torch_sees, tmp_path, monkeypatch, capsys):
    torch_sees(0)
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{tool}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert placement.resolve("auto") == "cpu"
    warning = "There is a GPU, but this PyTorch cannot use it: cells run on the CPU.\n"
    assert capsys.readouterr().err == (warning if is_told else "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # set apart on purpose
    assert placement.resolve("auto") == "cpu" and capsys.readouterr().err == ""


def test_a_device_that_is_not_there_is_refused_before_anything_starts(torch_sees):
    torch_sees(0)
    placement.require_device(Execution())
    placement.require_device(Execution(device="cpu", processes=8))
    with pytest.raises(ConfigError, match="device='cuda' is not allowed: PyTorch finds no such device here"):
        placement.require_device(Execution(device="cuda"))
    torch_sees(2)
    placement.require_device(Execution(device="cuda", processes=2))
    with pytest.raises(
        ConfigError, match="processes=3 is not allowed: each needs a GPU of its own and PyTorch finds 2"
    ):
        placement.require_device(Execution(device="cuda", processes=3))


@pytest.mark.parametrize(
    ("where", "left", "together", "threads"),
    [
        ("cpu", 9, True, 1),  # eight at once, a core each
        ("cpu", 9, False, 8),  # one after another
        ("cpu", 3, True, 2),  # three at once share eight cores
        ("cpu", 0, True, 8),
        ("gpu-each", 9, True, 4),  # two at once
        ("gpu-all", 9, True, 8),
    ],
)
def test_cores_are_shared_among_the_cells_at_work(where, left, together, threads, two_gpus, monkeypatch):
    monkeypatch.setattr(placement, "cores", lambda: 8)
    assert placement.threads(where, left, together) == threads


def test_no_more_cells_run_at_once_than_fit_into_memory(monkeypatch):
    """16 GB hold sixteen, four, three, one and no cell of so much; eight cores are shared out so that no more run."""
    monkeypatch.setattr(placement, "cores", lambda: 8)
    monkeypatch.setattr(placement, "memory_mb", lambda: 16_000)
    needs = (1_000, 4_000, 5_000, 9_000, 20_000)
    assert [placement.threads("cpu", 9, megabytes=each) for each in needs] == [1, 2, 4, 8, 8]


@pytest.mark.parametrize(
    ("threads", "offered", "slots"),
    [
        (1, 8, 1),  # all cores are ours
        (1, 64, 8),  # of 64 cores an eighth is ours: eight cells of a thread at once
        (4, 64, 32),  # two of four threads
        (8, 64, 64),
        (2, 1, 2),  # Snakemake cuts it down to what it has
        (4, None, 4),  # a cluster
    ],
)
def test_where_a_part_of_the_processor_is_ours_fewer_cells_run(threads, offered, slots, monkeypatch):
    monkeypatch.setattr(placement, "cores", lambda: 8)
    assert placement.slots(threads, offered) == slots


def test_every_runner_has_a_gpu_of_its_own_until_it_ends(two_gpus, monkeypatch):
    code = "import os; from isonb.running import placement\nwith placement.a_gpu() as name:\n"
    code += "    print(name, os.environ['CUDA_VISIBLE_DEVICES'], flush=True); input()"
    monkeypatch.setenv(placement.GPU, "1")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runners = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(2)]
    assert sorted(runner.stdout.readline() for runner in runners) == ["0 0\n", "1 1\n"]
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as third:
        freed = runners[0]
        freed.kill()
        freed.communicate()
        name, visible = third.stdout.readline().split()
        assert name == visible and name in ("0", "1")
        third.communicate("\n")
    runners[1].communicate("\n")


def test_cells_that_share_gpus_fill_the_empty_ones_first(two_gpus, monkeypatch):
    """Two on each of two: the third waits for none, the fifth for one of the four to end."""
    code = "import os; from isonb.running import placement\nwith placement.a_gpu() as name:\n"
    code += "    print(name, flush=True); input()"
    monkeypatch.setenv(placement.GPU, "2")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runners, taken = [], []
    for _ in range(4):
        runners.append(subprocess.Popen([sys.executable, "-c", code], **pipes))
        taken.append(runners[-1].stdout.readline().strip())
    assert taken == ["0", "1", "0", "1"]
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as fifth:
        runners[1].kill()
        runners[1].communicate()
        assert fifth.stdout.readline() == "1\n"
        fifth.communicate("\n")
    for runner in runners[:1] + runners[2:]:
        runner.communicate("\n")


@pytest.mark.parametrize(
    ("wanted", "megabytes", "most", "cells"),
    [
        ("auto", 4864, 4, 2),  # 90 % of the smaller one's 15 GiB are 13 824 MiB
        ("auto", 7000, 4, 1),
        ("auto", 1000, 2, 2),  # more would fit, and be no faster
        ("auto", 1000, 9, 4),  # eight cores feed four on each of two
        ("auto", 99_000, 4, 1),  # one is tried whatever was predicted
        (7, 99_000, 1, 7),  # who asks for a number gets it
    ],
)
def test_a_gpu_is_filled_by_memory_by_what_is_faster_and_by_the_cores_that_feed_it(
    wanted, megabytes, most, cells, torch_sees, monkeypatch
):
    torch_sees(2, gib=16)
    monkeypatch.setattr(placement, "cores", lambda: 8)
    assert placement.cells_per_gpu(wanted, megabytes, most) == cells


def test_cells_that_share_gpus_share_the_cores_too(two_gpus, monkeypatch):
    monkeypatch.setattr(placement, "cores", lambda: 16)
    assert [placement.threads("gpu-each", 99, per_gpu=count) for count in (1, 2, 4)] == [8, 4, 2]
    assert placement.threads("gpu-each", 2, per_gpu=4) == 8  # no more than are left


@pytest.mark.parametrize("word", ["many", "-1", "²", "1.5", "65", "9" * 5000])
def test_a_number_of_cells_on_a_gpu_that_is_none_is_refused(word, two_gpus, monkeypatch):
    monkeypatch.setenv(placement.GPU, word)
    with pytest.raises(ConfigError, match=r"ISONB_GPU=.* is not allowed: give a number"), placement.a_gpu():
        pass


@pytest.mark.parametrize("wish", [None, "", "0"])
def test_without_the_wish_no_gpu_is_taken(wish, two_gpus, monkeypatch):
    monkeypatch.delenv(placement.GPU, raising=False)
    if wish is not None:
        monkeypatch.setenv(placement.GPU, wish)
    with placement.a_gpu() as name:
        assert name is None and "CUDA_VISIBLE_DEVICES" not in os.environ
