"""What a whole study comes to: three sentences, the grid in numbers, and what it cannot decide.

Book: the first page, and chapters "Results" and "Verdict".
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from isonb import config, rows
from isonb.evidence import NOT_RUN, metrics, statistics
from isonb.evidence.ledger import select
from isonb.evidence.ledger.finding import NotRun, Verdict
from isonb.pages.verdicts import Study, link, listed

LARGEST = 12  # the size of the paper's supplement


def in_three_sentences(study: Study) -> str:
    """Which claims about trained networks held, which did not, and at which scale, as HTML."""
    claims = [row for row in study.rows.values() if row["seeds_asked"]]
    of = {verdict: [row for row in claims if row["verdict"] == verdict] for verdict in Verdict}
    held = f"{_which(of[Verdict.SUPPORTED])} supported, and {_which(of[Verdict.PARTLY])} partly so"
    against = _which(of[Verdict.CONTRADICTED])
    return "\n".join([
        f"<p><strong>What held.</strong> Of {len(claims)} claims about trained networks {held}.</p>",
        f"<p><strong>What did not.</strong> {against[0].upper()}{against[1:]} contradicted; "
        f"{_undetermined(of[Verdict.UNDETERMINED])}, and {_count(of[Verdict.NOT_RUN])} {NOT_RUN}.</p>",
        f"<p><strong>At which scale.</strong> {_scale(study)}</p>",
    ])  # fmt: skip


def of_largest(*studies: Study) -> Study:
    """The first of some studies that has a network of size 12, or the first of all if none has."""
    return next((study for study in studies if (study.tables.runs["depth"] == LARGEST).any()), studies[0])


def _which(claims: Sequence[Mapping[str, Any]]) -> str:
    """How many claims, and which, as HTML that a participle can follow."""
    named = "; ".join(
        f"{link(row)}, {html.escape(row['statement'].strip('. '))}" + (f", {row['under']}" if row["under"] else "")
        for row in claims
    )
    return f"{len(claims)} ({named}) {_are(len(claims))}" if claims else "none is"


def _undetermined(claims: Sequence[Mapping[str, Any]]) -> str:
    few = sum((row["seeds"] or 0) < row["seeds_asked"] for row in claims)
    why = "" if not few else " for lack of seeds" if few == len(claims) else f" ({few} of them for lack of seeds)"
    return f"{_count(claims)} undetermined{why}"


def _count(values: Sequence[object]) -> str:
    return f"{len(values) or 'none'} {_are(len(values) or 1)}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _scale(study: Study) -> str:
    """The size of a study beside that of the paper's, in a sentence."""
    runs = select.grid(study.tables)
    if runs.empty:
        return f"No network of the study {study.name} has run; <code>{study.command}</code> runs them."
    epochs, train, test = (listed(sorted(set(runs[name]))) for name in ("epochs", "data_train", "data_test"))
    networks = f"{len(runs)} network{'' if len(runs) == 1 else 's'}"
    seeds = runs.groupby(select.SETTING)["seed"].nunique().groupby("depth")
    sizes = listed([f"size {size} with {_seeds_of(counts.min(), counts.max())}" for size, counts in seeds])
    data = listed([rows.SOURCES[name].title for name in sorted(set(runs["data"]))])
    paper = config.paper().run
    source = rows.SOURCES[paper.data]
    whole, _ = source.published
    fewer = paper.epochs * whole * (1 - paper.validation_fraction) / (runs["epochs"] * runs["data_train"]).max()
    return (
        f"{networks.capitalize()} of study {study.title} ({sizes}), trained for {epochs} epochs on {train} images "
        f"of {data} and judged on {test} others; the paper has sizes {listed(select.SIZES)} and {paper.epochs} epochs "
        f"on all of {source.title}, so each of its networks was shown {fewer:.3g} times as many images."
    )


