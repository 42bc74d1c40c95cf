"""Where the cells of a sweep compute: cores shared out, GPUs found without torch, and one for each runner."""

import os
import subprocess
import sys

import pytest

from isonb.config import ConfigError
from isonb.running import placement


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """A machine whose nvidia-smi names two GPUs."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_where_a_process_has_no_affinity_all_cores_are_its_own(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert placement.cores() == 6


def test_gpus_are_those_of_nvidias_tool_unless_some_are_set_apart(two_gpus, monkeypatch):
    assert placement.gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert placement.gpus() == ["1"]
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert placement.gpus() == []


def test_a_machine_without_the_tool_or_with_one_that_fails_has_no_gpus(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert placement.gpus() == []
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho no driver\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert placement.gpus() == []
    assert placement.resolve("auto") == "cpu"
    with pytest.raises(ConfigError, match="placement='gpu-all' needs a GPU, and nvidia-smi finds none"):
        placement.resolve("gpu-all")


def test_cells_go_to_gpus_where_there_are_any(two_gpus, monkeypatch, capsys):
    monkeypatch.setattr(placement, "is_usable_by_torch", lambda: True)
    assert placement.resolve("auto") == "gpu-each"
    assert capsys.readouterr().err == ""
    assert placement.resolve("cpu") == "cpu"
    assert placement.resolve("given") == "given"


def test_gpus_that_torch_cannot_use_are_told_of_and_left_alone(two_gpus, monkeypatch, tmp_path, capsys):
    """With a stand-in for torch, which is asked once and never where there is no GPU."""
    (tmp_path / "torch.py").write_text("print('asked')\nclass cuda:\n    is_available = lambda: False\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    asked, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda words, **more: asked.append(words[0]) or run(words, **more))
    placement.is_usable_by_torch.cache_clear()
    assert placement.resolve("auto") == placement.resolve("auto") == "cpu"
    warning = "There is a GPU, but this PyTorch cannot use it: cells run on the CPU.\n"
    assert capsys.readouterr().err == 2 * warning
    assert asked.count(sys.executable) == 1

    (tmp_path / "torch.py").write_text("class cuda:\n    is_available = lambda: True\n")
    placement.is_usable_by_torch.cache_clear()
    assert placement.resolve("auto") == "gpu-each"
    placement.is_usable_by_torch.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    asked.clear()
    assert placement.resolve("auto") == "cpu" and asked == [] and capsys.readouterr().err == ""


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
    monkeypatch.setattr(placement, "cores", lambda: 8)
    monkeypatch.setattr(placement, "memory_mb", lambda: 16_000)
    assert [placement.threads("cpu", 9, megabytes=each) for each in (1_000, 4_000, 9_000, 20_000)] == [1, 2, 8, 8]


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


def test_without_the_wish_no_gpu_is_taken(two_gpus, monkeypatch):
    monkeypatch.delenv(placement.GPU, raising=False)
    with placement.a_gpu() as name:
        assert name is None and "CUDA_VISIBLE_DEVICES" not in os.environ
