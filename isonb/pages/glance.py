"""What the study comes to, for somebody with twenty seconds: who leads, what training adds, and at which scale.

Book: the first page, and chapters "Results", "Probing" and "Verdict".
"""

from __future__ import annotations

import pandas as pd

from isonb import config, rows
from isonb.evidence import NOT_RUN, figures, markup, metrics, selection, statistics
from isonb.evidence.ledger import select
from isonb.evidence.picture import Picture, name_of
from isonb.pages.verdicts import Study

PROTOCOLS = {"mean": "", "mean, L2": "l2_", "4x4 grid": "grid4_", "4x4 grid, L2": "grid4_l2_"}


def leads(t: metrics.Tables) -> pd.DataFrame:
    """By how many nats of validation loss networks lead; one row per encoding, size and seed that all blocks have.

    Columns: `convolution` over the best of all others, `mixer` over the better transformer, `transformers`, both of
    them, over the mixer. Below 0 where it is behind.
    """
    runs = select.grid(t)
    loss = runs.pivot(index=["encoding", "depth", "seed"], columns="network", values="validation_loss")
    loss = loss.reindex(columns=list(select.NETWORKS)).astype(float).dropna(subset=list(select.BLOCK_ORDER))
    transformers = loss[list(select.TRANSFORMERS)]
    return pd.DataFrame({
        "convolution": loss.drop(columns="conv").min(axis="columns") - loss["conv"],
        "mixer": transformers.min(axis="columns") - loss["mixer"],
        "transformers": loss["mixer"] - transformers.max(axis="columns"),
    })  # fmt: skip


def twins(t: metrics.Tables) -> pd.DataFrame:
    """Accuracy `untrained` and `trained` of every setting, the `gain`, and by guessing (`chance`): means over seeds.

    Of the grid's runs that have the untrained twin; shares. The index has network, encoding and depth.
    """
    runs = select.grid(t).dropna(subset=["gain"])
    columns = {"untrained_accuracy": "untrained", "test_accuracy": "trained", "gain": "gain", "chance": "chance"}
    return runs.groupby(select.SETTING)[list(columns)].mean().rename(columns=columns)


def scale(t: metrics.Tables) -> dict[str, object]:
    """How large a study is, beside the paper's, for a sentence; nothing where no network of the grid has run.

    `networks`, `sizes`, `seeds`, `images`, `data` and `epochs` are what has run; `fewer` is how many times as many
    images, repeats included, each of the paper's networks was shown; `tests` is the number of test images, and
    `points` half the width of the 95 % interval of an accuracy of one half on them.
    """
    runs = select.grid(t)
    if runs.empty:
        return {}
    paper = config.paper().run
    whole, _ = rows.SOURCES[paper.data].published
    shown = paper.epochs * whole * (1 - paper.validation_fraction)
    tests = int(runs["data_test"].min())
    low, high = statistics.wilson(0.5, tests)
    seeds = runs.groupby(select.SETTING)["seed"].nunique()
    return {
        "networks": len(runs),
        "sizes": markup.listed(sorted(set(runs["depth"]))),
        "seeds": str(seeds.max()) if seeds.nunique() == 1 else f"{seeds.min()} to {seeds.max()}",
        "images": markup.listed(sorted(set(runs["data_train"]))),
        "data": markup.listed([rows.SOURCES[name].title for name in sorted(set(runs["data"]))]),
        "epochs": markup.listed(sorted(set(runs["epochs"]))),
        "fewer": shown / (runs["epochs"] * runs["data_train"]).max(),
        "tests": tests,
        "points": 50 * (high - low),
    }


def map_of_signs(study: Study) -> Picture:
    """Which of two networks is ahead, setting by setting: the maps of the claims about losses and accuracies."""
    loss, accuracy = (study.rows[name]["map"] for name in ("C5", "C6"))
    return figures.signs(loss, accuracy, select.SIZES)


def signs_of_gain(study: Study) -> pd.Series:
    """Where training clearly helps (1), clearly harms (-1) or neither (0), by the rule of the claim about it.

    One number per setting of the grid that has the untrained twin; the index has pair, encoding and size.
    """
    judged = pd.DataFrame(study.rows["C37"]["map"], columns=["pair", "encoding", "size", "sign"])
    return judged.set_index(["pair", "encoding", "size"])["sign"]


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
            numbers = {title: _pair(of_setting, prefix) for title, prefix in PROTOCOLS.items()}
            numbers |= {"gain": f"{100 * of_setting['gain'].mean():+.1f}", "networks": str(len(of_setting))}
            behind = selection.of(of_setting, t.runs)
            shown.append(
                {"network": name_of(network), "encoding": name_of(encoding)}
                | {name: markup.Link(text, behind) for name, text in numbers.items()}
            )
    return pd.DataFrame(shown or [{"network": NOT_RUN}])


def _pair(runs: pd.DataFrame, prefix: str) -> str:
    """Untrained and trained accuracy in per cent; a trained one that is missing is a dash."""
    before = runs[f"{prefix}untrained_accuracy"].mean()
    after = runs[f"{prefix}accuracy" if prefix else "test_accuracy"]
    return f"{100 * before:.1f} to {100 * after.mean():.1f}" if after.notna().all() else f"{100 * before:.1f} to -"
