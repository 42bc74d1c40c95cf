"""Real processes of torchrun, from a shell, from a notebook and from two hosts; and what is left when one is killed."""

import dataclasses
import datetime
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from tiny_runs import PROCESSES, Trained, assert_close, curve, free_port, weights

from isonb import config
from isonb.__main__ import main
from isonb.training import checkpoint, data, launch, signals, train, world

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Classes without")]  # of the eight images

RECORD = 1 + 3 * 32 * 32  # bytes: a label and three planes
SETTINGS = {
    "study": "cpu", "width": 4, "batch_size": 3, "epochs": 2, "evaluation_masks": 1, "validation_fraction": 0.5,
    "device": "cpu", "precision": "float64", "checkpoint_seconds": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def images_folder(tmp_path_factory):
    """A CIFAR-10 of eight training images, four of them to validate: nothing heavy is imported to read it."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for name, count in (("data_batch_1.bin", 8), ("test_batch.bin", 2)):
        pixels = generator.integers(0, 256, (count, RECORD), dtype=np.uint8)
        pixels[:, 0] = np.arange(count)
        (folder / name).write_bytes(pixels.tobytes())
    return folder


@pytest.fixture
def settings(images_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    return {**SETTINGS, "data_folder": str(images_folder)}


@pytest.fixture
def alone(settings, tmp_path, images_folder):
    """The uninterrupted run in this process."""

    def compute(**changes):
        cell, execution = config.from_parameters({**settings, **changes})
        images = data.load(cell.run, images_folder)
        return as_told(train.pretrain(cell.run, images, tmp_path / "alone", execution))

    return compute


def as_told(pretrained):
    return Trained(curve(pretrained), {name: t.numpy() for name, t in weights(pretrained).items()}, "")


def checkpoints(settings):
    cell, execution = config.from_parameters(settings)
    return launch.checkpoints_folder(cell, data.load(cell.run, execution.data_path))


def finished(settings, images_folder):
    """What lies in the run's folder, read by a process on its own; there is nothing left to train."""
    cell, execution = config.from_parameters(settings)
    newest = checkpoint.latest(checkpoints(settings))
    assert newest.name == f"step-{2 * settings.get('epochs', 2):08d}.safetensors"
    return as_told(launch.pretrain(cell, data.load(cell.run, images_folder), execution))


def command(settings, *torchrun):
    words = [f"{name}={value}" for name, value in settings.items() if name != "study"]
    return [sys.executable, *torchrun, "-m", "isonb", "pretrain", "--study", settings["study"], *words]


def processes_about(text):
    """The identifiers of the processes whose command line holds a text."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found - {os.getpid()}


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_a_killed_worker_is_restarted_and_the_run_ends_as_if_nothing_had_been(settings, alone, images_folder):
    """The epochs are many, so that the worker is killed while it trains."""
    settings |= {"epochs": 40}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    run = subprocess.Popen(command(settings, *torchrun, "--monitor-interval=0.1"), stderr=subprocess.DEVNULL)
    folder = checkpoints(settings)
    assert wait_until(lambda: checkpoint.latest(folder), 120)
    workers = [pid for pid in processes_about(str(images_folder)) if pid != run.pid]
    os.kill(max(workers), signal.SIGKILL)
    killed_at = checkpoint.latest(folder).name
    assert run.wait(120) == 0
    assert killed_at < "step-00000080"
    assert_close(finished(settings, images_folder), alone(epochs=40), 1e-9)


def test_two_hosts_meet_and_train_as_one(settings, alone, images_folder, tmp_path, monkeypatch):
    """Each has its own disk; what is on the first is what counts."""
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"]
    torchrun += [f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=two", "--local-addr=127.0.0.1"]
    disks = [tmp_path / "runs", tmp_path / "second"]
    hosts = [
        subprocess.Popen(command(settings, *torchrun), env={**os.environ, "ISONB_RUNS": str(disk)}) for disk in disks
    ]
    assert [host.wait(120) for host in hosts] == [0, 0]
    kept = [disk for disk in disks if disk.exists()]
    assert len(kept) == 1
    kept[0].rename(tmp_path / "kept")
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "kept"))
    assert_close(finished(settings, images_folder), alone(), 1e-9)


SOURCE = """
from isonb import config
from isonb.training import data, launch
cell, execution = config.from_parameters({settings!r})
images = data.load(cell.run, execution.data_path)
steps = []
pretrained = launch.pretrain(cell, images, execution, lambda *step: steps.append(step[:2]))
print(steps, pretrained.progress.processes)
"""


def test_a_notebook_trains_on_two_processes(settings, alone, images_folder):
    cells = [new_code_cell(SOURCE.format(settings={**settings, "processes": 2}))]
    notebook = new_notebook(cells=cells)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = "".join(output.text for output in notebook.cells[0].outputs if output.name == "stdout")  # no warnings
    assert printed == "[(1, 4), (2, 4), (3, 4), (4, 4)] 2\n"
    assert_close(finished(settings, images_folder), alone(), 1e-9)


def test_threads_of_several_processes_are_those_that_the_record_will_name(settings, images_folder):
    cell, execution = config.from_parameters({**settings, "processes": 2})
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        launch.pretrain(cell, data.load(cell.run, images_folder), execution)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_on_a_host_with_a_gpu_the_threads_of_a_run_on_its_cpu_are_named_alike(settings, images_folder, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(launch, "_run_workers", lambda cell, execution, *_: asked.append(execution.threads))
    monkeypatch.setattr(train, "pretrain", lambda *_: None)
    cell, execution = config.from_parameters({**settings, "processes": 2})
    launch.pretrain(cell, data.load(cell.run, images_folder), execution)
    assert asked == [3]


def test_float32_means_the_same_in_convolutions_and_in_matrix_products(settings, images_folder, monkeypatch):
    def look(*_):
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
        return "looked"

    monkeypatch.setattr(train, "pretrain", look)
    cell, execution = config.from_parameters(settings)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True  # as it is where nobody says otherwise
    try:
        assert launch.pretrain(cell, data.load(cell.run, images_folder), execution) == "looked"
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_more_processes_than_gpus_are_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("auto", "cuda"):
        launch.require_device(config.Execution(device=device, processes=2))
        with pytest.raises(config.ConfigError) as refusal:
            launch.require_device(config.Execution(device=device, processes=3))
        assert str(refusal.value) == (
            "processes=3 is not allowed: each needs a GPU of its own and PyTorch finds 2; choose no more than that, or "
            "device='cpu'."
        )
    launch.require_device(config.Execution(device="cpu", processes=3))


def test_two_processes_keep_the_weights_of_every_epoch(settings, images_folder):
    cell, execution = config.from_parameters({**settings, "probe_along": True})
    images = data.load(cell.run, images_folder)
    along = launch.checkpoints_folder(cell, images)
    assert along != checkpoints(settings)  # what a run without has left is of no use to one with
    alone = launch.pretrain(cell, images, execution)
    (path,) = alone.kept
    expected = checkpoint.read_kept(path, cell.run)
    shutil.rmtree(along)
    (path,) = launch.pretrain(cell, images, execution.model_copy(update={"processes": 2})).kept
    found = checkpoint.read_kept(path, cell.run)
    assert (along / "workers.log").exists() and not checkpoints(settings).exists()
    largest = max(tensor.abs().max() for tensor in expected.values())
    assert all((found[name] - tensor).abs().max() <= 1e-9 * largest for name, tensor in expected.items())


def test_a_workers_fault_comes_back_with_its_log(settings, images_folder, tmp_path):
    cell, execution = config.from_parameters({**settings, "processes": 2, "data_folder": str(tmp_path / "nothing")})
    with pytest.raises(train.TrainingError) as error:
        launch.pretrain(cell, data.load(cell.run, images_folder), execution)
    log = checkpoints({**settings, "data_folder": str(images_folder)}) / "workers.log"
    assert str(error.value) == (
        f"Training on 2 processes failed: The data folder {str(tmp_path / 'nothing')!r} is not a directory: name the "
        f"one that holds cifar-10-batches-bin. Its log is {log}."
    )
    assert "is not a directory" in log.read_text()


def train_on_two(settings, runs):
    os.environ["ISONB_RUNS"] = runs  # the server that processes are forked from knows only its own start's environment
    cell, execution = config.from_parameters(settings)
    launch.pretrain(cell, data.load(cell.run, execution.data_path), execution)


def test_nothing_computes_on_when_the_parent_is_killed(settings, images_folder):
    settings |= {"epochs": 10_000, "processes": 2}
    parent = PROCESSES.Process(target=train_on_two, args=(settings, os.environ["ISONB_RUNS"]))
    parent.start()
    folder = checkpoints(settings)
    assert wait_until(lambda: checkpoint.latest(folder), 120)
    assert len(processes_about(str(images_folder))) == 3  # torchrun and two workers
    parent.kill()
    parent.join()
    assert wait_until(lambda: not processes_about(str(images_folder)), 30)  # a second where nothing else is computed
    assert checkpoint.latest(folder)


def test_other_numerics_and_other_images_do_not_go_on_from_these_checkpoints(settings, images_folder, monkeypatch):
    cell, _ = config.from_parameters(settings)
    images = data.load(cell.run, images_folder)
    ours = launch.checkpoints_folder(cell, images)
    assert launch.checkpoints_folder(cell, dataclasses.replace(images, sha256={"other": "00"})) != ours
    monkeypatch.setattr(launch, "NUMERICS", launch.NUMERICS + 1)
    assert launch.checkpoints_folder(cell, images) != ours


LEFT = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    "left",
    [
        {"WORLD_SIZE": "2"},
        LEFT,
        {"TORCHELASTIC_RUN_ID": "old", "WORLD_SIZE": "2"},
        {"PET_NNODES": "2", "PET_RDZV_ENDPOINT": "192.0.2.1:29500", "PET_NO_PYTHON": "1", "GLOO_SOCKET_IFNAME": "eth9"},
    ],
)
def test_what_a_cluster_leaves_in_the_environment_is_not_taken_for_torchrun(left, processes, settings):
    words = command({**settings, "processes": processes})
    assert subprocess.run(words, env={**os.environ, **left}, check=False, timeout=120).returncode == 0
    assert checkpoint.latest(checkpoints(settings)).name == "step-00000004.safetensors"


@pytest.mark.parametrize(
    "wrong",
    [
        {"RANK": "first"},
        {"RANK": "2"},
        {"RANK": "-1"},
        {"WORLD_SIZE": "0"},
        {"WORLD_SIZE": "1"},  # of which rank 1 is none
        {"WORLD_SIZE": ""},
        {"MASTER_PORT": "66000"},
        {"MASTER_PORT": "http"},
        {"LOCAL_RANK": "2.0"},
        {"LOCAL_WORLD_SIZE": "3"},
    ],
)
def test_what_torchrun_cannot_have_set_is_refused_in_a_sentence(wrong, settings, monkeypatch, capsys):
    for name, value in (LEFT | {"TORCHELASTIC_RUN_ID": "old"} | wrong).items():
        monkeypatch.setenv(name, value)
    assert main(["pretrain", *(f"{name}={value}" for name, value in settings.items())]) == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert re.match(r"[A-Z_]+='.*' is not what torchrun sets: start the processes by torchrun, ", sentence)
    assert sentence.endswith("or unset TORCHELASTIC_RUN_ID to train on one process.")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_whom_nobody_joins_says_so(rank, settings, monkeypatch, capsys):
    monkeypatch.setattr(world, "PATIENCE", datetime.timedelta(seconds=1))
    left = {"TORCHELASTIC_RUN_ID": "old", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "RANK": rank}
    for name, value in (LEFT | left).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(signals, "die_with_parent", lambda: None)
    threads = torch.get_num_threads()
    assert main(["pretrain", *(f"{name}={value}" for name, value in settings.items())]) == 1
    torch.set_num_threads(threads)
    assert capsys.readouterr().err.startswith("The 2 processes of torchrun do not meet (")


@pytest.mark.parametrize("lacks", ["a name that resolves", "a network", "loopback"])
def test_several_processes_need_nothing_but_loopback(lacks, settings):
    begin = {"a name that resolves": "", "a network": "ip link set lo up && ", "loopback": ""}[lacks]
    apart = ["unshare", "--uts", *(["--net"] if lacks != "a name that resolves" else []), "sh", "-c"]
    apart += [f'hostname nowhere.invalid && {begin} exec "$@"', "sh"]
    if subprocess.run([*apart, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this needs unshare, ip, and the right to use them")
    done = subprocess.run(
        [*apart, *command({**settings, "processes": 2})], capture_output=True, text=True, check=False, timeout=120
    )
    if lacks == "loopback":
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(
            "Several processes meet at 127.0.0.1, which cannot be reached here ("
        )
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("request_to_stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_command_that_is_asked_to_stop_saves_and_exits_75(processes, request_to_stop, settings, images_folder):
    settings |= {"epochs": 10_000, "processes": processes}
    run = subprocess.Popen(command(settings), stderr=subprocess.PIPE, text=True)
    folder = checkpoints(settings)
    assert wait_until(lambda: checkpoint.latest(folder), 120)
    run.send_signal(request_to_stop)
    words = run.communicate(timeout=300)[1].splitlines()[-1]
    assert run.returncode == signals.PREEMPTED == 75
    step = int(re.match(r"Stopped after step (\d+) of 20000: run the same command again\.", words)[1])
    assert checkpoint.latest(folder).name == f"step-{step:08d}.safetensors"


@pytest.mark.parametrize(
    ("settings_given", "code", "message"),
    [
        (["data=cifar10", "data_folder=/nowhere"], 1, "The data folder '/nowhere' is not a directory: name the one"),
        (["dept=3"], 2, "There is no setting called 'dept': did you mean 'depth'?"),
    ],
)
def test_a_training_that_cannot_be_is_one_sentence(settings_given, code, message, capsys):
    assert main(["pretrain", *settings_given]) == code
    assert capsys.readouterr().err.startswith(message)


def test_the_cause_is_the_first_exception_in_a_log():
    words = ["[rank1]: Traceback (most recent call last):", "[rank1]:   File ...", "[rank1]: ValueError: no: memory"]
    assert launch._cause([*words, "RuntimeError: closed by peer"]) == "ValueError: no: memory"
    assert launch._cause(["Killed"]) == "the workers ended without a word."
