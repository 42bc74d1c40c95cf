"""A checkpoint of image-GPT as Hugging Face stores it, made into a network of ours.

A folder holds what the network is (`config.json`), its weights (`named_tensors`) and the colours of its palette
(`preprocessor_config.json`). Nobody vouches for any of them: each is read as data, after a look at its size, and every
tensor is expected by its name, type and shape before a number of it is read. The scalings of attention that a
configuration may ask for become part of the queries' map, and a head that is tied to the table is written out, without
the start token, which is never predicted; so the network needs no setting for either.

Book: chapter "image-GPT".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isonb import disk
from isonb.config import ConfigError, RunConfig
from isonb.features import CHANNELS, COLOURS
from isonb.models import network as networks
from isonb.training import checkpoint, named_tensors
from isonb.training.named_tensors import HuggingFaceError, json_object, short, told_of

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
OVERHEAD = 2**24  # bytes that the weights may have besides their numbers
BODY, HEAD, TABLE = "transformer.", "lm_head.weight", "wte.weight"
UNUSED = (".attn.bias", ".attn.masked_bias")  # ends of names: of masks that older versions stored among the weights
HALF_RANGE = 127.5  # (x + 1) of these are 8-bit levels
ARCHITECTURE = {"model_type": "imagegpt", "activation_function": "quick_gelu", "vocab_size": COLOURS + 1}
Shapes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Described:
    """What `config.json` says: our settings, and how to scale the queries of each of the L layers."""

    run: RunConfig
    hidden: int
    scales: tuple[float, ...]
    is_tied: bool


def convert(folder: Path, out: Path) -> networks.IsotropicNetwork:
    """Read a checkpoint and write it as a file for `isonb.load`; return the network.

    Raises `HuggingFaceError` for a checkpoint that is damaged or not image-GPT's and for a file that is there already,
    and `CheckpointError` where none can be written; in each case nothing is written.
    """
    if out.suffix != ".safetensors":
        raise HuggingFaceError(f"{out} cannot be written: give it a name that ends in .safetensors.")
    if out.exists():
        raise HuggingFaceError(f"{out} is there already: delete it or name another file.")
    disk.require_writable(out.parent)
    network = read(folder)
    checkpoint.keep_at(out, network.config, network)
    return network


def read(folder: Path) -> networks.IsotropicNetwork:
    """The network that a folder holds, in float32. Raises `HuggingFaceError`."""
    if not folder.is_dir():
        raise HuggingFaceError(f"{folder} is no folder: name the one that holds {CONFIG} and the weights.")
    about = describe(json_object(folder / CONFIG), folder / CONFIG)
    levels_KC = palette_levels(json_object(folder / PREPROCESSOR), folder / PREPROCESSOR)
    weight_of = _weights(folder, about)  # before anything of that size is allocated
    network = _empty(about.run)
    _fill(network, about, weight_of)
    network.palette.levels_KC.copy_(torch.from_numpy(levels_KC))
    return network.eval()


def describe(config: Mapping[str, Any], path: Path) -> Described:
    """Our settings for a network that `config.json` describes; what it leaves out is as Hugging Face has it."""
    for name, needed in ARCHITECTURE.items():
        found = config.get(name, needed if name != "model_type" else None)
        if found != needed or isinstance(found, bool):
            raise HuggingFaceError(f"{path} is not of an image-GPT: its {name} is {short(found)} and not {needed!r}.")
    if config.get("add_cross_attention"):
        raise HuggingFaceError(
            f"{path} asks for cross-attention, which image-GPT does not have: choose another checkpoint."
        )
    positions, width, depth, heads = (
        _whole(config, path, name, default)
        for name, default in (("n_positions", 1024), ("n_embd", 512), ("n_layer", 24), ("n_head", 8))
    )
    hidden = 4 * width if config.get("n_inner") is None else _whole(config, path, "n_inner", 0)
    size = math.isqrt(positions)
    if size * size != positions:
        raise HuggingFaceError(
            f"{path} has n_positions={positions}, which is not the number of pixels of a square image."
        )
    if width % heads:
        raise HuggingFaceError(f"{path} has n_head={heads}, which does not divide n_embd={width}.")
    epsilon = config.get("layer_norm_epsilon", 1e-5)
    settings = {"depth": depth, "width": width, "heads": heads, "image_size": size, "mlp_ratio": hidden / width}
    settings |= {"block": "image-gpt", "encoding": "palette", "target": "palette", "objective": "autoregressive"}
    try:
        run = RunConfig(**settings, layer_norm_eps=epsilon)
    except ConfigError as error:
        raise HuggingFaceError(f"{path} describes a network that cannot be built here: {error}") from None
    by_layer, by_width, is_tied = (
        _truth(config, path, name, default)
        for name, default in (
            ("scale_attn_by_inverse_layer_idx", False), ("scale_attn_weights", True), ("tie_word_embeddings", False),
        )
    )  # fmt: skip
    plain = 1.0 if by_width else math.sqrt(width // heads)  # ours divides by that root
    scales = tuple(plain / (layer + 1 if by_layer else 1) for layer in range(depth))
    return Described(run, hidden, scales, is_tied)


def palette_levels(preprocessor: Mapping[str, Any], path: Path) -> np.ndarray:
    """The colours that `preprocessor_config.json` lists between -1 and 1, as levels from 0 to 255: K C, float32."""
    clusters = preprocessor.get("clusters")
    is_table = isinstance(clusters, list) and len(clusters) == COLOURS
    if not is_table or not all(isinstance(row, list) and len(row) == CHANNELS for row in clusters):
        raise HuggingFaceError(
            f"{path} has no clusters of {COLOURS} colours of red, green and blue: the palette is missing."
        )
    if not all(
        isinstance(x, int | float) and not isinstance(x, bool) and -1 <= x <= 1 for row in clusters for x in row
    ):
        raise HuggingFaceError(f"{path} has a colour that is not three numbers between -1 and 1.")
    return ((np.array(clusters) + 1) * HALF_RANGE).astype(np.float32)


def expected(about: Described) -> Shapes:
    """Every tensor that the weights must hold, by name, in Hugging Face's layout: maps are stored input by output."""
    d, hidden = about.run.width, about.hidden
    of_block = {"ln_1.weight": (d,), "attn.c_attn.weight": (d, 3 * d), "attn.c_attn.bias": (3 * d,)}
    of_block |= {"attn.c_proj.weight": (d, d), "attn.c_proj.bias": (d,), "ln_2.weight": (d,)}
    of_block |= {"mlp.c_fc.weight": (d, hidden), "mlp.c_fc.bias": (hidden,)}
    of_block |= {"mlp.c_proj.weight": (hidden, d), "mlp.c_proj.bias": (d,)}
    shapes: Shapes = {TABLE: (COLOURS + 1, d), "wpe.weight": (about.run.image_size**2, d), "ln_f.weight": (d,)}
    for layer in range(about.run.depth):
        shapes |= {f"h.{layer}.{name}": shape for name, shape in of_block.items()}
    return {BODY + name: shape for name, shape in shapes.items()} | ({} if about.is_tied else {HEAD: (COLOURS, d)})


