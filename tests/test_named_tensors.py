"""Weights in parts, as Hugging Face stores large ones: the same network, and a sentence for what does not belong."""

import json
import os
import resource

import pytest
import safetensors.torch
import torch
from hugging_face_files import TINY, a_checkpoint, clusters, tensors_of

from isonb.__main__ import main
from isonb.training import hugging_face

KINDS = {"safetensors": ("model", ".safetensors"), "bin": ("pytorch_model", ".bin")}


def save(tensors, path):
    if path.suffix == ".bin":
        torch.save(tensors, path)
    else:
        safetensors.torch.save_file(tensors, path)


def in_parts(folder, kind="safetensors", count=3, tensors=None):
    """A checkpoint whose tensors are dealt out to so many parts, and the list of them."""
    a_checkpoint(folder, tensors := tensors or tensors_of(TINY), kind)
    stem, suffix = KINDS[kind]
    (folder / f"{stem}{suffix}").unlink()
    listed = {}
    for number in range(count):
        part = f"{stem}-{number + 1:05}-of-{count:05}{suffix}"
        own = dict([*tensors.items()][number::count])
        listed |= dict.fromkeys(own, part)
        save(own, folder / part)
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": sum(x.nbytes for x in tensors.values())}} | of(listed)))
    return folder


def of(listed):
    return {"weight_map": listed}


