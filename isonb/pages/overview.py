"""What a whole study comes to: the grid in numbers, its scale, and what it cannot decide.

Book: the first page, and chapters "Results" and "Verdict".
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from isonb.evidence import NOT_RUN, markup, metrics, statistics
from isonb.evidence.figures.scatter import GUESSES
from isonb.evidence.ledger import select
from isonb.evidence.ledger.finding import NotRun, Verdict
from isonb.pages.verdicts import Study, listed

LARGEST = 12  # the size of the paper's supplement


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
                    pairs.append({
                        "networks": f"{better} and {worse}, {encoding}, size {depth}",
                        "difference": f"{100 * value:+.1f}",
                        "95 % interval": f"{100 * low:+.1f} to {100 * high:+.1f}",
                    })  # fmt: skip
                    p_values.append(statistics.mcnemar(a_B, b_B))
        if pairs:
            break
    table = pd.DataFrame(pairs or [{"networks": NOT_RUN}])
    return table.assign(p=[f"{p:.2g}" for p in statistics.holm(p_values)]) if pairs else table


def undecided(study: Study) -> pd.DataFrame:
    """One row per undetermined claim about trained networks: what it has, and how much would decide it.

    Seeds and images are the numbers with which the present mean and spread would give a verdict four times out of five.
    """
    claims = [
        {
            "claim": f"{row['id']}: {row['statement'].strip('. ')}",
            "value": "" if row["value"] is None else f"{row['value']:.3g} ({row['unit']})",
            "seeds": f"{row['seeds'] or 0} of {row['seeds_asked']}",
            "seeds that would do": _seeds(row),
            "test images that would do": _images(row, study.tables.runs["data_test"].max()),
        }
        for row in study.rows.values()
        if row["seeds_asked"] and row["verdict"] == Verdict.UNDETERMINED
    ]
    return pd.DataFrame(claims or [{"claim": "none"}])


def by_interval_alone(study: Study) -> str:
    """Which verdicts about trained networks rest on intervals that are not corrected over the ledger, in words."""
    verdicts = (Verdict.SUPPORTED, Verdict.PARTLY, Verdict.CONTRADICTED)
    decided = [row for row in study.rows.values() if row["seeds_asked"] and row["verdict"] in verdicts]
    alone, corrected = (
        [row["id"] for row in decided if (row["p_holm"] is None) == is_alone] for is_alone in (True, False)
    )
    title = markup.escaped(study.title)
    return (
        f"Of {len(decided)} claims about trained networks that the study {title} decides in whole or in part, "
        f"{len(alone)} rest on intervals that are not corrected over the ledger{_named(alone)}, {len(corrected)} on a "
        f"corrected p{_named(corrected)}."
    )


def _count(values: Sequence[object]) -> str:
    return f"{len(values) or 'none'} {'is' if len(values) < 2 else 'are'}"


def _named(ids: Sequence[str]) -> str:
    return f" ({listed(ids)})" if ids else ""


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
    shown = []
    for encoding, network in itertools.product(select.ENCODINGS, select.NETWORKS):
        cells = {size: (network, encoding, size) for size in select.SIZES}
        if any(cell in means.index for cell in cells.values()):
            shown.append(
                {"encoding": encoding, "network": network}
                | {f"loss, size {size}": _mean(means, cell, "validation_loss", ".3f") for size, cell in cells.items()}
                | {f"accuracy, size {size}": _gain(means, cell) for size, cell in cells.items()}
                | {"seeds": ", ".join(str(seeds.get(cell, 0)) for cell in cells.values())}
            )
    for guess, column in GUESSES.items():
        if shown and pd.notna(loss := runs[column].mean()):
            shown.append(
                {"encoding": "none", "network": guess} | {f"loss, size {s}": f"{loss:.3f}" for s in select.SIZES}
            )
    return pd.DataFrame(shown or [{"network": NOT_RUN}]).fillna("")


def _mean(means: pd.DataFrame, cell: tuple[str, str, int], column: str, spec: str) -> str:
    return format(means.loc[cell, column], spec) if cell in means.index else NOT_RUN


def _gain(means: pd.DataFrame, cell: tuple[str, str, int]) -> str:
    """Accuracy untrained and trained; the latter alone where the untrained twin has not been probed."""
    if cell not in means.index:
        return NOT_RUN
    before, after = means.loc[cell, ["untrained_accuracy", "test_accuracy"]]
    return f"{after:.1%}" if pd.isna(before) else f"{before:.1%} to {after:.1%}"


def beside_no_network(t: metrics.Tables) -> str:
    """What guesses without a network cost on the same images, and how the losses of `by_size` compare, in words.

    Named are the networks that do better than the linear filter, and those that do worse than the neighbours' mean.
    """
    runs = select.grid(t)
    if runs.empty:
        return f"Networks of the grid: {NOT_RUN}."
    guesses = ("neighbour_mean", "channel_marginal", "linear_filter")
    neighbours, marginal, linear = (runs[f"baseline_{guess}"].mean() for guess in guesses)
    costs = [
        f"a guess around the mean of the unmasked neighbours costs {neighbours:.3f} nats",
        f"one by how often each value occurs {marginal:.3f}",
    ]
    means = select.setting_means(runs)
    worse, better = means[means["validation_loss"] > neighbours], means[means["validation_loss"] < linear]
    compared = f"{_count(worse)} worse than the neighbours{_settings(worse)}"
    if pd.notna(linear):  # records of earlier versions lack it
        costs.append(f"one around a linear map of the 5x5 window {linear:.3f}")
        compared = f"{_count(better)} better than the linear map{_settings(better)}; {compared}"
    return f"Without a network, {listed(costs)}. Of the {len(means)} losses above {compared}."


def _settings(means: pd.DataFrame) -> str:
    """A colon and the settings of some rows, or nothing."""
    sizes = means.groupby(["encoding", "network"])["depth"].apply(list)
    named = "; ".join(f"{network} with {encoding}, size {listed(some)}" for (encoding, network), some in sizes.items())
    return named and f": {named}"


def what_size_changes(t: metrics.Tables) -> str:
    """In how many rows of `by_size` loss falls and accuracy rises from the smallest to the largest size, in words."""
    runs, (smallest, *_, largest) = select.grid(t), select.SIZES
    try:
        loss, accuracy = (
            select.gap(select.differences(runs, column, "depth", largest, smallest)).settings
            for column in ("validation_loss", "test_accuracy")
        )
    except NotRun:
        return f"Networks of sizes {smallest} and {largest}: {NOT_RUN}."
    return (
        f"From size {smallest} to size {largest}, over networks that have both with the same seeds: the loss falls "
        f"in {(loss < 0).sum()} of {len(loss)} rows, the accuracy rises in {(accuracy > 0).sum()}."
    )


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
        f"{listed([f'{count:,}' for count in sorted(set(seen))])} images, counting every epoch. Their training "
        f"took {hours:.1f} hours; another epoch of all of them would take {another:.1f} more."
    )