def _empty(run: RunConfig) -> networks.IsotropicNetwork:
    with torch.random.fork_rng(devices=[]):  # what is drawn is replaced
        return networks.IsotropicNetwork(run)


@torch.no_grad()
def _fill(network: networks.IsotropicNetwork, about: Described, weight_of: Callable[[str], Tensor]) -> None:
    """Copy every tensor to its place, one at a time."""
    table_KD = weight_of(BODY + TABLE)
    network.encoding.embedding_CVF.copy_(table_KD[None, :COLOURS])
    network.start_D.copy_(table_KD[COLOURS])
    network.head.weight.copy_(table_KD[:COLOURS] if about.is_tied else weight_of(HEAD))
    network.position_ND.copy_(weight_of(BODY + "wpe.weight"))
    network.head_norm.weight.copy_(weight_of(BODY + "ln_f.weight"))
    for layer, (block, scale) in enumerate(zip(network.blocks, about.scales, strict=True)):
        of = f"{BODY}h.{layer}."
        block.norm1.weight.copy_(weight_of(of + "ln_1.weight"))
        block.norm2.weight.copy_(weight_of(of + "ln_2.weight"))
        maps = ((block.output, "attn.c_proj"), (block.hidden, "mlp.c_fc"), (block.project, "mlp.c_proj"))
        for linear, name in maps:
            linear.weight.copy_(weight_of(f"{of}{name}.weight").T)
            linear.bias.copy_(weight_of(f"{of}{name}.bias"))
        weights = weight_of(of + "attn.c_attn.weight").chunk(3, dim=1)
        biases = weight_of(of + "attn.c_attn.bias").chunk(3)
        for linear, weight, bias in zip((block.query, block.key, block.value), weights, biases, strict=True):
            linear.weight.copy_(weight.T)
            linear.bias.copy_(bias)
        block.query.weight.mul_(scale)
        block.query.bias.mul_(scale)
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise HuggingFaceError("A weight is not a finite number: the checkpoint is damaged.")


