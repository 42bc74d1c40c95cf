"""Networks that come with the project: of half the bits, tied to a record, and found by the name of their run."""

import hashlib
import re

import pytest
import safetensors
import torch
from made_records import leave_record, made_record
from tiny_runs import made_images, tiny_run

import isonb
from isonb import config, places
from isonb.__main__ import main
from isonb.evidence import networks as evidence
from isonb.models import network as networks
from isonb.training import checkpoint, data, evaluate


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The settings of a finished tiny run of `cpu`, whose weights and record are there; nothing has been shared yet."""
    monkeypatch.setenv(places.RUNS, str(tmp_path / "runs"))
    monkeypatch.setenv(places.RESULTS, str(tmp_path / "results"))
    monkeypatch.setattr(places, "NETWORKS", tmp_path / "networks")
    monkeypatch.setattr(data, "load", lambda *_: made_images())
    settings = tiny_run(block="mixer", encoding="pix2vec")
    folder = places.runs_folder("cpu") / "checkpoints" / settings.run_id / "images"
    folder.mkdir(parents=True)
    weights = checkpoint.keep_final(folder, settings, networks.build_network(settings))
    record = made_record(config.Cell(study="cpu", run=settings), validation_loss=5.5)
    read = record.data.model_copy(update={"sha256": made_images().sha256})
    leave_record(record.model_copy(update={"weights": weights, "data": read}))
    return settings


def own_weights(run):
    return next(places.runs_folder("cpu").glob(f"checkpoints/{run.run_id}/*/{checkpoint.FINAL}"))


def test_a_copy_is_half_as_large_and_every_number_is_the_nearest_of_16_bits(run, capsys):
    exact = isonb.load(run.run_id)
    assert main(["share", run.run_id]) == 0
    path = places.NETWORKS / f"{run.run_id}.safetensors"
    assert str(path) in capsys.readouterr().out
    parameters = sum(x.numel() for x in exact.state_dict().values())
    with safetensors.safe_open(path, "pt") as file:
        stored = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118, as it is no dictionary
    assert sum(x.nbytes for x in stored) == 2 * parameters
    own_weights(run).unlink()
    copy = isonb.load(run.run_id)
    assert copy.config == run
    for name, tensor in copy.state_dict().items():
        whole = exact.state_dict()[name]
        assert tensor.dtype == torch.float32
        # of its significand 8 bits are kept, the first of them implied: steps of 2^-7, off by half a step
        assert ((tensor - whole).abs() <= whole.abs() * 2**-8).all()


def test_ones_own_weights_come_before_the_copy(run):
    assert main(["share", run.run_id]) == 0
    own = safetensors.torch.load_file(own_weights(run))
    assert torch.equal(isonb.load(run.run_id).state_dict()["head.weight"], own["network/head.weight"])


def test_the_table_has_the_losses_of_both_and_leads_to_the_run(run):
    assert main(["share", run.run_id]) == 0
    (row,) = evidence.table().to_dict("records")
    own_weights(run).unlink()
    loss_B, count_B = evaluate.loss_per_image(isonb.load(run.run_id), run, made_images().validation, "float32")
    assert row["name"] == run.run_id and row["loss"] == "5.500 nats per masked sub-pixel"
    assert row["rounded"] == f"{float(loss_B.sum() / count_B.sum()):.3f} nats per masked sub-pixel"
    assert "cells.html?" in row["network"].address and "Mixer" in str(row["network"])


def test_without_the_record_the_table_says_so(run):
    assert main(["share", run.run_id]) == 0
    for path in places.results_folder("cpu").glob("*.json"):
        path.unlink()
    (row,) = evidence.table().to_dict("records")
    assert row["loss"] == "not at hand" and isinstance(row["network"], str)


def test_a_file_that_is_no_copy_is_named(run):
    places.NETWORKS.mkdir()
    own_weights(run).rename(places.NETWORKS / f"{run.run_id}.safetensors")
    (row,) = evidence.table().to_dict("records")
    assert "is no network that was shared" in row["damaged"]


@pytest.mark.parametrize("fault", ["no weights", "other weights", "no record", "a copy", "other images"])
def test_what_cannot_be_tied_to_a_record_is_not_shared(run, fault, capsys, monkeypatch):
    if fault == "no weights":
        own_weights(run).unlink()
    elif fault == "other weights":
        checkpoint.keep_final(own_weights(run).parent, run, networks.build_network(run).double())
    elif fault == "no record":
        next(places.results_folder("cpu").glob("*.json")).unlink()
    elif fault == "a copy":
        assert main(["share", run.run_id]) == 0
        own_weights(run).unlink()
    else:
        others = made_images()
        monkeypatch.setattr(data, "load", lambda *_: others.__class__(**{**vars(others), "sha256": {"a": "0" * 64}}))
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in places.NETWORKS.glob("*")}
    capsys.readouterr()
    assert main(["share", run.run_id]) in (1, 2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and run.run_id in said and "Traceback" not in said
    assert before == {path: hashlib.sha256(path.read_bytes()).digest() for path in places.NETWORKS.glob("*")}


def test_a_package_without_its_project_is_given_no_network(run, monkeypatch, capsys):
    monkeypatch.setattr(places, "IS_CHECKOUT", False)
    assert main(["share", run.run_id]) == 2
    assert "was installed without its other files" in capsys.readouterr().err
    assert not places.NETWORKS.exists()


def test_numbers_of_16_bits_are_damage_in_a_file_that_is_no_copy(run):
    path = own_weights(run)
    checkpoint.keep_final(path.parent, run, networks.build_network(run).bfloat16())
    with pytest.raises(checkpoint.CheckpointError, match="its numbers are of another type"):
        isonb.load(path)


def test_the_networks_that_come_with_the_project_belong_to_its_records(monkeypatch):
    results = places.PROJECT / "book" / "results"
    if not results.is_dir():
        pytest.skip("This copy of the project has no results.")
    monkeypatch.setenv(places.RESULTS, str(results))
    shown = {row["name"]: row for row in evidence.table().to_dict("records")}
    paths = sorted((places.PROJECT / "book" / "networks").glob("*.safetensors"))
    assert paths and [*shown] == [path.stem for path in paths]
    for path in paths:
        assert isonb.load(path).config.run_id == path.stem
        loss, rounded = (float(str(shown[path.stem][name]).split()[0]) for name in ("loss", "rounded"))
        assert abs(loss - rounded) < 0.01


@pytest.mark.parametrize("page", ["README.md", "book/run.md"])
def test_a_network_that_a_page_names_comes_with_the_project(page):
    names = re.findall(r'isonb\.load\("([^"]+)"\)', (places.PROJECT / page).read_text(encoding="utf-8"))
    assert names
    assert [name for name in names if not (places.PROJECT / f"book/networks/{name}.safetensors").is_file()] == []
