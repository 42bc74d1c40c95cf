"""What a whole study comes to: the grid in numbers, its scale, and what it cannot decide.

Book: the first page, and chapters "Results" and "Verdict".
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from isonb import features
from isonb.evidence import NOT_RUN, claims, markup, metrics, selection, statistics
from isonb.evidence.figures.scatter import GUESSES
from isonb.evidence.ledger import changes, select
from isonb.evidence.ledger.finding import NotRun, Verdict
from isonb.evidence.picture import name_of
from isonb.pages import verdicts
from isonb.pages.verdicts import Study

LARGEST = 12  # the size of the paper's supplement
APART = (96, 192)  # levels between pixel values


def of_largest(*studies: Study) -> Study:
    """The first of some studies that has a network of size 12, or the first of all if none has."""
    return next((study for study in studies if (study.tables.runs["depth"] == LARGEST).any()), studies[0])


def on_the_same_images(study: Study) -> pd.DataFrame:
    """One row per pair of networks of neighbouring blocks that share all else and were tested on the same images.

    Differences of accuracy in points with a bootstrap interval over the images; exact McNemar p with Holm's correction
    over the table. All are of the lowest seed that has such pairs: this is about those networks, not about their kinds.
    """
    runs = select.grid(study.tables, network=select.BLOCK_ORDER)
    ids = runs.set_index(["network", "encoding", "depth", "seed"]).sort_index()
    pairs, p_values = [], []
    for seed in sorted(set(runs["seed"])):
        for better, worse in itertools.pairwise(select.BLOCK_ORDER):
            for depth, encoding in itertools.product(select.SIZES, select.ENCODINGS):
                keys = [(network, encoding, depth, seed) for network in (better, worse)]
                if all(key in ids.index for key in keys):
                    a_B, b_B = (select.chosen_correct_B(study.tables, ids.loc[key]) > 0 for key in keys)
                    value, (low, high) = statistics.paired_difference(a_B, b_B)
                    behind = selection.of(runs[runs["run_id"].isin(ids.loc[keys, "run_id"])], study.tables.runs)
                    pairs.append({
                        "networks": f"{name_of(better)} and {name_of(worse)}, {name_of(encoding)}, size {depth}",
                        "difference": markup.Link(f"{100 * value:+.1f}", behind),
                        "95 % interval": markup.Link(f"{100 * low:+.1f} to {100 * high:+.1f}", behind),
                    })  # fmt: skip
                    p_values.append(statistics.mcnemar(a_B, b_B))
        if pairs:
            break
    table = pd.DataFrame(pairs or [{"networks": NOT_RUN}])
    return table.assign(p=[f"{p:.2g}" for p in statistics.holm(p_values)]) if pairs else table


def learned_tables(t: metrics.Tables, depth: int = 3) -> pd.DataFrame:
    """What the learned tables of Figure 5 keep of distance, red channel: one row per network, means over seeds.

    `kept` is the rank correlation of similarity with closeness; the others are mean similarities of values that lie so
    many levels apart.
    """
    runs = select.grid(t, encoding="pix2vec", depth=depth).set_index("run_id")
    kept = t.learned[(t.learned["stage"] == "after") & (t.learned["channel"] == 0)].set_index("run_id")["kept"]
    rows = []
    for run_id, network in runs["network"].items():
        profile = features.similarity_profile(features.unpack_similarity(t.arrays[run_id]["similarity_P"]))
        rows.append({"network": network, "kept": kept[run_id], **{levels: profile[levels] for levels in APART}})
    return pd.DataFrame(rows, columns=["network", "kept", *APART]).groupby("network").mean()


def undecided(study: Study) -> pd.DataFrame:
    """One row per undetermined claim about trained networks: what it has, and how much would decide it.

    Seeds and images are the numbers with which the present mean and spread would give a verdict four times out of five.
    """
    shown = [
        {
            "claim": f"{row['id']}: {row['statement'].strip('. ')}{_mark(row['id'])}",
            "value": "" if row["value"] is None else f"{row['value']:.3g} ({row['unit']})",
            "seeds": f"{row['seeds'] or 0} of {row['seeds_asked']}",
            "seeds that would do": _seeds(row),
            "test images that would do": _images(row, study.tables.runs["data_test"].max()),
        }
        for row in study.rows.values()
        if row["seeds_asked"] and row["verdict"] == Verdict.UNDETERMINED
    ]
    return pd.DataFrame(shown or [{"claim": "none"}])


def by_interval_alone(study: Study) -> str:
    """Which verdicts about trained networks rest on intervals that are not corrected over the ledger, in Markdown."""
    clear = (Verdict.SUPPORTED, Verdict.PARTLY, Verdict.CONTRADICTED)
    decided = [row for row in study.rows.values() if row["seeds_asked"] and row["verdict"] in clear]
    alone, corrected = (
        [verdicts.link(row) for row in decided if (row["p_holm"] is None) == is_alone] for is_alone in (True, False)
    )
    title = markup.escaped(study.title)
    return (
        f"Of {len(decided)} claims about trained networks that the study {title} decides in whole or in part, "
        f"{len(alone)} rest on intervals that are not corrected over the ledger{_named(alone)}, {len(corrected)} on a "
        f"corrected p{_named(corrected)}."
    )


def _mark(name: str) -> str:
    mark = changes.mark(claims.BY_ID[name])
    return f" ({mark})" if mark else ""


def _named(links: Sequence[str]) -> str:
    return f" ({markup.listed(links)})" if links else ""


def _seeds(row: Mapping[str, Any]) -> str:
    """The number of seeds that a verdict would take, as far as those at hand can tell."""
    if row["seeds_needed"] is not None:
        return str(row["seeds_needed"])
    return f"{row['seeds_asked']} or more" if (row["seeds"] or 0) < row["seeds_asked"] else "seeds alone will not"


def _images(row: Mapping[str, Any], at_hand: int) -> str:
    """The number of test images that would tell the networks at hand apart, where the claim is about such a gap."""
    if row["images_needed"] is None:
        return "-"
    return f"{row['images_needed']:,}" if row["images_needed"] > at_hand else "those at hand"


def by_size(t: metrics.Tables) -> pd.DataFrame:
    """The grid in numbers: one row per encoding and network, with its loss and accuracy at every size.

    Validation losses in nats per masked sub-pixel, test accuracies of the chosen probe in per cent, of the untrained
    twin first; means over the seeds that have run, whose number at each size stands in the last column. The last rows
    are guesses without a network.
    """
    runs = select.grid(t)
    means = select.setting_means(runs, "untrained_accuracy").set_index(select.SETTING)
    seeds = runs.groupby(select.SETTING)["seed"].nunique()
    behind = {cell: selection.of(of_cell, t.runs) for cell, of_cell in runs.groupby(select.SETTING)}
    shown = []
    for encoding, network in itertools.product(select.ENCODINGS, select.NETWORKS):
        cells = {size: (network, encoding, size) for size in select.SIZES}
        if any(cell in means.index for cell in cells.values()):
            shown.append(
                {"encoding": name_of(encoding), "network": name_of(network)}
                | {f"loss, size {size}": _linked(_loss(means, cell), behind.get(cell)) for size, cell in cells.items()}
                | {
                    f"accuracy, size {size}": _linked(_gain(means, cell), behind.get(cell))
                    for size, cell in cells.items()
                }
                | {"seeds": ", ".join(str(seeds.get(cell, 0)) for cell in cells.values())}
            )
    for guess, column in GUESSES.items():
        if shown and pd.notna(loss := runs[column].mean()):
            shown.append(
                {"encoding": "none", "network": guess} | {f"loss, size {s}": f"{loss:.3f}" for s in select.SIZES}
            )
    return pd.DataFrame(shown or [{"network": NOT_RUN}]).fillna("")


def _linked(text: str, address: str | None) -> str | markup.Link:
    return text if address is None else markup.Link(text, address)


def _loss(means: pd.DataFrame, cell: tuple[str, str, int]) -> str:
    return f"{means.loc[cell, 'validation_loss']:.3f}" if cell in means.index else NOT_RUN


def _gain(means: pd.DataFrame, cell: tuple[str, str, int]) -> str:
    """Accuracy untrained and trained; the latter alone where the untrained twin has not been probed."""
    if cell not in means.index:
        return NOT_RUN
    before, after = means.loc[cell, ["untrained_accuracy", "test_accuracy"]]
    return f"{after:.1%}" if pd.isna(before) else f"{before:.1%} to {after:.1%}"


def beside_no_network(t: metrics.Tables) -> pd.DataFrame:
    """The `loss` of every setting of the grid beside that of guesses without a network, `neighbours` and `linear`.

    Nats per masked sub-pixel, means over seeds. The index has network, encoding and depth.
    """
    runs = select.grid(t)
    losses = select.setting_means(runs).set_index(select.SETTING)[["validation_loss"]]
    guesses = {"neighbours": runs["baseline_neighbour_mean"].mean(), "linear": runs["baseline_linear_filter"].mean()}
    return losses.rename(columns={"validation_loss": "loss"}).assign(**guesses)


def what_size_changes(t: metrics.Tables) -> pd.DataFrame:
    """By how much `loss` and `accuracy` of the largest size exceed those of the smallest, by network and encoding.

    Nats per masked sub-pixel and shares, over networks that have both sizes with the same seeds.
    """
    runs, (smallest, *_, largest) = select.grid(t), select.SIZES
    columns = {"loss": "validation_loss", "accuracy": "test_accuracy"}
    try:
        changes = {
            name: select.gap(select.differences(runs, column, "depth", largest, smallest)).settings
            for name, column in columns.items()
        }
    except NotRun:
        changes = {
            name: pd.Series(index=pd.MultiIndex.from_arrays([[], []], names=select.SETTING[:2])) for name in columns
        }
    return pd.DataFrame(changes)


def by_encoding(t: metrics.Tables, network: str, column: str) -> pd.DataFrame:
    """A column's mean over the seeds for a network of the grid: one row per size, one column per encoding."""
    means = select.grid(t, network=network).groupby(["depth", "encoding"])[column].mean().astype(float)
    return means.unstack().reindex(columns=list(select.ENCODINGS)).dropna()


