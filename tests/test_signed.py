"""A signed file is one of safetensors, laid out as its own writer does it, and tells every change of a byte."""

import hashlib
import json

import pytest
import safetensors.torch
import torch

from isonb.training import signed

TENSORS = {
    "b": torch.arange(6.0).view(2, 3),
    "a": torch.arange(4.0, dtype=torch.float64),
    "step/c": torch.tensor(7.0),
    "none": torch.zeros(0, 3),
    "turned": torch.arange(6.0).view(2, 3).T,  # which is not contiguous
}


def header_of(content):
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])


def test_it_is_what_the_library_would_have_written_but_for_the_order_of_the_metadata(tmp_path):
    said = signed.write(tmp_path / "x.safetensors", "of ours", TENSORS)
    content = (tmp_path / "x.safetensors").read_bytes()
    found = safetensors.torch.load(content)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], x) and found[name].dtype == x.dtype for name, x in TENSORS.items())
    metadata = header_of(content)["__metadata__"]
    plain = {name: x.contiguous() for name, x in TENSORS.items()}
    theirs = safetensors.torch.save(plain, metadata)
    assert header_of(content) == header_of(theirs) and [*header_of(content)][1:] == [*header_of(theirs)][1:]
    assert len(content) == len(theirs) and sorted(content[8:400]) == sorted(theirs[8:400])
    assert content[-sum(x.nbytes for x in plain.values()) :] == theirs[-sum(x.nbytes for x in plain.values()) :]
    assert list(metadata) == ["checksum", "isonb"] and metadata["isonb"] == "of ours"
    assert (said.file, said.size, said.sha256) == ("x.safetensors", len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_come_back_as_they_were(dtype, tmp_path):
    signed.write(tmp_path / "x.safetensors", "", {"x": torch.randn(5).to(dtype)})
    assert safetensors.torch.load_file(tmp_path / "x.safetensors")["x"].dtype == dtype


def test_equal_tensors_are_equal_files_and_each_byte_but_the_checksums_own_counts(tmp_path):
    for name in ("one", "other"):
        signed.write(tmp_path / name, "text", dict(reversed(TENSORS.items())) if name == "other" else TENSORS)
    content = (tmp_path / "one").read_bytes()
    assert (tmp_path / "other").read_bytes() == content
    stated = header_of(content)["__metadata__"]["checksum"]
    assert signed.checksum(content, stated) == stated
    first = content.find(stated.encode())
    for place in set(range(len(content))) - set(range(first - 12, first + 65)):
        changed = bytearray(content)
        changed[place] ^= 1
        assert signed.checksum(bytes(changed), stated) != stated, place


def test_what_was_there_stays_where_nothing_can_be_written(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    signed.write(path, "", TENSORS)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        signed.write(path, "", {"b": torch.ones(9)})
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]
