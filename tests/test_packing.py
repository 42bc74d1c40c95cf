"""A study that is taken along: what a pack holds, what another machine takes over of it, and what it refuses."""

import hashlib
import json
import os
import shutil
import signal

import filelock
import pytest
from chaos import without_times
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import leave_record, made_record

from isonb import config, numerics, places, records
from isonb.__main__ import main
from isonb.config import Execution
from isonb.running import packing, packs, sweep, unpacking
from isonb.training import checkpoint, data, launch, outcome, probes, signals

TINY = {"width": 8, "image_size": 8, "data_fraction": 0.05, "epochs": 3, "evaluation_masks": 1, "probe_epochs": 2}
EXECUTION = Execution(device="cpu", threads=1, precision="float32")
CELLS = [
    config.smoke(**TINY, block="conv", encoding="rff"),
    config.smoke(**TINY, block="mixer", encoding="pix2vec", probe_along=True),
    config.smoke(**TINY, block="transformer", encoding="continuous"),
]
NOTEBOOK = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that makes another machine of this one: other folders for results and checkpoints."""

    def use(name):
        monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / name / "results"))
        monkeypatch.setenv("ISONB_RUNS", str(tmp_path / name / "runs"))
        return tmp_path / name

    monkeypatch.delenv("ISONB_DATA", raising=False)
    use("here")
    return use


class Enough(Exception):
    """A box is over."""


def run(cell, steps=None):
    """Run a cell as its notebook does, or so many steps of its training; returns how many it took."""
    images, probed_on, _ = data.load_all(cell, None)
    taken = 0

    def on_step(*_):
        nonlocal taken
        taken += 1
        if taken == steps:
            signal.raise_signal(signal.SIGTERM)

    try:
        pretrained = launch.pretrain(cell, images, EXECUTION, on_step)
    except signals.Preempted:
        return taken
    precision = pretrained.progress.precision
    probed = probes.of_network(pretrained.network, probed_on, cell.probe, precision, pretrained.kept)
    records.write_record(*outcome.record(cell, images, pretrained, probed, EXECUTION), NOTEBOOK)
    return taken


def results(cells=CELLS):
    """Everything that must be equal of a study: records without times and places, arrays, final weights."""
    content = {}
    for cell in cells:
        record, arrays = records.read(records.record_path(cell))
        content[cell.run.run_id] = without_times(record.model_dump())
        content |= {(cell.run.run_id, name): array.tobytes() for name, array in arrays.items()}
        path = launch.checkpoints_folder(record.cell, record.data) / record.weights.file
        tensors = checkpoint.read_final(path, record)
        content |= {(cell.run.run_id, name): tensor.numpy().tobytes() for name, tensor in tensors.items()}
    return content


@pytest.mark.slow
def test_a_study_that_is_cut_into_five_boxes_on_five_machines_equals_one_that_was_not(machine, tmp_path):
    """Each box takes as many steps as are a fifth of the study's, in a folder that knows nothing but the pack."""
    steps = sum(run(cell) for cell in CELLS)
    whole = results()
    boxes, pack = 0, tmp_path / "study.pack"
    while (boxes < 9 and not all(records.record_path(cell).exists() for cell in CELLS)) or not boxes:
        machine(f"box {boxes}")
        if boxes:
            unpacking.unpack(pack)
        left = -(-steps // 5)
        for cell in CELLS:
            if left > 0 and records.finished(cell) is None:
                left -= run(cell, left)
        packing.pack("smoke", pack, packs.SMALLEST_PART if boxes % 2 else 0)
        boxes += 1
    assert boxes == 5
    assert results() == whole


# What is taken over


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders with one finished cell and two trainings under way, one of which is probed along."""
    folder = tmp_path_factory.mktemp("trained")
    before = {name: os.environ.get(name) for name in ("ISONB_RESULTS", "ISONB_RUNS")}
    os.environ |= {"ISONB_RESULTS": str(folder / "results"), "ISONB_RUNS": str(folder / "runs")}
    try:
        run(CELLS[0])
        steps = data.steps_per_epoch(len(data.load_all(CELLS[1], None)[0].train), CELLS[1].run.batch_size)
        run(CELLS[1], 2 * steps + 1)
        run(CELLS[2], 3)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return folder


@pytest.fixture
def pack(trained, machine, tmp_path):
    """The pack of these, on another machine."""
    shutil.copytree(trained, tmp_path / "there")
    machine("there")
    packing.pack("smoke", tmp_path / "pack")
    machine("here")
    return tmp_path / "pack"


def tree(folder):
    """Every file in a folder but for locks, with its content."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def folder_of(number):
    return launch.checkpoints_folder(CELLS[number], data.load_all(CELLS[number], None)[0])


def test_another_machine_has_the_results_the_weights_and_where_each_training_stands(pack, machine, tmp_path):
    words = unpacking.unpack(pack)
    assert words[0].startswith("Taken over: 1 finished cell, 2 trainings under way; 0 were here already")
    assert "1 executed notebook came with them: these are code" in words[1]
    record = records.finished(CELLS[0])
    assert records.notebook_of(record).read_bytes() == NOTEBOOK
    checkpoint.read_final(launch.checkpoints_folder(record.cell, record.data) / "final.safetensors", record)
    there, here = tree(tmp_path / "there"), tree(tmp_path / "here")
    assert {name for name in here if here[name] != there[name]} == set()
    assert sorted(path.name for path in folder_of(1).glob("*.safetensors"))[:2] == [
        "epoch-00001.safetensors", "epoch-00002.safetensors"]  # fmt: skip
    assert len(list(folder_of(2).glob("*.safetensors"))) == 1
    assert unpacking.unpack(pack) == [
        "Taken over: 0 finished cells, 0 trainings under way; 3 were here already, as far or further."
    ]
    packing.pack("smoke", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == pack.read_bytes()


def test_a_finished_cell_is_never_replaced_and_lost_weights_of_it_are_restored(pack, machine, tmp_path):
    leave_record(made_record(CELLS[0]).model_copy(update={"data": of_photos()}), b"mine")
    leave_record(made_record(CELLS[2]).model_copy(update={"data": of_photos()}), b"mine")
    before = tree(tmp_path / "here")
    assert "0 finished cells, 1 training under way; 2 were here" in unpacking.unpack(pack)[0]
    after = tree(tmp_path / "here")
    assert {name: after[name] for name in before} == before
    assert not list((tmp_path / "here").glob("runs/smoke/checkpoints/transformer*"))
    machine("third")
    unpacking.unpack(pack)
    final = folder_of(0) / "final.safetensors"
    whole = final.read_bytes()
    final.unlink()
    unpacking.unpack(pack)
    assert final.read_bytes() == whole


def of_photos():
    """What a record says of the images of these cells."""
    return data.describe(data.load_all(CELLS[0], None)[0])


def test_a_damaged_record_here_is_kept_aside_and_replaced(pack):
    path = records.record_path(CELLS[0])
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{")
    unpacking.unpack(pack)
    assert records.finished(CELLS[0]) and path.with_name(f"{path.name}.damaged").read_bytes() == b"{"


@pytest.mark.parametrize(("steps", "is_taken"), [(2, True), (3, False), (4, False)])
def test_a_training_is_taken_over_where_it_is_further_than_the_one_here(steps, is_taken, pack):
    run(CELLS[2], steps)
    mine = checkpoint.latest(folder_of(2)).read_bytes()
    unpacking.unpack(pack)
    newest = checkpoint.latest(folder_of(2))
    assert newest.name == f"step-{max(4, steps + 1):08d}.safetensors"  # a request is heeded after the next step
    assert (newest.read_bytes() != mine) == is_taken


def test_a_cell_that_is_being_run_is_left_alone(pack, tmp_path):
    lock = places.runs_folder("smoke") / "running" / f"{CELLS[0].run.run_id}.lock"
    lock.parent.mkdir(parents=True)
    with filelock.FileLock(lock):
        words = unpacking.unpack(pack)
    assert words[:2] == [
        "Taken over: 0 finished cells, 2 trainings under way; 0 were here already, as far or further.",
        "Left alone, as they are being run: 1 cell.",
    ]
    assert records.finished(CELLS[0]) is None


def test_nothing_is_packed_or_unpacked_while_a_sweep_is_at_work(pack, tmp_path):
    with sweep.hold("smoke"):
        for work in (lambda: unpacking.unpack(pack), lambda: packing.pack("smoke", tmp_path / "other")):
            with pytest.raises(sweep.SweepError, match="Another sweep is at work"):
                work()
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_gone_on_from_stays_behind_with_a_sentence(machine, tmp_path, capsys):
    leave_record(made_record(config.smoke()), NOTEBOOK)
    damaged = leave_record(made_record(config.smoke(seed=1)), NOTEBOOK)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    empty = places.runs_folder("smoke") / "checkpoints" / "conv-rff-L1-s0-00000000" / ("0" * 12)
    empty.mkdir(parents=True)
    (empty / "step-00000007.safetensors").write_bytes(b"no")
    assert main(["pack", str(tmp_path / "pack")]) == 1  # whole, but for what is damaged
    left, fault, summary = capsys.readouterr().out.splitlines()
    assert str(empty.parent) in left and str(damaged) in fault
    assert "1 finished cell and 0 trainings under way of the study smoke" in summary
    with packs.opened(tmp_path / "pack") as opened:
        assert {entry.name.rpartition(".")[0] for entry, _ in opened.each()} == {f"results/{config.smoke().run.run_id}"}


# What is refused


def repacked(pack, change):
    """A pack of other files, with every checksum right: `change` is given the files and the list's head."""
    with packs.opened(pack) as opened:
        files, head = dict((entry.name, content) for entry, content in opened.each()), opened.contents.model_dump()
    files = change(files, head) or files
    listed = [packs.Entry(name=n, size=len(c), sha256=hashlib.sha256(c).hexdigest()) for n, c in sorted(files.items())]
    contents = packs.Contents(**head | {"files": listed})
    packs.write(pack, contents, lambda entry: files[entry.name])


def renamed(old, new):
    return lambda files, head: {name.replace(old, new): content for name, content in files.items()}


def changed_record(**changes):
    """The finished cell's record with other values, its own checksum made right."""

    def change(files, head):
        [name] = [name for name in files if name.endswith(".json")]
        content = {**json.loads(files[name]), **changes}
        if content["checksums"]:
            content["checksums"]["record"] = records._digest(content)
        files[name] = json.dumps(content).encode()

    return change


def without(suffix):
    return lambda files, head: {name: content for name, content in files.items() if not name.endswith(suffix)}


def added(name, content=b"{}"):
    return lambda files, head: files | {name: content}


def with_head(**changes):
    return lambda files, head: head.update(changes)


def replaced(suffix, content):
    return lambda files, head: {name: content if name.endswith(suffix) else old for name, old in files.items()}


A, C = CELLS[0].run.run_id, CELLS[2].run.run_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed("results/", "../results/"), "holds '../results/"),
        (renamed("results/", "/etc/"), "holds '/etc/"),
        (renamed("results/", "results/../../"), "holds 'results/../../"),
        (renamed("/step-", "/../step-"), "/../step-"),
        (renamed("checkpoints/", "checkpoints/./"), "holds 'checkpoints/./"),
        (renamed(".ipynb", ".py"), ".py', which no study leaves"),
        (added("results/.hidden.json"), "which no study leaves"),
        (added("training.lock"), "which no study leaves"),
        (renamed(A, "conv-rff-L1-s0-00000000"), "it is the record of conv-rff-L1"),
        (renamed(C, "conv-rff-L1-s0-00000000"), "holds a checkpoint in conv-rff-L1-s0-00000000 that is not of that"),
        (without(".npz"), "holds what cannot be used"),
        (without(".json"), "holds a checkpoint in conv-rff"),
        (without("epoch-00001.safetensors"), "holds a checkpoint in mixer"),
        (replaced(".npz", b"PK" * 99), "holds what cannot be used"),
        (replaced(".json", b"[" * 100_000), "holds what cannot be used"),
        (replaced(".ipynb", b"{}"), "holds a notebook that is not of the record"),
        (replaced("final.safetensors", b"{}"), "does not hold the weights of the record"),
        (added(f"results/{C}.ipynb", NOTEBOOK), "which belongs to none of its cells"),
        (added(f"checkpoints/{C}/{'0' * 12}/final.safetensors", b""), "holds a checkpoint in transformer1"),
        (changed_record(schema_version=99), "by a newer version"),
        (changed_record(checksums=None), "its checksums are missing"),
        (changed_record(numerics=99), "by a newer version"),
        (with_head(study="cpu"), "of another study or of other numerics"),
        (with_head(study="mine"), "is the pack of no study of this project"),
        (with_head(study="../smoke"), "is the pack of no study of this project"),
        (with_head(numerics=numerics.NUMERICS + 1), "was packed by a newer version of isonb"),
        (with_head(schema_version=config.VERSION + 1), "was packed by a newer version of isonb"),
        (with_head(format=2), "was packed by a newer version of isonb"),
        (with_head(numerics=0), "holds results from before they changed"),
    ],
)
def test_a_pack_that_holds_what_it_should_not_is_refused_and_changes_nothing(change, message, pack, tmp_path):
    """With all of its checksums right."""
    run(CELLS[2], 2)
    repacked(pack, change)
    before = tree(tmp_path / "here")
    assert main(["unpack", str(pack)]) == 2
    assert tree(tmp_path / "here") == before and not (tmp_path / "etc").exists()
    with pytest.raises(packs.PackError) as refusal:
        unpacking.unpack(pack)
    assert message in str(refusal.value) and "\n" not in str(refusal.value) and str(refusal.value).startswith(str(pack))


