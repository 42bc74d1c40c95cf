"""Loss against accuracy: one point per network, or one line per encoding that leads from size to size.

Book: the first page, and chapters "Results" and "Smoke results".
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from isonb import config, rows
from isonb.evidence import NOT_RUN, statistics
from isonb.evidence.picture import (
    COLOURS,
    DASHES,
    MARKERS,
    NATS,
    NETWORKS,
    QUIET,
    UNIT,
    WIDE,
    Picture,
    columns_for,
    describe,
    for_both_widths,
    legend,
    marks,
    name_of,
    say_not_run,
)

ORDER = {"network": NETWORKS, "encoding": config.ENCODINGS, "depth": tuple(DASHES)}
IN_NATS = [objective.name for objective in rows.OBJECTIVES.values() if objective.unit == UNIT]
LINE = 19  # points that a line of a legend takes
BAR_ALPHA = 0.35  # bars step back behind the points, of which there may be a hundred
GUESSES = {"linear filter": "baseline_linear_filter", "neighbours' mean": "baseline_neighbour_mean"}
TITLES = {"network": "by block", "encoding": "by encoding", "depth": "by size"}
ACCURACY = "accuracy of the probe (%)"


@for_both_widths
def loss_accuracy(runs: pd.DataFrame, *factors: str, width: float = WIDE) -> Picture:
    """Validation loss against the chosen probe's test accuracy: one panel per factor, which colours the points.

    `runs` has the columns of `metrics.runs`; those of the legend's networks and sizes are drawn if their loss is in
    nats per masked sub-pixel. Factors are network, encoding or depth; bars are 95 % Wilson intervals over the test
    images. A hollow marker at the same loss is what the network's untrained twin reads; upright lines are what guesses
    without a network cost. Paper: Figure 4.
    """
    columns = min(2, len(factors)) if width == WIDE else 1
    lines = -(-len(factors) // columns)
    figure = Picture(figsize=(width, 0.1 + 3.7 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for ax in panels.flat[len(factors) :]:
        ax.set_visible(False)
    runs, guesses = _in_nats(runs), guesses_of(runs)
    for ax, factor in zip(panels.flat, factors, strict=False):
        present = [key for key in ORDER[factor] if key in set(runs[factor])]
        for key in present:
            _draw_points(ax, runs[runs[factor] == key], key)
        if present:
            ncols = columns_for(present, width / columns - 0.7)
            place = {
                "loc": "lower left",
                "bbox_to_anchor": (-0.02, 1.01),
                "borderaxespad": 1.6 * bool(guesses),
                "borderpad": 0,
            }
            look = {"handlelength": 1, "handletextpad": 0.4, "columnspacing": 1.2}
            ax.legend(handles=marks(present), ncols=ncols, **look, **place)
            if len(factors) > 1:
                lines = -(-len(present) // ncols) + bool(guesses)
                ax.set_title(TITLES[factor], loc="left", pad=8 + LINE * lines)
        else:
            say_not_run(ax)
        draw_guesses(ax, guesses)
    for ax in panels[:, 0]:
        ax.set_ylabel(ACCURACY)
    for ax in panels[-1]:
        ax.set_xlabel(f"validation {NATS}")
    by = " and ".join(TITLES[factor] for factor in factors)
    has_twins = bool(runs["untrained_accuracy"].notna().any())
    tests = " and ".join(str(n) for n in sorted(set(runs["data_test"])))
    bars = f"; bars are 95 % intervals over {tests} test images" if len(runs) else ""
    twins = " Hollow: the same networks untrained, drawn at the loss of their trained twins." * has_twins
    figure.runs = runs
    figure.caption = f"Loss against accuracy {by}: {describe(runs)}{bars}.{twins}{guesses_in_words(guesses)}"
    figure.alt = f"Scatter of loss and accuracy {by}. " + (
        " ".join(map(_in_words, runs.to_dict("records"))) or f"{NOT_RUN.capitalize()}."
    )
    return figure


@for_both_widths
def loss_accuracy_by_size(runs: pd.DataFrame, width: float = WIDE) -> Picture:
    """Loss against accuracy, a panel for each network: a line leads from each encoding's smallest size to its largest.

    Lines join means over seeds, each of which is a small point; the number at a mean is its size. Paper: Figure 6.
    """
    runs, guesses = _in_nats(runs), guesses_of(runs)
    networks = [network for network in NETWORKS if network in set(runs["network"])]
    columns = min(2, len(networks) or 1)
    lines = -(-len(networks) // columns) or 1
    height = 0.7 + (2.5 if width == WIDE else 2.1) * lines
    figure = Picture(figsize=(width, height), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    words = []
    for ax, network in zip(panels.flat, networks, strict=False):
        for encoding, of_encoding in runs[runs["network"] == network].groupby("encoding"):
            words.append(_draw_sizes(ax, network, encoding, of_encoding))
        ax.set_title(name_of(network), loc="left")
        ax.margins(0.12)
    for ax in panels.flat[len(networks) :]:
        say_not_run(ax)
    for ax in panels.flat:
        draw_guesses(ax, guesses, is_named=False)
    for name, loss in guesses.items():  # named once, in the panel of the block that has learned more than they know
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "bottom", "ha": "right"}
        panels.flat[0].annotate(name, (loss, 0.02), (-2, 0), rotation=90, color=QUIET, **place)
    figure.supxlabel(f"validation {NATS}", fontsize="medium")
    figure.supylabel(ACCURACY, fontsize="medium")
    legend(figure, [encoding for encoding in config.ENCODINGS if encoding in set(runs["encoding"])])
    figure.runs = runs
    figure.caption = (
        f"Loss against accuracy from size to size: {describe(runs)}. Numbers are sizes, at the mean over seeds; small "
        f"points are single networks.{guesses_in_words(guesses)}"
    )
    figure.alt = "Loss and accuracy of networks by size. " + (" ".join(words) or f"{NOT_RUN.capitalize()}.")
    return figure


def _in_nats(runs: pd.DataFrame) -> pd.DataFrame:
    """Those of the legend's networks, encodings and sizes whose losses share an axis."""
    runs = runs[runs["objective"].isin(IN_NATS) & (runs["target"] == "values")]
    for factor, keys in ORDER.items():
        runs = runs[runs[factor].isin(keys)]
    return runs


