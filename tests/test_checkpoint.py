"""A run killed at any moment goes on as if nothing had happened, and no moment leaves it without a good checkpoint."""

import errno
import hashlib
import json
import os
import random
import resource
import signal
import tempfile
import types
import warnings
from pathlib import Path

import mutations
import pytest
import safetensors.torch
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
    checkpoint._write(tmp_path / "newer" / path.name, header, tensors)
    with pytest.raises(CheckpointError, match=r"\(of_the_future is 1 there and None here\)"):
        pretrain(RUN, tmp_path / "newer")


def test_a_run_keeps_the_precision_it_began_with(tmp_path):
    run_for(tmp_path, 2)
    with pytest.raises(CheckpointError, match="holds a run in float64 and precision='float32' was asked for: leave it"):
        pretrain(RUN, tmp_path, precision="float32")
    assert pretrain(RUN, tmp_path, precision="auto").progress.precision == "float64"


# Damage


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory):
    """The contents of the checkpoints after two and three steps, by name."""
    folder = tmp_path_factory.mktemp("steps") / "run"
    run_for(folder, 3)
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(contents) == ["step-00000002.safetensors", "step-00000003.safetensors"]
    return contents


def put(contents, folder):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def header_of(content):
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


def resumed(folder):
    """The tensors that a run would go on with, and what it is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        content = checkpoint.resume(folder)
    tensors = checkpoint.read(content, RUN, folder).tensors if content else {}
    return tensors, [str(warning.message) for warning in caught]


def assert_equal(tensors, expected):
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def assert_second_step(folder, three_steps):
    """The damaged third step gives way to the second, and one sentence says so."""
    tensors, remarks = resumed(folder)
    assert_equal(tensors, safetensors.torch.load(three_steps["step-00000002.safetensors"]))
    name = "step-00000003.safetensors"
    assert len(remarks) == 1
    assert remarks[0].startswith(f"The checkpoint {folder / name} is damaged (")
    assert remarks[0].endswith(f") and was renamed {name}.damaged: the run goes on from step-00000002.safetensors.")
    assert os.listdir(folder).count(name) == 0  # the next start is not warned again


def test_any_damage_of_a_checkpoint_is_seen_and_the_one_before_is_taken(three_steps, tmp_path):
    chance, folder = random.Random(0), tmp_path / "run"
    last = "step-00000003.safetensors"
    put(three_steps, folder)
    noticed = 0
    for _ in range(mutations.COUNT):
        content = mutations.mutated(three_steps[last], chance)
        (folder / last).write_bytes(content)
        if content == three_steps[last]:  # zeros where there were zeros
            assert resumed(folder)[1] == []
        else:
            assert_second_step(folder, three_steps)
            noticed += 1
    mutations.tally("checkpoint", mutations.COUNT, noticed)


FLIPS = {  # within the header; every result has the form of a header
    "a tensor's name": (b"exp_avg/head.bias", b"exp_avg/head.bias".replace(b"bias", b"bhas")),
    "which tensor": (b"network/head.weight", b"network/head.veight"),
    "a shape": (b'"shape":[768]', b'"shape":[767]'),
    "a shape of as many numbers": (b'"shape":[768,8]', b'"shape":[8,768]'),
    "a type": (b'"F64"', b'"I64"'),
    "where it stands": (b'"data_offsets":[0,', b'"data_offsets":[8,'),
    "the step": (b'\\"step\\": 3', b'\\"step\\": 1'),
    "a setting": (b'\\"seed\\": 0', b'\\"seed\\": 2'),
    "a loss": (b'\\"open_loss\\": ', b'\\"open_loss\\":1'),
    "metadata": (b'"isonb":', b'"isomb":'),
    "the checksum's name": (b'"checksum":', b'"checkrum":'),
}


@pytest.mark.parametrize(("old", "new"), FLIPS.values(), ids=FLIPS)
def test_every_part_of_the_header_is_covered(old, new, three_steps, tmp_path):
    content = three_steps["step-00000003.safetensors"]
    assert old in header_of(content)
    put(three_steps | {"step-00000003.safetensors": content.replace(old, new, 1)}, tmp_path / "run")
    assert_second_step(tmp_path / "run", three_steps)


def test_the_padding_of_the_header_is_covered(three_steps, tmp_path):
    content = three_steps["step-00000003.safetensors"]
    header = header_of(content)
    changed = header.replace(b":", b": ", 1) if header.endswith(b"}") else header[:-1] + b"\t"
    changed = len(changed).to_bytes(8, "little") + changed + content[8 + len(header) :]
    put(three_steps | {"step-00000003.safetensors": changed}, tmp_path / "run")
    assert_second_step(tmp_path / "run", three_steps)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("network/head.bias"),
        lambda tensors: tensors.pop("exp_avg_sq/head.bias"),
        lambda tensors: [tensors.pop(name) for name in list(tensors) if name.endswith("/head.bias")],
        lambda tensors: tensors.update({"network/other": torch.zeros(2)}),
        lambda tensors: tensors.update({"step/other": torch.zeros(())}),
        lambda tensors: tensors.update({"network/head.bias": tensors["network/head.bias"][:-1]}),
        lambda tensors: tensors.update({"network/head.weight": tensors["network/head.weight"].T}),
        lambda tensors: tensors.update({"network/head.bias": tensors["network/head.bias"].float()}),
        lambda tensors: tensors.update({"network/head.bias": tensors["network/head.bias"].long()}),
        lambda tensors: tensors.update({"step/head.bias": torch.zeros(1)}),
        lambda tensors: tensors.update({"step/head.bias": torch.zeros((), dtype=torch.int32)}),
    ],
)
def test_a_checkpoint_holds_exactly_the_tensors_of_its_network_and_of_adam(change, three_steps, tmp_path):
    """Each of these files has a right checksum."""
    put(three_steps, tmp_path / "run")
    path = tmp_path / "run" / "step-00000003.safetensors"
    header, tensors = checkpoint._decode(path.read_bytes())
    change(tensors)
    checkpoint._write(path, header, tensors)
    assert_second_step(tmp_path / "run", three_steps)


def another_step(three_steps):
    return three_steps["step-00000002.safetensors"]


def a_file_for_another_folder(three_steps):
    """The same run on other images has another folder."""
    header, tensors = checkpoint._decode(three_steps["step-00000003.safetensors"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "other" / "step-00000003.safetensors"
        checkpoint._write(path, header, tensors)
        return path.read_bytes()


def nothing_but_brackets(three_steps):
    header = b'{"__metadata__":' + b"[" * 100_000
    return len(header).to_bytes(8, "little") + header


def signed_brackets(three_steps):
    return safetensors.torch.save({}, {"isonb": "[" * 100_000, "sha256": hashlib.sha256(b"[" * 100_000).hexdigest()})


def a_header_that_claims_everything(three_steps):
    return b"\xff" * 8 + three_steps["step-00000003.safetensors"][8:]


@pytest.mark.parametrize(
    "make",
    [
        another_step,
        a_file_for_another_folder,
        nothing_but_brackets,
        signed_brackets,
        a_header_that_claims_everything,
        lambda _: b"",
        lambda _: b"{}",
        lambda _: bytes(10_000),
        lambda _: safetensors.torch.save({"a": torch.zeros(1)}),
        lambda _: safetensors.torch.save({"a": torch.zeros(1)}, {"isonb": "null", "checksum": ""}),
    ],
)
def test_another_file_in_its_place_is_not_taken_for_a_checkpoint(make, three_steps, tmp_path):
    put(three_steps | {"step-00000003.safetensors": make(three_steps)}, tmp_path / "run")
    assert_second_step(tmp_path / "run", three_steps)


def fifty_gigabytes(path):
    with path.open("wb") as file:
        file.truncate(50 * 2**30)


def fifty_gigabytes_more(path):
    with path.open("r+b") as file:
        file.truncate(50 * 2**30)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to(path)),
        lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
        lambda path: (path.unlink(), path.symlink_to("nowhere")),
        fifty_gigabytes,
        fifty_gigabytes_more,
    ],
)
def test_what_is_no_file_of_its_length_is_not_read(make, three_steps, tmp_path):
    put(three_steps, tmp_path / "run")
    make(tmp_path / "run" / "step-00000003.safetensors")
    assert_second_step(tmp_path / "run", three_steps)


def test_several_damaged_checkpoints_are_never_kept_in_place_of_good_ones(tmp_path):
    run_for(tmp_path, 3)
    for step in (2, 3):
        (tmp_path / f"step-0000000{step}.safetensors").write_bytes(b"damage")
    (tmp_path / "step-00000009.safetensors").write_bytes(b"damage")
    (tmp_path / "step-00000004 (copy).safetensors").write_bytes(b"none of ours")
    with pytest.warns(UserWarning, match="the run starts anew") as caught:
        finished = pretrain(RUN, tmp_path)
    assert len(caught) == 3
    assert_same_bits(finished, pretrain(RUN, tmp_path / "whole"))
    assert checkpoint.latest(tmp_path).name == "step-00000006.safetensors"
    assert (tmp_path / "step-00000004 (copy).safetensors").exists()


def as_it_was(path):
    """Write a checkpoint as it was written at first: signed without its names, types and shapes."""
    header, tensors = checkpoint._decode(path.read_bytes())
    del header["folder"]
    text, digest = json.dumps(header), hashlib.sha256(json.dumps(header).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    path.write_bytes(safetensors.torch.save(tensors, {"isonb": text, "sha256": digest.hexdigest()}))


def test_a_checkpoint_of_the_first_format_goes_on(tmp_path):
    run_for(tmp_path / "older", 3)
    for path in (tmp_path / "older").iterdir():
        as_it_was(path)
    assert checkpoint.latest(tmp_path / "older").name == "step-00000003.safetensors"
    assert_same_bits(pretrain(RUN, tmp_path / "older"), pretrain(RUN, tmp_path / "whole"))


@pytest.mark.parametrize("flip", ["a tensor's name", "a shape of as many numbers", "a type", "the step"])
def test_names_and_shapes_of_the_first_format_are_looked_at(flip, tmp_path):
    run_for(tmp_path, 3)
    path = tmp_path / "step-00000003.safetensors"
    as_it_was(path)
    path.write_bytes(path.read_bytes().replace(*FLIPS[flip], 1))
    assert checkpoint.latest(tmp_path).name == "step-00000002.safetensors"


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
        assert set(file.metadata()) == {"isonb", "checksum"}
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


def test_foreign_weights_of_an_epoch_are_refused(tmp_path):
    first, second = pretrain(ALONG, tmp_path, keeps_epochs=True).kept
    with pytest.raises(CheckpointError, match=r"another configuration \(seed is 0 there and 1 here\)"):
        checkpoint.read_kept(first, ALONG.model_copy(update={"seed": 1}))
    second.write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match=r"epoch-00002.safetensors cannot be read \(it was written as another"):
        checkpoint.read_kept(second, ALONG)


def test_any_damage_of_kept_weights_is_refused_in_a_sentence(tmp_path):
    pretrained = pretrain(ALONG, tmp_path, keeps_epochs=True)
    record = types.SimpleNamespace(weights=pretrained.weights, run_id="some-run")  # all that is read of it
    chance, final, path = random.Random(1), tmp_path / checkpoint.FINAL, pretrained.kept[0]
    for file, read, rest in (
        (path, lambda: checkpoint.read_kept(path, ALONG), f"delete {tmp_path} to train the network anew."),
        (final, lambda: checkpoint.read_final(final, record), "delete it, or run the cell again."),
    ):
        content, expected, noticed = file.read_bytes(), read(), 0
        for _ in range(mutations.COUNT // 4):
            file.write_bytes(mutations.mutated(content, chance))
            if file.read_bytes() == content:
                assert_equal(read(), expected)
                continue
            with pytest.raises(CheckpointError) as error:
                read()
            assert str(error.value).startswith(str(file)) and str(error.value).endswith(rest)
            noticed += 1
        mutations.tally("final weights" if file == final else "weights after an epoch", mutations.COUNT // 4, noticed)


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.mkdir(), fifty_gigabytes])
def test_what_is_no_file_of_weights_is_refused(make, tmp_path):
    pretrained = pretrain(ALONG, tmp_path, keeps_epochs=True)
    record = types.SimpleNamespace(weights=pretrained.weights, run_id="some-run")
    for path in (pretrained.kept[0], tmp_path / checkpoint.FINAL):
        path.unlink()
        make(path)
    with pytest.raises(CheckpointError, match=r"epoch-00001.safetensors cannot be read"):
        checkpoint.read_kept(pretrained.kept[0], ALONG)
    with pytest.raises(CheckpointError, match="does not hold the weights of the record some-run"):
        checkpoint.read_final(tmp_path / checkpoint.FINAL, record)


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


def test_equal_weights_are_equal_files(tmp_path):
    """safetensors writes the two parts of its metadata in any order: so many files would hardly be alike by chance."""
    pretrained = pretrain(RUN, tmp_path)
    assert len({checkpoint.keep_final(tmp_path, RUN, pretrained.network).sha256 for _ in range(12)}) == 1