def _weights(folder: Path, about: Described) -> Callable[[str], Tensor]:
    """How to get each expected tensor, after all of them have been checked."""
    path, shapes = named_tensors.find(folder), expected(about)
    numbers = sum(math.prod(shape) for shape in shapes.values())
    masks = about.run.depth * (about.run.image_size**4 + 1)  # a byte or four for each that an older version stored
    stored = named_tensors.stored(path, 4 * (numbers + masks + COLOURS * about.run.width) + OVERHEAD)
    with told_of(path):
        names = _named_alike(stored, shapes)
    for name, shape in shapes.items():
        one = stored[names[name]]
        with told_of(one.path):
            if not one.is_number:
                raise disk.Unreadable(f"{name} is not of 16- or 32-bit numbers")
            if one.shape != shape:
                raise disk.Unreadable(f"{name} has the shape {one.shape} where {CONFIG} asks for {shape}")
    named_tensors.require_own_numbers(stored[name] for name in names.values())
    return lambda name: stored[names[name]].read()


def _named_alike(found: Mapping[str, Any], shapes: Shapes) -> dict[str, str]:
    """Under which name each expected tensor is stored: that of a network without a head lacks `transformer.`."""
    left = {name: name for name in found if not name.endswith(UNUSED)}
    if not any(name.startswith(BODY) for name in left):
        left = {BODY + name: stored for name, stored in left.items() if name != HEAD} | {
            name: stored for name, stored in left.items() if name == HEAD
        }
    if HEAD not in shapes:
        left.pop(HEAD, None)  # a tied head may have been stored once more
    if missing := sorted({*shapes} - {*left}):
        what = "the head, and so predicts nothing" if missing == [HEAD] else f"{len(missing)} tensors, as {missing[0]}"
        raise disk.Unreadable(f"it lacks {what}")
    if unknown := sorted({*left} - {*shapes}):
        raise disk.Unreadable(f"it holds {short(unknown[0])}, which config.json has no place for")
    return left


def _whole(config: Mapping[str, Any], path: Path, name: str, default: int) -> int:
    value = config.get(name, default)
    if type(value) is not int or not 0 < value < 2**16:
        raise HuggingFaceError(f"{path} has {name}={short(value)}, which is not a whole number from 1 to 65535.")
    return value


def _truth(config: Mapping[str, Any], path: Path, name: str, default: bool) -> bool:
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise HuggingFaceError(f"{path} has {name}={short(value)}, which is neither true nor false.")
    return value
