"""What the study comes to, for somebody with twenty seconds: three plain sentences, and what training adds.

Book: the first page, and chapters "Results" and "Probing".
"""

from __future__ import annotations

import html

import pandas as pd

from isonb import config, rows
from isonb.evidence import NOT_RUN, figures, metrics, statistics
from isonb.evidence.ledger import select
from isonb.evidence.picture import Picture, name_of, with_heads
from isonb.pages.verdicts import Study, listed

ASKED = (
    "Does it help a small network to have knowledge of images built in, such as which pixels are neighbours, or does "
    "it find that out by itself while it learns to fill in hidden pixels?"
)
PROTOCOLS = {"mean": "", "mean, L2": "l2_", "4x4 grid": "grid4_", "4x4 grid, L2": "grid4_l2_"}


def sentences(study: Study) -> str:
    """What was asked, what came out, and how sure that is at which scale, as HTML without a claim's number."""
    parts = {
        "What was asked.": ASKED,
        "What came out.": f"{_best_block(study.tables)} {_before_training(study.tables)}",
        "How sure, and at which scale.": _scale(study),
    }
    return "\n".join(f"<p><strong>{title}</strong> {text}</p>" for title, text in parts.items())


def _best_block(t: metrics.Tables) -> str:
    """Which network fills in best and which comes second, over the encodings and sizes that all blocks have."""
    losses = _losses(t)
    if losses.empty:
        return f"Networks of all three blocks: {NOT_RUN}."
    first = losses.idxmin(axis="columns").value_counts()
    best = first.index[0]
    second = losses.drop(columns=best).idxmin(axis="columns").value_counts()
    won = f"{first.iloc[0]} of {len(losses)}"
    named = listed([f"the {with_heads(network)} in {count}" for network, count in second.items()])
    return (
        f"The {with_heads(best)} fills in hidden pixels best in {won} combinations of encoding (how a pixel's "
        f"value is given) and size (the number of blocks)"
        f"{f'; second is {named}' if len(first) == 1 else ''}."
    )


def _losses(t: metrics.Tables) -> pd.DataFrame:
    """Mean validation loss by encoding and size, a column for each block with one head; rows that all blocks have."""
    means = select.setting_means(select.grid(t, network=select.BLOCK_ORDER))
    table = means.pivot(index=["encoding", "depth"], columns="network", values="validation_loss")
    return table.reindex(columns=list(select.BLOCK_ORDER)).dropna()


def _before_training(t: metrics.Tables) -> str:
    """What is read from the smallest networks with continuous input before and after they are trained."""
    runs = select.grid(t, encoding="continuous").dropna(subset=["gain"])
    runs = runs[runs["depth"] == runs["depth"].min()]
    if runs.empty:
        return f"Untrained networks: {NOT_RUN}."
    means = runs.groupby("network")[["untrained_accuracy", "test_accuracy"]].mean().reindex(select.NETWORKS).dropna()
    first, *others = [
        (with_heads(network), f"{before:.1%}", f"{after:.1%}") for network, (before, after) in means.T.items()
    ]
    named = "".join(f"; {network}: {before} and {after}" for network, before, after in others)
    return (
        f"Before any training of the network, a linear classifier already names the class of {first[1]} of the test "
        f"images correctly from the {first[0]}'s features, and of {first[2]} after training{named} (continuous input, "
        f"size {runs['depth'].min()})."
    )


def _scale(study: Study) -> str:
    """Seeds, images and epochs of a study beside the paper's, and what its test images can tell apart."""
    runs = select.grid(study.tables)
    if runs.empty:
        return f"No network of the study {study.name} has run; <code>{study.command}</code> runs them."
    seeds = runs.groupby(select.SETTING)["seed"].nunique().groupby("depth")
    sizes = listed([f"{_seeds(counts.min(), counts.max())} at size {size}" for size, counts in seeds])
    epochs, train = (listed(sorted(set(runs[name]))) for name in ("epochs", "data_train"))
    data = listed([rows.SOURCES[name].title for name in sorted(set(runs["data"]))])
    paper = config.paper().run
    whole, _ = rows.SOURCES[paper.data].published
    fewer = paper.epochs * whole * (1 - paper.validation_fraction) / (runs["epochs"] * runs["data_train"]).max()
    images = int(runs["data_test"].min())
    low, high = statistics.wilson(0.5, images)
    return (
        f"{len(runs)} network{'' if len(runs) == 1 else 's'} of the study {html.escape(study.title)}, with {sizes}, "
        f"trained for {epochs} epochs on {train} images of {data}: each of the paper's was shown {fewer:.3g} times as "
        f"many, repeats included. An accuracy on {images} test images is known to {50 * (high - low):.0f} points. What "
        "has a strong colour in the map below is clear at this scale; it need not hold at the paper's."
    )


def _seeds(fewest: int, most: int) -> str:
    return f"{fewest if fewest == most else f'{fewest} to {most}'} seed{'' if most == 1 else 's'}"


def map_of_signs(study: Study) -> Picture:
    """Which of two networks is ahead, setting by setting: the maps of the claims about losses and accuracies."""
    loss, accuracy = (study.rows[name]["map"] for name in ("C5", "C6"))
    return figures.signs(loss, accuracy, select.SIZES)


def what_training_adds(t: metrics.Tables) -> pd.DataFrame:
    """Accuracy untrained and trained by each protocol: one row per network and encoding, means over sizes and seeds.

    Of the grid's runs that have the untrained twin; in per cent, and the gain in points.
    """
    runs = select.grid(t).dropna(subset=["gain"])
    shown = []
    for network in select.NETWORKS:
        for encoding in select.ENCODINGS:
            of_setting = runs[(runs["network"] == network) & (runs["encoding"] == encoding)]
            if of_setting.empty:
                continue
            shown.append(
                {"network": with_heads(network), "encoding": name_of(encoding)}
                | {title: _pair(of_setting, prefix) for title, prefix in PROTOCOLS.items()}
                | {"gain": f"{100 * of_setting['gain'].mean():+.1f}", "networks": str(len(of_setting))}
            )
    return pd.DataFrame(shown or [{"network": NOT_RUN}])


def _pair(runs: pd.DataFrame, prefix: str) -> str:
    """Untrained and trained accuracy in per cent; a trained one that is missing is a dash."""
    before = runs[f"{prefix}untrained_accuracy"].mean()
    after = runs[f"{prefix}accuracy" if prefix else "test_accuracy"]
    return f"{100 * before:.1f} to {100 * after.mean():.1f}" if after.notna().all() else f"{100 * before:.1f} to -"
