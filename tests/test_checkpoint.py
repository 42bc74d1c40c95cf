"""A run killed at any moment goes on as if nothing had happened, and no moment leaves it without a good checkpoint."""

import errno
import hashlib
import json
import os
import random
import resource
import signal

import pytest
import safetensors
import torch
from tiny_runs import PROCESSES, assert_same_bits, pretrain, tell, tiny_run, weights

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
    assert len(list(tmp_path.glob("step-*"))) == 2
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


@pytest.mark.slow
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
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000006.safetensors", "final.safetensors"}


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


def test_a_checkpoint_from_before_a_setting_came_goes_on(tmp_path):
    with pytest.raises(Killed):
        pretrain(RUN, tmp_path / "older", kill_at(3), checkpoint_seconds=0)
    path = checkpoint.latest(tmp_path / "older")
    header, tensors = checkpoint._decode(path.read_bytes())
    del header["config"]["image_fit"]
    checkpoint._write(path, header, tensors)
    assert_same_bits(pretrain(RUN, tmp_path / "older"), pretrain(RUN, tmp_path / "whole"))
    header["config"]["of_the_future"] = 1
    checkpoint._write(checkpoint.latest(tmp_path / "older"), header, tensors)
    with pytest.raises(CheckpointError, match=r"\(of_the_future is 1 there and None here\)"):
        pretrain(RUN, tmp_path / "older")


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


# Weights of every epoch


def assert_same_epochs(one, other):
    assert [path.name for path in one.kept] == [path.name for path in other.kept]
    for path, twin in zip(one.kept, other.kept, strict=True):
        ours, theirs = checkpoint.read_kept(path, ALONG), checkpoint.read_kept(twin, ALONG)
        assert ours.keys() == theirs.keys() == weights(one).keys()
        assert all(ours[name].equal(theirs[name]) for name in ours)


ALONG = tiny_run(encoding="rff", epochs=3)


def test_the_weights_at_the_close_of_every_epoch_are_kept(tmp_path):
    """A run of fewer epochs has another schedule, so a run that is interrupted there tells what they are."""
    pretrained = pretrain(ALONG, tmp_path / "whole", keeps_epochs=True)
    assert [path.name for path in pretrained.kept] == ["epoch-00001.safetensors", "epoch-00002.safetensors"]
    for epoch, path in enumerate(pretrained.kept, start=1):
        folder = tmp_path / f"until {epoch}"
        with pytest.raises(Killed):
            pretrain(ALONG, folder, kill_at(3 * epoch + 1), checkpoint_seconds=0)
        tensors = checkpoint.read(checkpoint.latest(folder).read_bytes(), ALONG, folder).tensors
        then = checkpoint.read_kept(path, ALONG)
        assert all(then[name].equal(tensors[f"network/{name}"]) for name in weights(pretrained))
        assert not then["head.bias"].equal(weights(pretrained)["head.bias"])


def test_no_weights_are_kept_unasked_and_keeping_them_changes_nothing(tmp_path):
    plain, keeping = pretrain(ALONG, tmp_path / "plain"), pretrain(ALONG, tmp_path / "keeping", keeps_epochs=True)
    assert plain.kept == () and not list((tmp_path / "plain").glob("epoch-*"))
    assert_same_bits(plain, keeping)


@pytest.mark.parametrize("step", range(1, 10))
def test_a_killed_run_keeps_the_same_weights_of_every_epoch(step, tmp_path):
    """Killed with a checkpoint a step, and then without one, so that epochs are closed again."""
    for seconds in (0, 1e9):
        with pytest.raises(Killed):
            pretrain(ALONG, tmp_path / "killed", kill_at(max(step, 9 * (seconds > 0))), keeps_epochs=True,
                     checkpoint_seconds=seconds)  # fmt: skip
        if newest := checkpoint.latest(tmp_path / "killed"):  # it knows of no epoch whose weights are not there
            curve = checkpoint.read(newest.read_bytes(), ALONG, newest.parent).progress.curve
            assert len(list(newest.parent.glob("epoch-*.safetensors"))) >= len(curve) - 1
    resumed = pretrain(ALONG, tmp_path / "killed", keeps_epochs=True)
    whole = pretrain(ALONG, tmp_path / "whole", keeps_epochs=True)
    assert_same_bits(resumed, whole)
    assert_same_epochs(resumed, whole)
    assert_same_epochs(pretrain(ALONG, tmp_path / "killed", keeps_epochs=True), whole)  # nothing left to do


def test_missing_weights_of_an_epoch_are_named(tmp_path):
    pretrain(ALONG, tmp_path)
    with pytest.raises(CheckpointError) as error:
        pretrain(ALONG, tmp_path, keeps_epochs=True)
    assert str(error.value) == (
        f"{tmp_path} lacks weights to be probed (epoch-00001.safetensors, epoch-00002.safetensors): delete it to "
        "train the network anew."
    )


def test_damaged_and_foreign_weights_of_an_epoch_are_refused(tmp_path):
    path, _ = pretrain(ALONG, tmp_path, keeps_epochs=True).kept
    with pytest.raises(CheckpointError, match=r"another configuration \(seed is 0 there and 1 here\)"):
        checkpoint.read_kept(path, ALONG.model_copy(update={"seed": 1}))
    path.write_bytes(flip_a_bit(path.read_bytes()))
    with pytest.raises(
        CheckpointError, match=r"epoch-00001.safetensors cannot be read .*: delete .* to train the netw"
    ):
        checkpoint.read_kept(path, ALONG)


def test_a_full_disk_at_the_close_of_an_epoch_stops_the_run(tmp_path, monkeypatch):
    full_disk(monkeypatch)
    with pytest.raises(CheckpointError, match=r"epoch-00001.safetensors could not be written .* the run will start an"):
        pretrain(ALONG, tmp_path, keeps_epochs=True)
    monkeypatch.undo()
    assert_same_epochs(pretrain(ALONG, tmp_path, keeps_epochs=True), pretrain(ALONG, tmp_path / "w", keeps_epochs=True))


def test_the_final_weights_are_kept_with_their_checksum(tmp_path):
    pretrained = pretrain(RUN, tmp_path)
    path = tmp_path / checkpoint.FINAL
    content = path.read_bytes()
    assert pretrained.weights.file == path.name
    assert (pretrained.weights.size, pretrained.weights.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    with safetensors.safe_open(path, "pt") as file:
        kept = {name.removeprefix("network/"): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file of tensors is no dict
        assert json.loads(file.metadata()["isonb"])["run_id"] == RUN.run_id
    assert set(kept) == set(pretrained.network.state_dict())
    for name, tensor in pretrained.network.state_dict().items():
        assert torch.equal(kept[name], tensor)
