"""Which cells each study holds, and in which order they are worth having.

Book: chapters "Results" and "Why do the transformers fail?".
"""

from __future__ import annotations

from typing import Any

from isonb import config, rows
from isonb.config import BLOCKS, ENCODINGS, Cell

SIZES = {"smoke": (1,), "cpu": (1, 3, 6), "paper": (1, 3, 6, 12)}
SEEDS = {"smoke": (0,), "cpu": (0, 1, 2), "paper": (0, 1, 2)}
FINETUNED = {"cpu": (1,), "paper": (1, 3)}  # sizes of the transformers like image-GPT's that are fine-tuned
FINETUNE_EPOCHS = {"cpu": 3, "paper": 20}  # as many from scratch; together about the passes of pre-training
ARM_SIZES = {"smoke": (), "cpu": (1, 3), "paper": (1, 3)}  # the arms are run where three seeds can be afforded


def cells(study: str) -> list[Cell]:
    """The cells of a study; stopped at any point, the ones before it are the most useful table.

    First every size of the grid and the arms of the smallest networks at one seed; then further seeds, small networks
    first. Raises `ConfigError` for an unknown study.
    """
    config.cell(study)  # refuses an unknown one
    first, *further = SEEDS[study]
    smallest, *larger = SIZES[study]
    parts = [(first, smallest, "grid"), (first, smallest, "arms"), *((first, size, "grid") for size in larger)]
    for size in SIZES[study]:
        parts += [(seed, size, "grid") for seed in further]
        parts += [(seed, size, "arms") for seed in SEEDS[study] if (seed, size, "arms") not in parts]
    listed = {"grid": grid(study), "arms": arms(study)}
    return [
        config.cell(study, seed=seed, **settings, **_extras(study, seed, **settings))
        for seed, size, part in parts
        for settings in listed[part]
        if settings["depth"] == size
    ]


def _extras(
    study: str, seed: int, block: str, depth: int, encoding: str = "", heads: int = 1, **changes: Any
) -> dict[str, Any]:
    """In which further ways a cell is judged: where a claim hangs on them, and they are affordable.

    Probes along the training: small networks of the grid of every encoding, and larger ones of one; transformers, of
    which image-GPT speaks, with every seed, and with the paper's numbers at all of its sizes. Transformers like
    image-GPT's, with learned tables and one head, are fine-tuned where they are small; pixels are decoded from them,
    and from the largest networks with learned tables.
    """
    if study == "smoke" or heads > 1 or set(changes) - {"objective"}:
        return {}
    extras: dict[str, Any] = {}
    if study == "cpu" and encoding and not changes and (depth == 1 or (depth == 3 and encoding == "continuous")):
        extras["probe_along"] = seed == 0 or block == "transformer"
    if study == "paper" and encoding and not changes and block == "transformer" and depth <= 6:
        extras["probe_along"] = True
    if encoding == "pix2vec" and block == "transformer" and depth in FINETUNED[study]:
        extras |= {"finetune_epochs": FINETUNE_EPOCHS[study], "probe_pixels": True}
    if encoding == "pix2vec" and depth == 6:
        extras["probe_pixels"] = True
    return extras


def grid(study: str) -> list[dict[str, Any]]:
    """The paper's grid: every network, encoding and size. At its largest size the paper has no 4-head transformer."""
    networks = [
        {"block": block.name} | ({"heads": network.heads} if network.heads > 1 else {})
        for block in rows.BLOCKS.values()
        for network in block.networks
        if not (study == "smoke" and network.heads > 1)
    ]
    return [
        {**network, "encoding": encoding, "depth": size}
        for size in SIZES[study]
        for network in networks
        for encoding in ENCODINGS
        if not (study == "cpu" and network.get("heads") == 4 and size == 6)
    ]


def arms(study: str) -> list[dict[str, Any]]:
    """The settings of the cells that change one setting of the grid each, to see what hangs on it.

    What the transformers' failure may hang on: positions and learning rate at every arm size, batch and data at the
    smallest; there also the kernel of conv, twins with another objective, and the initialisation, which says how long
    learned positions are; at every arm size the autoregressive objective; and the initialisation of the networks of
    Figure 5. A study of minutes has none.
    """
    return [arm for size in ARM_SIZES[study] for arm in _arms_of_size(study, size)]


def _arms_of_size(study: str, size: int) -> list[dict[str, Any]]:
    batch_size = 32 if study == "paper" else 128  # the other of the paper's two
    whole = config.cell(study).run
    parts = [  # trained on for more epochs: as many steps, with the same schedule, so that only the images are fewer
        {"data_fraction": share, "epochs": round(whole.epochs / share), "warmup_epochs": whole.warmup_epochs / share}
        for share in (0.25, 0.5)
    ]
    causal = [name for name, objective in rows.OBJECTIVES.items() if objective.is_causal]
    twins = [name for name in rows.OBJECTIVES if name not in (*causal, whole.objective)]
    transformer = {"block": "transformer", "depth": size}
    every_block = [{"block": block, "depth": size} for block in BLOCKS]
    tables = {"encoding": "pix2vec", "initialisation": "torch", "depth": size}
    of_each_size = [
        *({**transformer, "positions": kind, "encoding": e} for kind in ("none", "sincos") for e in ENCODINGS),
        *({**network, "learning_rate": rate} for rate in (0.003, 0.001) for network in every_block),
        *({**transformer, "encoding": "pix2vec", "objective": name} for name in causal),
    ]
    of_the_smallest = [
        *({**network, "batch_size": batch_size} for network in every_block),
        *({**network, **part} for part in parts for network in every_block),
        {"block": "conv", "depth": size, "kernel_size": 5},
        *({**network, "objective": name} for name in twins for network in every_block),
        *({**transformer, "encoding": e, "initialisation": "torch"} for e in ENCODINGS),
    ]
    of_figure_5 = [*({**tables, "block": block} for block in BLOCKS), {**tables, "block": "transformer", "heads": 4}]
    return [
        *of_each_size,
        *(of_the_smallest if size == ARM_SIZES[study][0] else ()),
        *(of_figure_5 if size == 3 else ()),
    ]
