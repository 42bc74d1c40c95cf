"""A run killed at any moment goes on as if nothing had happened, and no moment leaves it without a good checkpoint."""

import errno
import os
import random
import resource
import signal

import pytest
import safetensors
from tiny_runs import PROCESSES, assert_same_bits, pretrain, tell, tiny_run

from isonb.training import checkpoint
from isonb.training.checkpoint import CheckpointError


class Killed(Exception):
    pass


def kill_at(step):
    def on_step(taken, steps, loss):
        if taken == step:
            raise Killed

    return on_step


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def uninterrupted(request, tmp_path_factory):
    return pretrain(RUN, tmp_path_factory.mktemp("uninterrupted"), precision=request.param)


RUN = tiny_run(encoding="pix2vec", block="mixer", mask_fill="learned")


@pytest.mark.parametrize("step", range(1, 7))
def test_a_run_killed_at_any_step_goes_on_to_the_same_bits(step, uninterrupted, tmp_path):
    """A checkpoint a step; the step that is killed has not been saved. Later it is killed once more."""
    precision = uninterrupted.progress.precision
    for killed in {step, min(step + 2, 6)}:
        with pytest.raises(Killed):
            pretrain(RUN, tmp_path, kill_at(killed), precision=precision, checkpoint_seconds=0)
        newest = checkpoint.latest(tmp_path)
        assert (newest.name if newest else None) == (f"step-{killed - 1:08d}.safetensors" if killed > 1 else None)
    resumed = pretrain(RUN, tmp_path, precision="auto")
    assert_same_bits(resumed, uninterrupted)
    assert len(list(tmp_path.iterdir())) == 2
    assert_same_bits(pretrain(RUN, tmp_path, kill_at(6), precision="auto"), uninterrupted)  # nothing left to do


def test_steps_without_a_mask_are_no_steps_of_adam(tmp_path):
    run = tiny_run(mask_rate=0.002, batch_size=1)
    with pytest.raises(Killed):
        pretrain(run, tmp_path / "resumed", kill_at(20), checkpoint_seconds=0)
    saved = checkpoint.read(checkpoint.latest(tmp_path / "resumed").read_bytes(), run, tmp_path)
    assert 0 < saved.tensors["step/head.bias"].item() < saved.progress.step == 19
    assert_same_bits(pretrain(run, tmp_path / "resumed"), pretrain(run, tmp_path / "whole"))


def train_and_die(folder, moment):
    """SIGKILL by a timer, wherever the program is at that moment."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, moment)
    tell(tiny_run(epochs=12), folder, checkpoint_seconds=0)


def test_a_process_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    generator = random.Random()
    for _ in range(3):
        process = PROCESSES.Process(target=train_and_die, args=(tmp_path / "killed", generator.uniform(0.05, 0.3)))
        process.start()
        process.join()
    assert process.exitcode in {-signal.SIGKILL, 0}
    resumed = pretrain(tiny_run(epochs=12), tmp_path / "killed")
    assert_same_bits(resumed, pretrain(tiny_run(epochs=12), tmp_path / "whole"))


def test_what_was_half_written_is_removed(tmp_path):
    (tmp_path / ".step-00000003.safetensors.1234.tmp").write_bytes(b"half")
    pretrain(tiny_run(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006.safetensors"]


def run_for(folder, steps):
    with pytest.raises(Killed):
        pretrain(RUN, folder, kill_at(steps + 1), checkpoint_seconds=0)


def test_another_configuration_is_refused_by_the_names_of_what_differs(tmp_path):
    run_for(tmp_path, 2)
    with pytest.raises(CheckpointError) as error:
        pretrain(RUN.model_copy(update={"depth": 2, "learning_rate": 0.02}), tmp_path)
    assert str(error.value) == (
        f"{tmp_path} holds checkpoints of another configuration (depth is 1 there and 2 here, learning_rate is 0.01 "
        "there and 0.02 here): use another folder or delete them."
    )


def test_a_run_keeps_the_precision_it_began_with(tmp_path):
    run_for(tmp_path, 2)
    with pytest.raises(CheckpointError, match="holds a run in float64 and precision='float32' was asked for: leave it"):
        pretrain(RUN, tmp_path, precision="float32")
    assert pretrain(RUN, tmp_path, precision="auto").progress.precision == "float64"


def flip_a_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-1], lambda content: b"", lambda content: b"\0" * len(content), flip_a_bit],
    ids=["truncated", "empty", "zeros", "one bit"],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage, tmp_path):
    run_for(tmp_path / "damaged", 3)
    newest = checkpoint.latest(tmp_path / "damaged")
    newest.write_bytes(damage(newest.read_bytes()))
    assert checkpoint.latest(tmp_path / "damaged").name == "step-00000002.safetensors"
    assert_same_bits(pretrain(RUN, tmp_path / "damaged"), pretrain(RUN, tmp_path / "whole"))


def full_disk(monkeypatch):
    def fsync(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    return "No space left on device"


def file_size_limit(monkeypatch):
    """A real failure in the middle of the file: the system lets it grow to 4 kB only."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
    return "File too large"


@pytest.fixture
def restored_limit():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("fail", [full_disk, file_size_limit])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_full_disk_leaves_the_checkpoint_before(fail, steps, tmp_path, monkeypatch, restored_limit):
    folder = tmp_path / "full"
    if steps:
        run_for(folder, steps)
    before = {path: path.read_bytes() for path in folder.glob("*")}
    reason = fail(monkeypatch)
    with pytest.raises(CheckpointError) as error:
        pretrain(RUN, folder, checkpoint_seconds=0)
    monkeypatch.undo()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert str(error.value) == (
        f"The checkpoint {folder / f'step-{steps + 1:08d}.safetensors'} could not be written ({reason}): make room and "
        f"run again; the run will {'go on from step-00000002.safetensors' if steps else 'start anew'}."
    )
    assert {path: path.read_bytes() for path in folder.glob("*")} == before
    assert not list(folder.glob(".*"))
    assert_same_bits(pretrain(RUN, folder), pretrain(RUN, tmp_path / "whole"))


def test_a_checkpoint_can_be_opened_by_anyone(tmp_path):
    run_for(tmp_path, 2)
    with safetensors.safe_open(checkpoint.latest(tmp_path), "pt") as file:
        names = set(file.keys())
        assert set(file.metadata()) == {"isonb", "sha256"}
    kinds = {name.split("/")[0] for name in names}
    assert kinds == {"network", "step", "exp_avg", "exp_avg_sq"}
