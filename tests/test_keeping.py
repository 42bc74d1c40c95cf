"""A kept network comes back as it was, by its file, its folder or its run's name; anything else gets a sentence."""

import pytest
import safetensors.torch
import torch

import isonb
from isonb import places, rows
from isonb.config import BLOCKS, ENCODINGS, RunConfig
from isonb.models import network as networks
from isonb.training import checkpoint

SMALL = {"width": 8, "image_size": 8, "depth": 2}


def a_network(**changes):
    config = RunConfig(**{**SMALL, **changes})
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(256, (512, 3), generator=generator).to(torch.uint8).numpy()
    network = networks.build_network(config, colours if config.has_palette else None)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv(places.RUNS, str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("block", BLOCKS)
def test_every_kind_of_network_comes_back_as_it_was(block, encoding, tmp_path):
    objective = "autoregressive" if rows.BLOCKS[block].has_causal_form else "bert"
    network = a_network(block=block, encoding=encoding, positions="sincos", objective=objective)
    checkpoint.keep_at(tmp_path / "kept.safetensors", network.config, network)
    loaded = isonb.load(tmp_path / "kept.safetensors")
    pixels_BNC = torch.randint(256, (2, 64, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    assert loaded.config == network.config and not loaded.training
    assert torch.equal(loaded(pixels_BNC), network(pixels_BNC))
    assert {name: x.requires_grad for name, x in loaded.named_parameters()} == {
        name: x.requires_grad for name, x in network.named_parameters()
    }


def test_a_network_is_found_by_its_file_its_folder_and_its_name(runs):
    network = a_network()
    name = network.config.run_id
    folder = runs / "cpu/checkpoints" / name / "0123456789ab"
    checkpoint.keep_final(folder, network.config, network)
    for kept in (folder / checkpoint.FINAL, str(folder), folder.parent, name):
        assert isonb.load(kept).config == network.config
    checkpoint.keep_final(folder.with_name("another-one"), network.config, network.double())
    assert isonb.load(folder.with_name("another-one")).head.weight.dtype == torch.float64
    with pytest.raises(checkpoint.CheckpointError) as refusal:
        isonb.load(name)
    assert f"{name} may be any of 2 networks, {folder / checkpoint.FINAL} and " in str(refusal.value)


@pytest.mark.parametrize("name", ["", "..", "*", "conv-continuous-L1-s0-00000000", "a/b", "nul\0"])
def test_what_keeps_no_network_is_told(name, runs, monkeypatch, tmp_path):
    (tmp_path / "empty/empty").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty/empty")
    with pytest.raises(checkpoint.CheckpointError, match="keeps no network: there is no file"):
        isonb.load(name)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x7f"),
        lambda path: path.write_bytes(b"\x89PNG" * 1000),
        lambda path: safetensors.torch.save_file({"weight": torch.zeros(2)}, path),
        lambda path: safetensors.torch.save_file({"weight": torch.zeros(2)}, path, {"isonb": "[]", "checksum": "0"}),
        lambda path: path.write_bytes(path.read_bytes().replace(b'\\"width\\": 8', b'\\"width\\": 9')),
        lambda path: path.write_bytes(path.read_bytes().replace(b'\\"width\\"', b'\\"wider\\"')),
    ],
)
def test_a_file_that_is_damaged_or_something_else_is_told_in_a_sentence(spoil, tmp_path):
    network = a_network()
    path = tmp_path / "kept.safetensors"
    checkpoint.keep_at(path, network.config, network)
    spoil(path)
    with pytest.raises(checkpoint.CheckpointError) as refusal:
        isonb.load(path)
    assert str(refusal.value).startswith(f"{path} is no network that isonb has kept, or it is damaged (")
    assert str(refusal.value).endswith("): name another file.")


def test_the_weights_of_another_program_are_called_so(tmp_path):
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(checkpoint.CheckpointError, match=r"damaged \(another program has written it\): name another"):
        isonb.load(tmp_path / "model.safetensors")
