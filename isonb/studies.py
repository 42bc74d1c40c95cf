"""Which cells each study holds, and in which order they are worth having.

Book: chapters "Results" and "Why do the transformers fail?".
"""

from __future__ import annotations

from typing import Any

from isonb import config, rows
from isonb.config import GRID_BLOCKS, GRID_ENCODINGS, Cell

SIZES = {"smoke": (1,), "cpu": (1, 3, 6), "paper": (1, 3, 6, 12)}
SEEDS = {"smoke": (0,), "cpu": (0, 1, 2), "paper": (0, 1, 2)}
FINETUNED = {"cpu": (1,), "paper": (1, 3)}  # sizes of the transformers like image-GPT's that are fine-tuned
FINETUNE_EPOCHS = {"cpu": 3, "paper": 20}  # as many from scratch; together about the passes of pre-training
ARM_SIZES = {"smoke": (), "cpu": (1, 3), "paper": (1, 3)}  # the arms are run where three seeds can be afforded
PALETTE_SIZE = 3  # the smallest of the paper's sizes that has a middle
HALVES = ("0-4", "5-9")  # of CIFAR-10's classes: networks pre-trained on the first are probed on the second
LONGER, LONGEST = 24, 96  # epochs of the study `cpu`, whose own are 6; warm-up stays one epoch
# Widths at which a block has as many parameters as one of the other kind at width 128, and no fewer for a transformer:
# conv has 18 d^2 + 6 d, 295 680; a transformer 6 d^2 + 10 d, 99 584.
WIDTH_AS_TRANSFORMER = 74  # conv: 99 012
WIDTH_AS_CONV = 224  # transformer: 303 296


def cells(study: str) -> list[Cell]:
    """The cells of a study; stopped at any point, the ones before it are the most useful table.

    First every size of the grid and the arms of the smallest networks at one seed; then further seeds, small networks
    first; then the controls, and those with longer training; last transfers, and those with image-GPT's palette.
    Raises `ConfigError` for an unknown study.
    """
    config.cell(study)  # refuses an unknown one
    first, *further = SEEDS[study]
    smallest, *larger = SIZES[study]
    parts = [(first, smallest, "grid"), (first, smallest, "arms"), *((first, size, "grid") for size in larger)]
    for size in SIZES[study]:
        parts += [(seed, size, "grid") for seed in further]
        parts += [(seed, size, "arms") for seed in SEEDS[study] if (seed, size, "arms") not in parts]
    parts += [(first, smallest, "controls"), (first, smallest, "longer")]
    parts += [(seed, smallest, "controls") for seed in further]
    parts += [(seed, smallest, "longest") for seed in SEEDS[study]]
    parts += [(seed, smallest, "transfer") for seed in SEEDS[study]]
    parts += [(seed, PALETTE_SIZE, "palette") for seed in SEEDS[study]]
    listed = {"grid": grid(study), "arms": arms(study), "controls": controls(study)}
    listed |= {"longer": longer(study), "longest": longest(study), "palette": palette(study)}
    listed |= {"transfer": transfer(study)}
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
    and from the largest networks with learned tables. Those with image-GPT's palette are judged in all of these ways.
    """
    if encoding == "palette":
        return {"probe_along": True, "probe_pixels": True, "finetune_epochs": FINETUNE_EPOCHS[study]}
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
        if block.in_grid
        for network in block.networks
        if not (study == "smoke" and network.heads > 1)
    ]
    return [
        {**network, "encoding": encoding, "depth": size}
        for size in SIZES[study]
        for network in networks
        for encoding in GRID_ENCODINGS
        if not (study == "cpu" and network.get("heads") == 4 and size == 6)
    ]


def arms(study: str) -> list[dict[str, Any]]:
    """The settings of the cells that change one setting of the grid each, to see what hangs on it.

    What the transformers' failure may hang on: positions and learning rate at every arm size, batch and data at the
    smallest; there also the kernel of conv, twins with another objective, and the initialisation, which says how long
    learned positions are; at every arm size the autoregressive objective; and the initialisation of the networks of
    Figure 5. A study of minutes has none, neither of these nor of `controls`, `longer` and `longest`.
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
    every_block = [{"block": block, "depth": size} for block in GRID_BLOCKS]
    tables = {"encoding": "pix2vec", "initialisation": "torch", "depth": size}
    of_each_size = [
        *({**transformer, "positions": kind, "encoding": e} for kind in ("none", "sincos") for e in GRID_ENCODINGS),
        *({**network, "learning_rate": rate} for rate in (0.003, 0.001) for network in every_block),
        *({**transformer, "encoding": "pix2vec", "objective": name} for name in causal),
    ]
    of_the_smallest = [
        *({**network, "batch_size": batch_size} for network in every_block),
        *({**network, **part} for part in parts for network in every_block),
        {"block": "conv", "depth": size, "kernel_size": 5},
        *({**network, "objective": name} for name in twins for network in every_block),
        *({**transformer, "encoding": e, "initialisation": "torch"} for e in GRID_ENCODINGS),
    ]
    of_figure_5 = [
        *({**tables, "block": block} for block in GRID_BLOCKS),
        {**tables, "block": "transformer", "heads": 4},
    ]
    return [
        *of_each_size,
        *(of_the_smallest if size == ARM_SIZES[study][0] else ()),
        *(of_figure_5 if size == 3 else ()),
    ]