def guesses_of(runs: pd.DataFrame) -> dict[str, float]:
    """The mean costs of the two guesses that look around a pixel, by their names, of those runs that have them."""
    return {name: loss for name, column in GUESSES.items() if pd.notna(loss := _in_nats(runs)[column].mean())}


def _draw_points(ax: Axes, runs: pd.DataFrame, key: str | int) -> None:
    """Networks of one colour with their intervals, and hollow their untrained twins."""
    losses, accuracies = runs["validation_loss"], runs["test_accuracy"]
    ends = [statistics.wilson(*pair) for pair in zip(accuracies, runs["data_test"], strict=True)]
    reach = 100 * np.abs(np.transpose(ends) - accuracies.to_numpy())
    look = {"color": COLOURS[key], "elinewidth": 0.8, "markersize": 7}
    for bar in ax.errorbar(losses, 100 * accuracies, reach, fmt=MARKERS[key], **look)[2]:
        bar.set_alpha(BAR_ALPHA)
    hollow = {"mfc": "none", "mec": COLOURS[key], "mew": 1, "markersize": 6, "zorder": 1}
    ax.plot(losses, 100 * runs["untrained_accuracy"], MARKERS[key], **hollow)


def _draw_sizes(ax: Axes, network: str, encoding: str, runs: pd.DataFrame) -> str:
    """A line through the means of an encoding's sizes, with the sizes as numbers; returns it in words."""
    colour = COLOURS[encoding]
    ax.plot(runs["validation_loss"], 100 * runs["test_accuracy"], MARKERS[encoding], ms=3.5, alpha=0.45, color=colour)
    means = runs.groupby("depth")[["validation_loss", "test_accuracy"]].mean()
    means["test_accuracy"] *= 100
    ax.plot(means["validation_loss"], means["test_accuracy"], "-", marker=MARKERS[encoding], color=colour)
    for size, (loss, accuracy) in means.iterrows():
        ax.annotate(
            str(size),
            (loss, accuracy),
            (5, 3),
            textcoords="offset points",
            color=colour,
            weight="bold",
            annotation_clip=True,
        )
    path = ", ".join(f"size {size} {loss:.2f} nats and {accuracy:.1f} %" for size, (loss, accuracy) in means.iterrows())
    return f"{name_of(network)} with {name_of(encoding)}: {path}."


def draw_guesses(ax: Axes, guesses: dict[str, float], is_named: bool = True) -> None:
    """Upright lines at what guesses without a network cost, with their names above: the lower one's to the left."""
    left, right = ax.get_xlim()
    for side, (name, loss) in zip(("right", "left"), sorted(guesses.items(), key=lambda guess: guess[1]), strict=False):
        ax.axvline(loss, color=QUIET, linewidth=1, linestyle=":", zorder=0)
        if is_named:
            place = (loss - left) / (right - left)
            ha = "left" if place < 0.25 else "right" if place > 0.75 else side  # inside the figure
            look = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "bottom", "ha": ha}
            ax.annotate(name, (loss, 1), (0, 2), color=QUIET, **look)


def guesses_in_words(guesses: dict[str, float]) -> str:
    """What a caption says of those lines."""
    return f" Dotted: {', '.join(f'{name} {loss:.3f}' for name, loss in guesses.items())}." * bool(guesses)


def _in_words(point: dict[str, object]) -> str:
    return (
        f"{name_of(point['network'])} with {name_of(point['encoding'])}, size {point['depth']}: "
        f"{point['validation_loss']:.2f} nats, {100 * point['test_accuracy']:.1f} %{_twin_in_words(point)}."
    )


def _twin_in_words(point: dict[str, object]) -> str:
    twin = point["untrained_accuracy"]
    return f", untrained {100 * twin:.1f} %" if pd.notna(twin) else ""