def _seeds_of(fewest: int, most: int) -> str:
    return f"{fewest if fewest == most else f'{fewest} to {most}'} seed{'' if most == 1 else 's'}"


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
    """Which verdicts about trained networks rest on an interval that no correction touches, in words."""
    verdicts = (Verdict.SUPPORTED, Verdict.PARTLY, Verdict.CONTRADICTED)
    decided = [row for row in study.rows.values() if row["seeds_asked"] and row["verdict"] in verdicts]
    alone, corrected = (
        [row["id"] for row in decided if (row["p_holm"] is None) == is_alone] for is_alone in (True, False)
    )
    return (
        f"Of {len(decided)} claims about trained networks that the study {study.title} decides in whole or in part, "
        f"{len(alone)} rest on an interval alone{_named(alone)}, {len(corrected)} on a corrected p{_named(corrected)}."
    )


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

    Validation losses in nats per masked sub-pixel, test accuracies of the chosen probe in per cent; means over the
    seeds that have run, whose number at each size stands in the last column.
    """
    runs = select.grid(t)
    means, seeds = select.setting_means(runs).set_index(select.SETTING), runs.groupby(select.SETTING)["seed"].nunique()
    shown = []
    for encoding, network in itertools.product(select.ENCODINGS, select.NETWORKS):
        cells = {size: (network, encoding, size) for size in select.SIZES}
        if any(cell in means.index for cell in cells.values()):
            shown.append(
                {"encoding": encoding, "network": network}
                | {f"loss, size {size}": _mean(means, cell, "validation_loss", ".3f") for size, cell in cells.items()}
                | {f"accuracy, size {size}": _mean(means, cell, "test_accuracy", ".1%") for size, cell in cells.items()}
                | {"seeds": ", ".join(str(seeds.get(cell, 0)) for cell in cells.values())}
            )
    return pd.DataFrame(shown or [{"network": NOT_RUN}])


def _mean(means: pd.DataFrame, cell: tuple[str, str, int], column: str, spec: str) -> str:
    return format(means.loc[cell, column], spec) if cell in means.index else NOT_RUN


def beside_no_network(t: metrics.Tables) -> str:
    """What guesses without a network cost on the same images, and which networks of `by_size` do worse, in words."""
    runs = select.grid(t)
    if runs.empty:
        return f"Networks of the grid: {NOT_RUN}."
    neighbours, marginal = (runs[f"baseline_{guess}"].mean() for guess in ("neighbour_mean", "channel_marginal"))
    means = select.setting_means(runs)
    worse = means[means["validation_loss"] > neighbours]
    sizes = worse.groupby(["encoding", "network"])["depth"].apply(list)
    named = "; ".join(f"{network} with {encoding}, size {listed(some)}" for (encoding, network), some in sizes.items())
    return (
        f"Without a network, a guess around the mean of the unmasked neighbours costs {neighbours:.3f} nats, and one "
        f"by how often each value occurs {marginal:.3f}. Of the {len(means)} losses above {_count(worse)} worse than "
        f"the neighbours{': ' if named else ''}{named}."
    )


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


def training_length(t: metrics.Tables) -> pd.DataFrame:
    """Whether the networks of one encoding and size stand apart at the end of training: one row per encoding and size.

    Of the grid, from validation losses in nats per masked sub-pixel: the epoch from which on the networks are in their
    final order, the least gap between two neighbours in it, and the largest change of a loss in the last epoch. With
    several seeds, the latest epoch, the least gap and the largest change of all.
    """
    shown = []
    curves = t.curves[t.curves["run_id"].isin(select.grid(t)["run_id"])]
    for (encoding, depth), cell in curves.groupby(["encoding", "depth"]):
        losses = cell.pivot(index=["seed", "epoch"], columns="network", values="validation_loss")
        orders = [_order(of_seed.dropna(axis="columns")) for _, of_seed in losses.groupby(level="seed")]
        if of_seeds := [order for order in orders if order]:
            epochs, gaps, changes = zip(*of_seeds, strict=True)
            shown.append({
                "networks": f"{encoding}, size {depth}",
                "compared": losses.shape[1],
                "seeds": len(of_seeds),
                "order stays from epoch": max(epochs),
                "least gap": f"{min(gaps):.3f}",
                "last epoch's largest change": f"{max(changes):.3f}",
            })  # fmt: skip
    return pd.DataFrame(shown or [{"networks": NOT_RUN}])


def is_long_enough(t: metrics.Tables) -> str:
    """In which rows of `training_length` the last epoch changed a loss by more than the least gap, in words."""
    table = training_length(t)
    if "least gap" not in table:
        return f"Networks of the grid: {NOT_RUN}."
    gaps, changes = (table[name].astype(float) for name in ("least gap", "last epoch's largest change"))
    short = list(table.loc[gaps < changes, "networks"])
    clear = len(table) - len(short)
    close = f" In {listed(short)} two lie closer, and which of these comes first is not settled." if short else ""
    return f"In {clear} of {len(table)} rows the last epoch moved no network as far as the nearest other.{close}"


def _order(losses: pd.DataFrame) -> tuple[int, float, float] | None:
    """The epoch from which on the columns are in their final order, its least gap, and the largest change at last."""
    if losses.shape[1] < 2 or len(losses) < 2:
        return None
    ranks = losses.rank(axis="columns").to_numpy()
    differs = (ranks != ranks[-1]).any(axis=1)
    first = int(np.flatnonzero(differs)[-1]) + 1 if differs.any() else 0
    final = losses.iloc[-1].sort_values().to_numpy()
    change = (losses.iloc[-1] - losses.iloc[-2]).abs().max()
    return int(losses.index.get_level_values("epoch")[first]), float(np.diff(final).min()), float(change)


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