def controls(study: str) -> list[dict[str, Any]]:
    """Further arms of the smallest networks, for what else a difference between blocks may be due to.

    Capacity: a wider MLP in the transformer, a transformer with as many parameters as conv, and a conv with as few as a
    transformer, all with continuous input. The scale of the random Fourier features, sigma, in networks that are
    trained. Learned positions for the blocks that have none. The initialisation of Keras's own attention layer when the
    paper was written. Fixed positions with base 100 instead of 10 000: of 32 frequencies along an axis, 16 instead of
    24 turn by less than half a period over its 32 pixels, and the slowest by 0.36 instead of 0.004 radians.
    """
    if not ARM_SIZES[study]:
        return []
    depth = {"depth": ARM_SIZES[study][0]}
    conv, transformer = {"block": "conv", **depth}, {"block": "transformer", **depth}
    return [
        {**transformer, "mlp_ratio": 4.0},
        {**transformer, "width": WIDTH_AS_CONV},
        {**conv, "width": WIDTH_AS_TRANSFORMER},
        *(
            {"block": block, **depth, "encoding": "rff", "sigma": sigma}
            for sigma in (0.1, 10.0)
            for block in GRID_BLOCKS
        ),
        *({"block": block, **depth, "positions": "learned"} for block in ("conv", "mixer")),
        *({**transformer, "encoding": encoding, "initialisation": "keras-mha"} for encoding in GRID_ENCODINGS),
        {**transformer, "positions": "sincos", "positions_base": 100.0},
    ]


def longer(study: str) -> list[dict[str, Any]]:
    """Arms of the smallest networks of every kind and encoding, trained for four times as many epochs; one seed.

    Whether the order of the networks is one of the length of training, and whether the learning rate that is best
    changes with it: with continuous input a lower rate, too. The study `paper` has the paper's length and no such arms.
    """
    if study != "cpu":
        return []
    smallest = ARM_SIZES[study][0]
    every_network = [one for one in grid(study) if one["depth"] == smallest]
    return [
        *({**one, "epochs": LONGER} for one in every_network),
        *({"block": block, "depth": smallest, "epochs": LONGER, "learning_rate": 0.003} for block in GRID_BLOCKS),
    ]


def longest(study: str) -> list[dict[str, Any]]:
    """The two smallest networks whose order longer training may turn round, for 16 times as many epochs.

    Where the loss of the mixer falls below that of the transformer, with continuous input, over three seeds.
    """
    if study != "cpu":
        return []
    return [{"block": block, "depth": ARM_SIZES[study][0], "epochs": LONGEST} for block in ("mixer", "transformer")]


def transfer(study: str) -> list[dict[str, Any]]:
    """The smallest networks, pre-trained on half of the classes and probed on the others, each with its reference.

    The reference is pre-trained on the classes that both are probed on, of as many images.
    """
    if study != "cpu":
        return []
    learnt, probed = HALVES
    return [
        {"block": block, "depth": ARM_SIZES[study][0], **classes}
        for block in GRID_BLOCKS
        for classes in ({"classes": learnt, "probe_classes": probed}, {"classes": probed})
    ]


def palette(study: str) -> list[dict[str, Any]]:
    """image-GPT's transformer as it was: one of a palette's colours a pixel is read and predicted, by both objectives.

    A study of minutes has none.
    """
    if not ARM_SIZES[study]:
        return []
    network = {"block": "transformer", "depth": PALETTE_SIZE, "encoding": "palette", "target": "palette"}
    return [network, {**network, "objective": "autoregressive"}]
