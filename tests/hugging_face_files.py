"""Checkpoints of image-GPT in the layout in which Hugging Face's library stores them, small and random."""

import json

import numpy as np
import safetensors.torch
import torch

TINY = {"model_type": "imagegpt", "vocab_size": 513, "n_positions": 64, "n_embd": 8, "n_layer": 2, "n_head": 2}


def tensors_of(config, seed=0):
    """Random weights and biases in the library's layout, which stores maps input by output."""
    d, hidden = config["n_embd"], config.get("n_inner") or 4 * config["n_embd"]
    shapes = {"wte.weight": (513, d), "wpe.weight": (config["n_positions"], d), "ln_f.weight": (d,)}
    for layer in range(config["n_layer"]):
        of_block = {"ln_1.weight": (d,), "ln_2.weight": (d,)}
        for name, (inputs, outputs) in {
            "attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "mlp.c_fc": (d, hidden), "mlp.c_proj": (hidden, d)
        }.items():  # fmt: skip
            of_block |= {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}
        shapes |= {f"h.{layer}.{name}": shape for name, shape in of_block.items()}
    shapes = {f"transformer.{name}": shape for name, shape in shapes.items()}
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (512, d)
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def clusters(seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (512, 3)).tolist()


def a_checkpoint(folder, tensors=None, kind="safetensors", colours=None, **changes):
    folder.mkdir()
    config = {**TINY, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({"clusters": colours or clusters()}))
    tensors = tensors_of(config) if tensors is None else tensors
    if kind == "safetensors":
        safetensors.torch.save_file(tensors, folder / "model.safetensors")
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    return folder