def after_an_epoch(t: metrics.Tables) -> pd.DataFrame:
    """Validation loss of the smallest networks after an epoch: one row per encoding, one column per network."""
    curves = t.curves[(t.curves["arm"] == metrics.MAIN) & (t.curves["depth"] == 1) & (t.curves["epoch"] == 1)]
    curves = curves[curves["encoding"].isin(select.ENCODINGS)]
    means = curves.groupby(["encoding", "network"])["validation_loss"].mean().astype(float)
    return means.unstack().reindex(columns=list(select.NETWORKS)).dropna()


def cost_of_training(t: metrics.Tables) -> str:
    """How many images each network of the grid was shown, the hours it took, and those of one more epoch, in words."""
    runs = select.grid(t)
    if runs.empty:
        return f"Networks of the grid: {NOT_RUN}."
    seen = t.curves[t.curves["run_id"].isin(runs["run_id"])].groupby("run_id")["images"].sum()
    hours = runs["training_seconds"].sum() / 3600
    another = (runs["training_seconds"] / runs["epochs"]).sum() / 3600
    return (
        f"Each of the {len(runs)} networks of the grid at hand was shown "
        f"{markup.listed([f'{count:,}' for count in sorted(set(seen))])} images, counting every epoch. Their training "
        f"took {hours:.1f} hours; another epoch of all of them would take {another:.1f} more."
    )
