"""How alike pixel values look to an encoding, fixed or learned, and what sigma does to trained networks.

Book: chapters "Encodings" and "Results".
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from isonb import features
from isonb.evidence import NOT_RUN
from isonb.evidence.figures.scatter import ACCURACY, guesses_in_words, guesses_of
from isonb.evidence.ledger.pairing import at_each_sigma
from isonb.evidence.ledger.select import BLOCK_ORDER, NETWORKS
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.picture import (
    COLOURS,
    MARKERS,
    NATS,
    QUIET,
    WIDE,
    Picture,
    describe,
    for_both_widths,
    legend,
    name_of,
    say_not_run,
)

SCALE = matplotlib.colors.Normalize(-1, 1)
SHADES = matplotlib.colormaps["RdBu_r"].resampled(features.SHADES + 1)  # more would only make pages heavy


@for_both_widths
def similarity(panels: Mapping[str, np.ndarray | None], width: float = WIDE) -> Picture:
    """Similarity of every two pixel values, one heat map of shape V, V per panel; None is shown as "not run".

    Paper: Figures 2, 3 and 5.
    """
    columns = min(len(panels), 4 if width == WIDE else 2 if len(panels) == 4 else 3)
    rows = math.ceil(len(panels) / columns)
    figure = Picture(figsize=(width, min(width / columns, 3) * rows + 1.2), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (title, similarity_VV) in zip(axes.flat, panels.items(), strict=False):
        heading = title.replace(" (", "\n(") if columns > 2 else title
        ax.set(title=heading, xticks=[0, 255], yticks=[0, 255], xlim=(-0.5, 255.5), ylim=(255.5, -0.5), aspect="equal")
        ax.grid(False)
        if similarity_VV is None:
            say_not_run(ax, is_numbered=True)
        else:
            ax.imshow(similarity_VV, cmap=SHADES, norm=SCALE, interpolation="none")
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("pixel value")
    for ax in axes[:, 0]:
        ax.set_ylabel("pixel value")
    colours = matplotlib.cm.ScalarMappable(SCALE, SHADES)
    figure.colorbar(colours, ax=axes, location="bottom", shrink=0.5, aspect=30, label="similarity", ticks=[-1, 0, 1])
    figure.is_smooth = True
    figure.caption = "Similarity of every pair of the 256 values of one colour channel; 0 is at the top left."
    figure.alt = f"{len(panels)} heat maps of 256 by 256 pixel values. " + " ".join(
        f"{title}: {NOT_RUN}." if panel is None else _in_words(title, panel) for title, panel in panels.items()
    )
    return figure


def _in_words(title: str, similarity_VV: np.ndarray) -> str:
    near, middle, far = features.similarity_profile(similarity_VV)[[1, 64, 255]]
    return f"{title}: similarity {near:.2f} at distance 1, {middle:.2f} at 64, {far:.2f} at 255."


def learned_tables(t: Tables, depth: int = 3, arm: str = MAIN) -> Picture:
    """Cosine similarity of the rows of the learned pix2vec table of each of the paper's networks, red channel.

    Of each network the run with the lowest seed at hand is shown. Paper: Figure 5.
    """
    runs = t.runs[(t.runs["arm"] == arm) & (t.runs["encoding"] == "pix2vec") & (t.runs["depth"] == depth)]
    shown = runs.sort_values("seed").drop_duplicates("network").set_index("network")
    panels = {}
    for network in NETWORKS:
        packed_P = t.arrays[shown.loc[network, "run_id"]].get("similarity_P") if network in shown.index else None
        panels[name_of(network)] = None if packed_P is None else features.unpack_similarity(packed_P)
    figure = similarity(panels)
    figure.runs = runs[runs["run_id"].isin(shown["run_id"])]
    figure.caption = f"Learned tables: {figure.caption} The red channel, size {depth} ({describe(shown)})."
    return figure


@for_both_widths
def similarity_by_distance(panels: Mapping[str, np.ndarray], width: float = WIDE) -> Picture:
    """Mean similarity of pixel values that lie a given distance apart, one line per panel of shape V, V."""
    figure = Picture(figsize=(width, 3.0), layout="constrained")
    ax = figure.subplots()
    for (title, panel), dashes in zip(panels.items(), ["-", "--", "-.", ":"], strict=False):
        ax.plot(features.similarity_profile(panel), dashes, label=title)
    ax.set(xlabel="distance of two pixel values", ylabel="mean similarity", xlim=(0, 255))
    ax.legend()
    figure.caption = "Mean similarity over all pairs of pixel values that lie so far apart."
    figure.alt = f"Mean similarity falls with the distance of two pixel values; one line each for {', '.join(panels)}."
    return figure


@for_both_widths
def trained_by_sigma(t: Tables, width: float = WIDE) -> Picture:
    """Validation loss and probe accuracy of networks of size 1 against the sigma of their random Fourier features.

    One line per network of which another sigma than 1 has run: its mean over seeds, each of which is a small point.
    """
    runs = at_each_sigma(t)
    networks = [name for name in BLOCK_ORDER if (runs["arm"] != MAIN)[runs["network"] == name].any()]
    runs = runs[runs["network"].isin(networks)]
    measures = {NATS: runs["validation_loss"], ACCURACY: 100 * runs["test_accuracy"]}
    lines, columns = (1, 2) if width == WIDE else (2, 1)
    figure = Picture(figsize=(width, (3.4 if networks else 1.6) * lines), layout="constrained")
    words = []
    for ax, (name, values) in zip(figure.subplots(lines, columns, squeeze=False).flat, measures.items(), strict=True):
        ax.set_title(name, loc="left")
        if not networks:
            say_not_run(ax)
            continue
        for place, network in enumerate(networks):
            of_network = runs["network"] == network
            words.append(_draw_sigmas(ax, network, runs["sigma"][of_network], values[of_network], place - 1))
        sigmas = sorted(set(runs["sigma"]))
        ax.set(xscale="log", xlabel="σ", xlim=(0.05, 20))
        ax.set_xticks(sigmas, [f"{sigma:g}" for sigma in sigmas], minor=False)
        ax.minorticks_off()
    guesses = guesses_of(runs)
    for loss in guesses.values():
        figure.axes[0].axhline(loss, color=QUIET, linewidth=1, linestyle=":", zorder=0)
    legend(figure, networks)
    figure.runs = runs
    figure.caption = f"Networks of size 1 by the σ of their random Fourier features: {describe(runs)}." + (
        " The loss is that of validation. Lines are means over seeds, small points single seeds."
        f"{guesses_in_words(guesses)}"
        if networks
        else ""
    )
    figure.alt = "Validation loss and accuracy of the probe, by σ. " + (" ".join(words) or f"{NOT_RUN.capitalize()}.")
    return figure


def _draw_sigmas(ax: Axes, network: str, sigmas: pd.Series, values: pd.Series, aside: int) -> str:
    """A line through the means at each sigma, `aside` of it so that lines stay apart; returns it in words."""
    look, shift = {"color": COLOURS[network], "marker": MARKERS[network]}, 1.06**aside
    ax.plot(shift * sigmas, values, linestyle="", markersize=4, alpha=0.5, **look)
    means = values.groupby(sigmas).mean()
    ax.plot(shift * means.index, means, **look)
    path = ", ".join(f"{mean:.3g} at {sigma:g}" for sigma, mean in means.items())
    return f"{name_of(network)}, {ax.get_title('left')}: {path}."
