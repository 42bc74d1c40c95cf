"""What pre-training adds to the features of a network, beside what its architecture and encoding give for nothing.

Book: the first page, and chapters "Results" and "Probing".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from isonb import rows
from isonb.config import ENCODINGS, GRID_ENCODINGS
from isonb.evidence import NOT_RUN
from isonb.evidence.picture import (
    COLOURS,
    MARKERS,
    NETWORKS,
    QUIET,
    WIDE,
    Picture,
    describe,
    for_both_widths,
    legend,
    name_of,
    say_not_run,
)

FOR, AGAINST = "#2F6DB5", "#B5482F"  # of a map's cells: what the paper says, and the opposite
PALE = 0.775  # how far towards white a cell is whose sign is not clear
CLEAR = {1: "clearly as the paper says", 0: "not clear", -1: "clearly the opposite"}
Cells = Sequence[Mapping[str, Any]]


@for_both_widths
def gains(runs: pd.DataFrame, width: float = WIDE) -> Picture:
    """Test accuracy of untrained and of trained networks, joined by a line: one row per network, encoding and size.

    `runs` has the columns of `metrics.runs`; those whose untrained twin was probed are drawn. Means over seeds.
    """
    runs = runs[runs["network"].isin(NETWORKS)].dropna(subset=["untrained_accuracy"])
    columns = ["untrained_accuracy", "test_accuracy"]
    means = 100 * runs.groupby(["network", "encoding", "depth"])[columns].mean()
    settings = [
        (network, encoding, depth)
        for network in NETWORKS
        for encoding in ENCODINGS
        for depth in sorted(set(runs["depth"]))
        if (network, encoding, depth) in means.index
    ]
    networks = [network for network in NETWORKS if network in {setting[0] for setting in settings}]
    figure = Picture(figsize=(width, 1.0 + 0.2 * max(6, len(settings) + len(networks))), layout="constrained")
    ax = figure.subplots()
    places: dict[int, int] = {}  # from the row of a setting to its size
    for network in networks:
        of_network = [setting for setting in settings if setting[0] == network]
        heading = len(places) + networks.index(network)
        for row, setting in enumerate(of_network, heading + 1):
            _draw_gain(ax, row, setting[1], *means.loc[setting])
            places[row] = setting[2]
        place = {"transform": ax.get_yaxis_transform(), "va": "center", "weight": "bold"}
        ax.text(0.01, heading, name_of(network), color=COLOURS[network], **place)
    if settings:
        ax.set_yticks(list(places), map(str, places.values()))
        ax.set(xlabel="accuracy of the probe (%)", ylabel="size")
        ax.set_ylim(len(places) + len(networks) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.axvline(100 * runs["chance"].mean(), color=QUIET, linestyle=":", linewidth=1)
        legend(figure, [encoding for encoding in ENCODINGS if encoding in set(runs["encoding"])])
    else:
        say_not_run(ax)
    figure.runs = runs
    figure.caption = f"Linear probes of untrained (hollow) and trained networks: {describe(runs)}." + (
        " Means over seeds; dotted is chance." if settings else ""
    )
    figure.alt = "Accuracy before and after pre-training. " + (
        " ".join(_in_words(setting, *means.loc[setting]) for setting in settings) or f"{NOT_RUN.capitalize()}."
    )
    return figure


def _draw_gain(ax: Axes, row: int, encoding: str, before: float, after: float) -> None:
    look = {"color": COLOURS[encoding], "marker": MARKERS[encoding]}
    ax.plot([before, after], [row, row], color=COLOURS[encoding], linewidth=1.4)
    ax.plot(before, row, mfc="white", zorder=3, **look)
    ax.plot(after, row, zorder=3, **look)


def _in_words(setting: tuple[str, str, int], before: float, after: float) -> str:
    network, encoding, depth = setting
    return f"{name_of(network)} with {name_of(encoding)}, size {depth}: {before:.1f} to {after:.1f} %."


@for_both_widths
def signs(loss: Cells, accuracy: Cells, sizes: Sequence[int], width: float = WIDE) -> Picture:
    """Which of two networks is ahead in loss and in accuracy, encoding by encoding and size by size.

    Each is the `map` of a claim's row: dictionaries of pair ("a before b"), encoding, size, mean and sign. Blue is what
    the paper says, red the opposite; a pale cell is not clear after Holm's correction.
    """
    measures = {"loss (nats)": (loss, 1), "accuracy (points)": (accuracy, 100)}
    pairs = list(dict.fromkeys(cell["pair"] for cells, _ in measures.values() for cell in cells))
    is_wide = width == WIDE
    figure = Picture(figsize=(width, 4.4 if is_wide or not pairs else 5.6), layout="constrained")
    lines, columns = len(measures), max(1, len(pairs))
    axes = figure.subplots(
        *((lines, columns) if is_wide else (columns, lines)), sharex=True, sharey=True, squeeze=False
    )
    words = []
    for of_measure, (measure, (cells, factor)) in zip(axes if is_wide else axes.T, measures.items(), strict=True):
        if is_wide:
            of_measure[0].set_ylabel(measure)
        else:
            of_measure[-1].set_xlabel(f"size\n{measure}")
        for ax, pair in zip(of_measure, pairs, strict=False):
            of_pair = {(cell["encoding"], cell["size"]): cell for cell in cells if cell["pair"] == pair}
            _draw_map(ax, of_pair, sizes, factor)
            if measure == next(iter(measures)):
                ax.set_title(_named(pair) if is_wide else rows.in_words(pair), loc="left")
            words += [
                f"{measure}, {rows.in_words(pair)}, {name_of(encoding)}, size {size}: {factor * cell['mean']:+.2f}, "
                f"{CLEAR[cell['sign']]}."
                for (encoding, size), cell in of_pair.items()
            ]
        if not pairs:
            say_not_run(of_measure[0])
    if is_wide:
        figure.supxlabel("size", fontsize="medium")
    figure.caption = (
        "By how much the first is ahead of the second, by encoding and size. Blue, +: clearly as the paper says. Red, "
        "\u2212: clearly the opposite. Pale: not clear. White: not run. Clear is what has the seeds that the rule asks "
        "for and survives Holm's correction over all cells of a measure that have them."
    )
    figure.alt = "Maps of signs, in loss and accuracy. " + (" ".join(words) or f"{NOT_RUN.capitalize()}.")
    return figure


def _named(pair: str) -> str:
    ahead, behind = pair.split(" before ")
    return f"{name_of(ahead)} before\n{name_of(behind)}"


def _draw_map(
    ax: Axes, cells: Mapping[tuple[str, int], Mapping[str, Any]], sizes: Sequence[int], factor: float
) -> None:
    for y, encoding in enumerate(GRID_ENCODINGS):
        for x, size in enumerate(sizes):
            if cell := cells.get((encoding, size)):
                ax.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, color=_colour(cell)))
                number = f"{factor * cell['mean']:+.{1 if factor > 1 else 2}f}".replace("-", "\u2212")
                ax.text(x, y, number if cell["sign"] else "", ha="center", va="center", color="white")
    ax.set(xlim=(-0.5, len(sizes) - 0.5), ylim=(len(GRID_ENCODINGS) - 0.5, -0.5))
    ax.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    ax.set_yticks(range(len(GRID_ENCODINGS)), [name_of(encoding) for encoding in GRID_ENCODINGS])
    ax.grid(False)
    ax.tick_params(length=0)


def _colour(cell: Mapping[str, Any]) -> tuple[float, ...]:
    colour = np.array(to_rgb(FOR if cell["mean"] > 0 else AGAINST))
    return tuple(colour if cell["sign"] else colour + (1 - colour) * PALE)