def same_numbers(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_parts_are_the_same_network_as_the_whole_in_each_type(kind, dtype, tmp_path):
    tensors = {name: x.to(dtype) for name, x in tensors_of(TINY).items()}
    whole = hugging_face.read(a_checkpoint(tmp_path / "whole", tensors, kind))
    parts = hugging_face.read(in_parts(tmp_path / "parts", kind, tensors=tensors))
    assert same_numbers(whole, parts)
    assert torch.equal(parts.blocks[1].hidden.weight, tensors["transformer.h.1.mlp.c_fc.weight"].T.float())


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_librarys_own_parts_are_read(is_tied, tmp_path):
    transformers = pytest.importorskip(
        "transformers", reason="Hugging Face's transformers are not installed: `make` adds them."
    )
    config = transformers.ImageGPTConfig(**TINY, tie_word_embeddings=is_tied)
    theirs = transformers.ImageGPTForCausalImageModeling(config).eval()
    theirs.save_pretrained(tmp_path / "igpt", max_shard_size="8KB")
    assert len([*(tmp_path / "igpt").glob("model-*.safetensors")]) > 2
    (tmp_path / "igpt/preprocessor_config.json").write_text(json.dumps({"clusters": clusters()}))
    ours, token_BN = hugging_face.read(tmp_path / "igpt"), torch.arange(64)[None] * 8
    with torch.no_grad():
        torch.testing.assert_close(ours(token_BN), theirs(token_BN).logits[..., :512], rtol=0, atol=1e-4)


def test_a_whole_file_is_read_before_parts_and_safetensors_before_pickles(tmp_path):
    folder = in_parts(tmp_path / "igpt", tensors=tensors_of(TINY, seed=1))
    expected = hugging_face.read(folder)
    torch.save(tensors_of(TINY, seed=2), folder / "pytorch_model.bin")
    assert same_numbers(hugging_face.read(folder), expected)
    safetensors.torch.save_file(tensors_of(TINY, seed=3), folder / "model.safetensors")
    assert not same_numbers(hugging_face.read(folder), expected)


INDEX, FIRST, SECOND = "model.safetensors.index.json", "model-00001-of-00003.safetensors", "model-00002-of-00003"
TABLE = "transformer.wte.weight"  # in the first part


def relisted(**changes):
    """Another list, of which `**changes` with two underscores for a dot are other entries, or none."""

    def apply(folder):
        listed = json.loads((folder / INDEX).read_text())["weight_map"]
        listed |= {name.replace("__", "."): part for name, part in changes.items()}
        (folder / INDEX).write_text(json.dumps(of({name: part for name, part in listed.items() if part is not None})))

    return apply


def rewritten(part, change):
    """Another part, of which `change` has changed the tensors."""

    def apply(folder):
        tensors = safetensors.torch.load_file(folder / part)
        change(tensors)
        safetensors.torch.save_file(tensors, folder / part)

    return apply


def listed_as(content):
    return lambda folder: (folder / INDEX).write_text(content if isinstance(content, str) else json.dumps(content))


def a_sparse_part(folder):
    """A file of two terabytes, none of which takes room."""
    with (folder / FIRST).open("r+b") as file:
        file.truncate(2**41)


FAULTS = {
    "a part is missing": (
        lambda folder: (folder / FIRST).unlink(),
        f"{FIRST} is missing, which {INDEX} lists: add it.",
    ),
    "a part is a folder": (
        lambda folder: (folder / FIRST).unlink() or (folder / FIRST).mkdir(),
        f"{FIRST} cannot be read (it is not a regular file)",
    ),
    "a part is a pipe": (
        lambda folder: (folder / FIRST).unlink() or os.mkfifo(folder / FIRST),
        f"{FIRST} cannot be read (it is not a regular file)",
    ),
    "a part is a broken link": (
        lambda folder: (folder / FIRST).unlink() or (folder / FIRST).symlink_to("nothing"),
        f"{FIRST} cannot be read (No such file or directory)",
    ),
    "a part is cut": (
        lambda folder: (folder / FIRST).write_bytes((folder / FIRST).read_bytes()[:-1]),
        f"{FIRST} cannot be read (",
    ),
    "a part is a page that says 'not found'": (
        lambda folder: (folder / FIRST).write_text("<html>Entry not found"),
        f"{FIRST} cannot be read (",
    ),
    "a part is far too long": (a_sparse_part, "2,199,023,255,552 bytes, more than the"),
    "a part lacks its tensor": (
        rewritten(FIRST, lambda tensors: tensors.pop(TABLE)),
        f"{FIRST} cannot be read (it lacks {TABLE}, which {INDEX} puts there)",
    ),
    "a tensor is in two parts": (
        rewritten(f"{SECOND}.safetensors", lambda tensors: tensors.update({TABLE: torch.zeros(513, 8)})),
        f"{SECOND}.safetensors cannot be read (it holds {TABLE}, which {INDEX} puts into {FIRST})",
    ),
    "a tensor that is not listed": (
        rewritten(FIRST, lambda tensors: tensors.update({"score.weight": torch.zeros(2)})),
        f"{FIRST} cannot be read (it holds score.weight, which {INDEX} puts nowhere)",
    ),
    "a tensor that nobody lists": (relisted(transformer__wte__weight=None), f"it holds {TABLE}, which {INDEX} puts"),
    "a tensor of another shape": (
        rewritten(FIRST, lambda tensors: tensors.update({TABLE: torch.zeros(513, 9)})),
        f"{FIRST} cannot be read ({TABLE} has the shape (513, 9) where config.json asks for (513, 8))",
    ),
    "whole numbers": (
        rewritten(FIRST, lambda tensors: tensors.update({TABLE: torch.zeros(513, 8).long()})),
        f"{FIRST} cannot be read ({TABLE} is not of 16- or 32-bit numbers)",
    ),
    "a part above the folder": (relisted(transformer__wte__weight=f"../{FIRST}"), "no .safetensors file beside it"),
    "a part at the root": (relisted(transformer__wte__weight="/etc/passwd.safetensors"), "no .safetensors file beside"),
    "a part in a folder": (relisted(transformer__wte__weight=f"sub/{FIRST}"), "no .safetensors file beside it"),
    "a part of another kind": (relisted(transformer__wte__weight="pytorch_model.bin"), "no .safetensors file beside"),
    "a part without a name": (relisted(transformer__wte__weight=""), "into '', no .safetensors file beside it"),
    "a part that is a number": (relisted(transformer__wte__weight=7), "into 7, no .safetensors file beside it"),
    "a part with a null": (relisted(transformer__wte__weight="a\0.safetensors"), r"into 'a\x00.safetensors', no"),
    "a part with a line": (relisted(transformer__wte__weight="a\n.safetensors"), r"into 'a\n.safetensors', no"),
    "a part with a long name": (
        relisted(transformer__wte__weight=f"{'a' * 9999}.safetensors"),
        "a..., no .safetensors file beside it",
    ),
    "no list": (listed_as({"metadata": {}}), f"{INDEX} cannot be read (it lists no weights)"),
    "an empty list": (listed_as(of({})), f"{INDEX} cannot be read (it lists no weights)"),
    "a list of parts alone": (listed_as(of([FIRST])), f"{INDEX} cannot be read (it lists no weights)"),
    "an array": (listed_as([1]), f"{INDEX} holds no JSON object"),
    "no JSON": (listed_as("{'weight_map': {}}"), f"{INDEX} cannot be read (it is not JSON"),
    "a tensor that is listed twice": (
        listed_as(f'{{"weight_map": {{"{TABLE}": "{FIRST}", "{TABLE}": "{SECOND}.safetensors"}}}}'),
        f"{INDEX} cannot be read (a name stands in it twice)",
    ),
    "a list without end": (listed_as(" " * 2**21), "more than the 1,048,576 that such a file may have"),
    "a list that is nested": (listed_as("[" * 100_000), "it is nested too deeply"),
    "fewer layers than config.json says": (
        lambda folder: (folder / "config.json").write_text(json.dumps({**TINY, "n_layer": 3})),
        f"{INDEX} cannot be read (it lacks 10 tensors, as transformer.h.2.attn.c_attn.bias)",
    ),
}


@pytest.mark.parametrize(("breaks", "words"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_with_parts_is_said_in_a_sentence_and_nothing_is_written(
    breaks, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    breaks(in_parts(tmp_path / "igpt"))
    assert main(["import-igpt", "igpt"]) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.count("\n") == 1 and said.out == "" and len(said.err) < 400
    assert [path.name for path in tmp_path.iterdir()] == ["igpt"]


def test_parts_may_not_be_longer_together_than_the_weights_can_be(tmp_path):
    """Each is allowed to have another's length, and all of them are not."""
    folder = in_parts(tmp_path / "igpt")
    for part in folder.glob("model-*.safetensors"):
        tensors = safetensors.torch.load_file(part)
        long = {
            f"h.0.attn.{part.name}.attn.bias": torch.zeros(4 * 10**6)
        }  # as an older version's masks are passed over
        safetensors.torch.save_file(tensors | long, part)
        listed = json.loads((folder / INDEX).read_text())["weight_map"]
        (folder / INDEX).write_text(json.dumps(of(listed | dict.fromkeys(long, part.name))))
    with pytest.raises(hugging_face.HuggingFaceError, match=r"model-00002-of-00003\.safetensors .* more than the"):
        hugging_face.read(folder)


def test_many_parts_take_few_open_files(tmp_path):
    folder, count = in_parts(tmp_path / "igpt", count=23), len(os.listdir("/dev/fd"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 8, limits[1]))
    try:
        network = hugging_face.read(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert network.config.depth == 2
