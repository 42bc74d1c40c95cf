"""Which cells each profile's study holds, and in which order they are worth having.

Book: chapters "Results" and "Why do the transformers fail?".
"""

from __future__ import annotations

from typing import Any

from isonb import config
from isonb.config import BLOCKS, ENCODINGS, Cell

SIZES = {"smoke": (1,), "cpu": (1, 3, 6), "paper": (1, 3, 6, 12)}
SEEDS = {"smoke": (0,), "cpu": (0, 1, 2), "paper": (0, 1, 2)}
FINETUNED = {"cpu": (1,), "paper": (1, 3)}  # sizes of the transformers like image-GPT's that are fine-tuned
FINETUNE_EPOCHS = {"cpu": 3, "paper": 20}  # as many from scratch; together about the passes of pre-training
ARM_SIZES = {"smoke": (), "cpu": (1, 3), "paper": (1, 3)}  # the arms are run where three seeds can be afforded


def cells(profile: str) -> list[Cell]:
    """The cells of a profile's study; stopped at any point, the ones before it are the most useful table.

    First every size of the grid and the arms of the smallest networks at one seed; then further seeds, small networks
    first. Raises `ConfigError` for an unknown profile.
    """
    config.profile(profile)  # refuses an unknown one
    first, *further = SEEDS[profile]
    smallest, *larger = SIZES[profile]
    parts = [(first, smallest, "grid"), (first, smallest, "arms"), *((first, size, "grid") for size in larger)]
    for size in SIZES[profile]:
        parts += [(seed, size, "grid") for seed in further]
        parts += [(seed, size, "arms") for seed in SEEDS[profile] if (seed, size, "arms") not in parts]
    listed = {"grid": grid(profile), "arms": arms(profile)}
    return [
        config.profile(profile, seed=seed, **settings, **_extras(profile, seed, **settings))
        for seed, size, part in parts
        for settings in listed[part]
        if settings["depth"] == size
    ]


def _extras(
    profile: str, seed: int, block: str, depth: int, encoding: str = "", heads: int = 1, **changes: Any
) -> dict[str, Any]:
    """In which further ways a cell is judged: where a claim hangs on them, and they are affordable.

    Probes along the training: small networks of the grid of every encoding, and larger ones of one; transformers, of
    which image-GPT speaks, with every seed, and with the paper's numbers at all of its sizes. Transformers like
    image-GPT's, with learned tables and one head, are fine-tuned where they are small; pixels are decoded from them,
    and from the largest networks with learned tables.
    """
    if profile == "smoke" or heads > 1 or set(changes) - {"objective"}:
        return {}
    extras: dict[str, Any] = {}
    if profile == "cpu" and encoding and not changes and (depth == 1 or (depth == 3 and encoding == "continuous")):
        extras["probe_along"] = seed == 0 or block == "transformer"
    if profile == "paper" and encoding and not changes and block == "transformer" and depth <= 6:
        extras["probe_along"] = True
    if encoding == "pix2vec" and block == "transformer" and depth in FINETUNED[profile]:
        extras |= {"finetune_epochs": FINETUNE_EPOCHS[profile], "probe_pixels": True}
    if encoding == "pix2vec" and depth == 6:
        extras["probe_pixels"] = True
    return extras


def grid(profile: str) -> list[dict[str, Any]]:
    """The paper's grid: every network, encoding and size. At its largest size the paper has no 4-head transformer."""
    networks = [{"block": block} for block in BLOCKS] + [{"block": "transformer", "heads": 4}] * (profile != "smoke")
    return [
        {**network, "encoding": encoding, "depth": size}
        for size in SIZES[profile]
        for network in networks
        for encoding in ENCODINGS
        if not (profile == "cpu" and network.get("heads") == 4 and size == 6)
    ]


def arms(profile: str) -> list[dict[str, Any]]:
    """The settings of the cells that change one setting of the grid each, to see what hangs on it.

    What the transformers' failure may hang on: positions and learning rate at every arm size, batch and data at the
    smallest; there also the kernel of conv, twins that regress values, and the initialisation, which says how long
    learned positions are; at every arm size image-GPT's other objective; and the initialisation of the networks of
    Figure 5. A profile of minutes has none.
    """
    return [arm for size in ARM_SIZES[profile] for arm in _arms_of_size(profile, size)]


def _arms_of_size(profile: str, size: int) -> list[dict[str, Any]]:
    batch_size = 32 if profile == "paper" else 128  # the other of the paper's two
    whole = config.profile(profile).run
    parts = [  # passed over more often: as many steps, with the same schedule, so that only the images are fewer
        {"data_fraction": share, "epochs": round(whole.epochs / share), "warmup_epochs": whole.warmup_epochs / share}
        for share in (0.25, 0.5)
    ]
    transformer = {"block": "transformer", "depth": size}
    every_block = [{"block": block, "depth": size} for block in BLOCKS]
    tables = {"encoding": "pix2vec", "initialisation": "torch", "depth": size}
    of_each_size = [
        *({**transformer, "positions": kind, "encoding": e} for kind in ("none", "sincos") for e in ENCODINGS),
        *({**network, "learning_rate": rate} for rate in (0.003, 0.001) for network in every_block),
        {**transformer, "encoding": "pix2vec", "objective": "autoregressive"},
    ]
    of_the_smallest = [
        *({**network, "batch_size": batch_size} for network in every_block),
        *({**network, **part} for part in parts for network in every_block),
        {"block": "conv", "depth": size, "kernel_size": 5},
        *({**network, "objective": "mse"} for network in every_block),
        *({**transformer, "encoding": e, "initialisation": "torch"} for e in ENCODINGS),
    ]
    of_figure_5 = [*({**tables, "block": block} for block in BLOCKS), {**tables, "block": "transformer", "heads": 4}]
    return [
        *of_each_size,
        *(of_the_smallest if size == ARM_SIZES[profile][0] else ()),
        *(of_figure_5 if size == 3 else ()),
    ]
