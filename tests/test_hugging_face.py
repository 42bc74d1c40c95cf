"""image-GPT as Hugging Face stores it: the same logits, and a sentence for whatever else is in its place.

Logits are compared with the published code written out in numpy and, where the library is installed, with its own.
"""

import json
import math
import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hugging_face_files import TINY, a_checkpoint, clusters, tensors_of

import isonb
from isonb.__main__ import main
from isonb.training import hugging_face
from isonb.training.hugging_face import HuggingFaceError

KINDS = {
    "as published": {},
    "tied": {"tie_word_embeddings": True, "n_head": 4, "n_embd": 16},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3, "n_inner": 20, "n_head": 1},
    "not scaled by width": {"scale_attn_weights": False, "layer_norm_epsilon": 1e-3, "n_positions": 256},
}
TOLERANCE = 1e-4  # of logits of about 1


def naive(tensors, config, tokens):
    """The published forward pass, an image and a position at a time, with the library's two scalings: N by 512."""
    w = {name.removeprefix("transformer."): x.double().numpy() for name, x in tensors.items()}
    d, heads, eps = config["n_embd"], config["n_head"], config.get("layer_norm_epsilon", 1e-5)

    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * w[name]

    def linear(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["wte.weight"][tokens] + w["wpe.weight"][: len(tokens)]
    for layer in range(config["n_layer"]):
        of = f"h.{layer}."
        q, k, v = np.split(linear(norm(x, of + "ln_1.weight"), of + "attn.c_attn"), 3, axis=-1)
        attended = np.zeros_like(x)
        for part in np.split(np.arange(d), heads):
            for n in range(len(x)):
                score = k[: n + 1, part] @ q[n, part]
                score = score / math.sqrt(len(part)) if config.get("scale_attn_weights", True) else score
                score = score / (layer + 1) if config.get("scale_attn_by_inverse_layer_idx") else score
                share = np.exp(score - score.max())
                attended[n, part] = share / share.sum() @ v[: n + 1, part]
        x = x + linear(attended, of + "attn.c_proj")
        hidden = linear(norm(x, of + "ln_2.weight"), of + "mlp.c_fc")
        x = x + linear(hidden / (1 + np.exp(-1.702 * hidden)), of + "mlp.c_proj")
    head = w["wte.weight"][:512] if config.get("tie_word_embeddings") else w["lm_head.weight"]
    return norm(x, "ln_f.weight") @ head.T


def converted(folder, out):
    hugging_face.convert(folder, out)
    return isonb.load(out)


def some_tokens(config, images=2):
    return torch.randint(513, (images, config["n_positions"]), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_the_logits_are_those_of_the_published_code(changes, kind, tmp_path):
    config = {**TINY, **changes}
    network = converted(a_checkpoint(tmp_path / "igpt", kind=kind, **changes), tmp_path / "out.safetensors")
    token_BN = some_tokens(config)
    with torch.no_grad():
        logits_BNV = network(token_BN)
    expected = np.stack([naive(tensors_of(config), config, tokens.numpy()) for tokens in token_BN])
    assert np.abs(expected).mean() > 0.1
    np.testing.assert_allclose(logits_BNV, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_the_logits_are_the_librarys_own(changes, tmp_path):
    transformers = pytest.importorskip(
        "transformers", reason="Hugging Face's transformers are not installed: `make` adds them."
    )
    torch.manual_seed(0)
    theirs = transformers.ImageGPTForCausalImageModeling(transformers.ImageGPTConfig(**{**TINY, **changes})).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path / "igpt")
    (tmp_path / "igpt/preprocessor_config.json").write_text(json.dumps({"clusters": clusters()}))
    ours = converted(tmp_path / "igpt", tmp_path / "out.safetensors")
    token_BN = some_tokens({**TINY, **changes})
    with torch.no_grad():
        for tokens in (token_BN, token_BN[:, :7]):
            expected = theirs(tokens).logits[..., :512]  # a tied head has one more, of the start token
            torch.testing.assert_close(ours(tokens), expected, rtol=0, atol=TOLERANCE)


def test_half_precision_older_masks_and_names_without_a_prefix_are_read(tmp_path):
    tensors = {name: x.half() for name, x in tensors_of(TINY).items()}
    older = {name.removeprefix("transformer."): x for name, x in tensors.items()}
    older |= {"h.0.attn.bias": torch.ones(1, 1, 64, 64, dtype=torch.uint8), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    network = converted(a_checkpoint(tmp_path / "igpt", older, kind="bin"), tmp_path / "out.safetensors")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert torch.equal(network.start_D, tensors["transformer.wte.weight"][512].float())
    assert torch.equal(network.blocks[1].hidden.weight, tensors["transformer.h.1.mlp.c_fc.weight"].T.float())


def test_room_is_left_for_the_masks_that_older_versions_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(hugging_face, "OVERHEAD", 2**13)
    masks = {f"transformer.h.{layer}.attn.bias": torch.ones(1, 1, 64, 64) for layer in range(2)}
    folder = a_checkpoint(tmp_path / "igpt", tensors_of(TINY) | masks)
    assert hugging_face.read(folder).config.depth == 2


def test_what_a_configuration_leaves_out_is_as_the_library_has_it():
    about = hugging_face.describe({"model_type": "imagegpt"}, Path("config.json"))
    run = about.run  # by the defaults of the library's ImageGPTConfig, which are those of the small network
    assert (run.depth, run.width, run.heads, run.image_size, about.hidden) == (24, 512, 8, 32, 2048)
    assert (run.layer_norm_eps, about.scales, about.is_tied) == (1e-5, (1.0,) * 24, False)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_tied_head_that_is_stored_once_more_is_passed_over(kind, tmp_path):
    tensors = tensors_of({**TINY, "tie_word_embeddings": True})
    table_KD = tensors["transformer.wte.weight"]
    again = table_KD[:512] if kind == "bin" else torch.zeros(512, 8)  # the former shares its numbers with the table
    folder = a_checkpoint(tmp_path / "igpt", tensors | {"lm_head.weight": again}, kind, tie_word_embeddings=True)
    assert torch.equal(hugging_face.read(folder).head.weight, table_KD[:512])


def test_the_palette_comes_with_it_and_is_not_rounded_before_pixels_are_compared_with_it(tmp_path):
    colours = [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [0.2, 0.2, 0.2]] + [[-1.0, 1.0, -1.0]] * 509
    network = converted(a_checkpoint(tmp_path / "igpt", colours=colours), tmp_path / "out.safetensors")
    # 0.2 is the level (0.2 + 1) 127.5 = 153
    assert network.palette.pixels(torch.tensor([0, 1, 2])).tolist() == [[0] * 3, [255] * 3, [153] * 3]
    # half way between 153 and 255 is 204: the nearer colour wins, and of equally near ones the first
    levels = torch.tensor([[203] * 3, [204] * 3, [205] * 3], dtype=torch.uint8)
    assert network.palette.tokens(levels).tolist() == [2, 1, 1]
    between = [colours[1], [0.2 + 0.49 / 127.5] * 3, [-0.5] * 3, *colours[3:]]
    finer = converted(a_checkpoint(tmp_path / "finer", colours=between), tmp_path / "finer.safetensors")
    # 153.49 is shown as 153 and 63.75 as 64, but half way from the former to 255 is now 204.245
    assert finer.palette.pixels(torch.tensor([1, 2])).tolist() == [[153] * 3, [64] * 3]
    assert finer.palette.tokens(levels).tolist() == [1, 1, 0]


def broken(name, content):
    """A checkpoint with a file in the place of another."""

    def apply(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    return apply


def config_with(**changes):
    return broken("config.json", {**TINY, **changes})


def colours_with(value):
    return broken("preprocessor_config.json", {"clusters": [[0.0, 0.0, value], *clusters()[1:]]})


def weights_with(**changes):
    tensors = tensors_of(TINY)
    for name, x in changes.items():
        tensors.pop(name.replace("__", "."), None) if x is None else tensors.update({name.replace("__", "."): x})
    return broken("model.safetensors", safetensors.torch.save(tensors))


def cut(name, share):
    def apply(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return apply


def in_place_of(name, make):
    def apply(folder):
        (folder / name).unlink()
        make(folder / name)

    return apply


class Code:
    """What a hostile pickle runs where it is trusted."""

    def __reduce__(self):
        return os.mkdir, ("it-ran",)


def a_pickle(value, compressed=False):
    """Weights as torch.save writes them, in the place of the safe ones."""

    def apply(folder):
        (folder / "model.safetensors").unlink()
        path = folder / "pytorch_model.bin"
        torch.save(value, path)
        if compressed:
            with zipfile.ZipFile(path) as archive:
                entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in entries.items():
                    archive.writestr(name, content)

    return apply


def shared():
    """Tensors of the right shapes that all show the same one number."""
    return {name: torch.zeros(1).expand(x.shape) for name, x in tensors_of(TINY).items()}


HEAD, TABLE, MAP = "lm_head__weight", "transformer__wte__weight", "transformer__h__1__mlp__c_fc__weight"
FAULTS = {
    "no config": (
        in_place_of("config.json", lambda path: None),
        "config.json cannot be read (No such file or directory)",
    ),
    "no JSON": (broken("config.json", b"{'n': 1}"), "config.json cannot be read (it is not JSON"),
    "a list": (broken("config.json", [1]), "config.json holds no JSON object"),
    "nested": (broken("config.json", b"[" * 100_000), "it is nested too deeply"),
    "long": (broken("config.json", b" " * 2**21), "more than the 1,048,576 that such a file may have"),
    "a folder": (
        in_place_of("config.json", lambda path: path.mkdir()),
        "config.json cannot be read (it is not a regular",
    ),
    "a pipe": (in_place_of("model.safetensors", os.mkfifo), "it is not a regular file"),
    "another model": (
        config_with(model_type="gpt2"),
        "is not of an image-GPT: its model_type is gpt2 and not 'imagegpt'",
    ),
    "no model": (config_with(model_type=None), "its model_type is None and not 'imagegpt'"),
    "another gelu": (config_with(activation_function="gelu"), "its activation_function is gelu and not 'quick_gelu'"),
    "more colours": (config_with(vocab_size=1025), "its vocab_size is 1025 and not 513"),
    "cross-attention": (
        config_with(add_cross_attention=True),
        "asks for cross-attention, which image-GPT does not have",
    ),
    "a text": (config_with(n_layer="2"), "has n_layer=2, which is not a whole number from 1 to 65535"),
    "a truth": (config_with(n_head=True), "has n_head=True, which is not a whole number"),
    "none": (config_with(n_embd=0), "has n_embd=0, which is not a whole number"),
    "too many": (config_with(n_layer=10**30), "has n_layer=1000000000000000000000000000000, which is not"),
    "no square": (
        config_with(n_positions=65),
        "has n_positions=65, which is not the number of pixels of a square image",
    ),
    "too deep": (
        config_with(n_layer=60),
        "cannot be built here: depth=60 is not allowed: it must be less than or equal to 48",
    ),
    "heads": (config_with(n_head=3), "has n_head=3, which does not divide n_embd=8"),
    "no truth": (config_with(scale_attn_weights=1), "has scale_attn_weights=1, which is neither true nor false"),
    "epsilon": (config_with(layer_norm_epsilon=-1), "cannot be built here: layer_norm_eps=-1"),
    "no palette": (broken("preprocessor_config.json", {}), "has no clusters of 512 colours of red, green and blue"),
    "a short palette": (broken("preprocessor_config.json", {"clusters": clusters()[:9]}), "has no clusters of 512"),
    "two channels": (broken("preprocessor_config.json", {"clusters": [[0, 0]] * 512}), "has no clusters of 512"),
    "8-bit colours": (colours_with(255), "has a colour that is not three numbers between -1 and 1"),
    "a colour beyond white": (colours_with(1.01), "has a colour that is not three numbers between -1 and 1"),
    "a colour in words": (colours_with("red"), "has a colour that is not three numbers between -1 and 1"),
    "NaN for a colour": (colours_with(math.nan), "holds NaN, which is not a number"),
    "no weights": (
        in_place_of("model.safetensors", lambda path: None),
        "has neither model.safetensors nor pytorch_model.bin, whole or in parts: add them.",
    ),
    "nothing": (broken("model.safetensors", b""), "model.safetensors cannot be read"),
    "a picture": (broken("model.safetensors", b"\x89PNG" * 1000), "model.safetensors cannot be read"),
    "a header that claims everything": (broken("model.safetensors", b"\xff" * 7 + b"\x7f" + b"{}"), "cannot be read"),
    "cut in the header": (cut("model.safetensors", 0.001), "model.safetensors cannot be read"),
    "cut": (cut("model.safetensors", 0.7), "model.safetensors cannot be read"),
    "too long": (broken("model.safetensors", b"\0" * 2**25), "more than the"),
    "no head": (weights_with(**{HEAD: None}), "it lacks the head, and so predicts nothing"),
    "no table": (weights_with(**{TABLE: None}), "it lacks 1 tensors, as transformer.wte.weight"),
    "a classifier": (
        weights_with(score__weight=torch.zeros(2, 8)),
        "it holds score.weight, which config.json has no place",
    ),
    "deeper weights": (config_with(n_layer=3), "it lacks 10 tensors, as transformer.h.2.attn.c_attn.bias"),
    "shallower weights": (
        config_with(n_layer=1),
        "it holds transformer.h.1.attn.c_attn.bias, which config.json has no",
    ),
    "a transposed map": (
        weights_with(**{MAP: torch.zeros(32, 8)}),
        "has the shape (32, 8) where config.json asks for (8, 32)",
    ),
    "whole numbers": (
        weights_with(**{HEAD: torch.zeros(512, 8, dtype=torch.int64)}),
        "is not of 16- or 32-bit numbers",
    ),
    "not finite": (weights_with(**{HEAD: torch.full((512, 8), math.inf)}), "A weight is not a finite number"),
    "code": (a_pickle({"lm_head.weight": Code()}), "pytorch_model.bin cannot be read"),
    "no archive": (
        in_place_of(
            "model.safetensors", lambda path: path.with_name("pytorch_model.bin").write_bytes(pickle.dumps({}))
        ),
        "pytorch_model.bin cannot be read (File is not a zip file)",
    ),
    "a list of tensors": (a_pickle([torch.zeros(1)]), "it holds something else than named tensors"),
    "numbers without a tensor": (a_pickle({"lm_head.weight": 1}), "it holds something else than named tensors"),
    "one number for all": (a_pickle(shared()), "its tensors share their numbers"),
    "sparse": (
        a_pickle(tensors_of(TINY) | {"lm_head.weight": torch.zeros(512, 8).to_sparse()}),
        "is not of 16- or 32-bit",
    ),
    "compressed": (a_pickle(tensors_of(TINY), compressed=True), "it is compressed, as torch.save writes no file"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of sparse tensors
@pytest.mark.parametrize(("breaks", "words"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_with_a_checkpoint_is_said_in_a_sentence_and_nothing_is_written(
    breaks, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    breaks(a_checkpoint(tmp_path / "igpt"))
    assert main(["import-igpt", "igpt"]) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.count("\n") == 1 and said.out == "" and len(said.err) < 400
    assert [path.name for path in tmp_path.iterdir()] == ["igpt"]


def test_a_byte_that_is_flipped_anywhere_is_refused_or_a_weight(tmp_path):
    whole = a_checkpoint(tmp_path / "whole")
    drawn = random.Random(0)
    for trial in range(60):
        kind = ("safetensors", "bin")[trial % 2]
        folder = a_checkpoint(tmp_path / f"{trial}", kind=kind)
        path = drawn.choice([*folder.iterdir()])
        content = bytearray(path.read_bytes())
        place = drawn.randrange(min(len(content), drawn.choice([200, 3000, 10**9])))
        content[place] ^= 1 << drawn.randrange(8)
        path.write_bytes(content)
        try:
            network = hugging_face.read(folder)
        except HuggingFaceError as error:
            assert str(error).endswith(".")
        else:
            assert network.config.width == 8 or path.name == "config.json"
    assert hugging_face.read(whole).config.depth == 2


def test_the_command_writes_a_network_where_it_is_told_and_never_over_another_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_checkpoint(tmp_path / "igpt")
    assert main(["import-igpt", "igpt"]) == 0
    assert capsys.readouterr().out == (
        "igpt.safetensors: 2 blocks of width 8, 10,432 parameters. In Python, isonb.load('igpt.safetensors') gives the "
        "network.\n"
    )
    before = (tmp_path / "igpt.safetensors").read_bytes()
    assert main(["import-igpt", "igpt"]) == 2
    assert capsys.readouterr().err == "igpt.safetensors is there already: delete it or name another file.\n"
    assert (tmp_path / "igpt.safetensors").read_bytes() == before
    assert main(["import-igpt", "igpt", "network.bin"]) == 2
    assert "give it a name that ends in .safetensors" in capsys.readouterr().err
    assert main(["import-igpt", "igpt", "new/network.safetensors"]) == 0
    assert (tmp_path / "new/network.safetensors").read_bytes()
    monkeypatch.setattr(hugging_face, "read", lambda _: pytest.fail("it was read although it cannot be written"))
    assert main(["import-igpt", "igpt", "igpt/config.json/network.safetensors"]) == 2
    assert capsys.readouterr().err.startswith("igpt/config.json cannot be used (")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["import-igpt", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("nowhere is no folder: name the one that holds config.json")