def test_results_of_other_images_are_refused(pack, tmp_path):
    other = of_photos().model_copy(update={"sha256": {"photos/train": "0" * 64}})
    seed = CELLS[0].model_copy(update={"run": CELLS[0].run.model_copy(update={"seed": 5})})
    leave_record(made_record(seed).model_copy(update={"data": other}), NOTEBOOK)
    before = tree(tmp_path / "here")
    with pytest.raises(packs.PackError, match=rf"holds {A}, which has read other images than those at hand: set ISONB"):
        unpacking.unpack(pack)
    assert tree(tmp_path / "here") == before
    repacked(pack, without((".json", ".npz", ".ipynb", f"{A}/final.safetensors")))
    repacked(pack, lambda files, head: {name: files[name] for name in files if A not in name})
    with pytest.raises(packs.PackError, match="which has read other images than those at hand"):
        unpacking.unpack(pack)
    assert tree(tmp_path / "here") == before


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_to_a_file_before_it_is_packed_it_becomes_no_result(data, pack, tmp_path):
    """Damage with every checksum of the pack right: refused, and nothing is changed, or what was there at first."""
    whole = pack.read_bytes()

    def change(files, head):
        name = data.draw(st.sampled_from(sorted(files)))
        place = data.draw(st.integers(0, len(files[name]) - 1) | st.integers(0, min(2000, len(files[name]) - 1)))
        damaged = bytearray(files[name])
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
        files[name] = bytes(damaged)

    try:
        repacked(pack, change)
        with pytest.raises(packs.PackError):
            unpacking.unpack(pack)
        assert tree(tmp_path / "here") == {}
    finally:
        pack.write_bytes(whole)


# The command line


def test_the_command_line_packs_and_unpacks_in_parts(pack, machine, tmp_path, capsys):
    machine("there")
    assert main(["pack", str(tmp_path / "parts"), "--part-size", "64K"]) == 0
    assert f"{tmp_path}/parts.001 to parts.0" in capsys.readouterr().out
    machine("here")
    assert main(["unpack", str(tmp_path / "parts")]) == 0
    assert "Taken over: 1 finished cell" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["0", "500", "M", "-5M", "1.5G", "63K", "8G", "5T", "²M", "9" * 99 + "M", "500 M"])
def test_a_size_that_is_none_is_refused(size, tmp_path, capsys):
    assert main(["pack", str(tmp_path / "pack"), f"--part-size={size}"]) == 2
    assert capsys.readouterr().err == f"part-size={size!r} is not allowed: write 500M or 2G, from 64K to 7G.\n"


def test_a_study_without_anything_is_not_packed(machine, tmp_path, capsys):
    assert main(["pack", str(tmp_path / "pack")]) == 2
    assert "has neither results nor checkpoints yet" in capsys.readouterr().err
    assert not (tmp_path / "pack").exists()
