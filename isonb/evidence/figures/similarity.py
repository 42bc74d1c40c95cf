"""Heat maps of how alike pixel values look to an encoding, fixed or learned.

Book: chapters "Encodings" and "Results".
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib
import numpy as np

from isonb import features
from isonb.evidence import NOT_RUN
from isonb.evidence.ledger.select import NETWORKS
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.picture import WIDTH, Picture, describe, our_style, say_not_run, with_heads

SCALE = matplotlib.colors.Normalize(-1, 1)
SHADES = matplotlib.colormaps["RdBu_r"].resampled(features.SHADES + 1)  # more would only make pages heavy


@our_style()
def similarity(panels: Mapping[str, np.ndarray | None]) -> Picture:
    """Similarity of every two pixel values, one heat map of shape V, V per panel; None is shown as "not run".

    Paper: Figures 2, 3 and 5.
    """
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Picture(figsize=(WIDTH, 1.7 * rows * 3 / columns + 0.8), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (title, similarity_VV) in zip(axes.flat, panels.items(), strict=False):
        ax.set(title=title, xticks=[0, 255], yticks=[0, 255], xlim=(-0.5, 255.5), ylim=(255.5, -0.5), aspect="equal")
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
        panels[with_heads(network)] = None if packed_P is None else features.unpack_similarity(packed_P)
    figure = similarity(panels)
    figure.caption = f"Learned tables: {figure.caption} The red channel, size {depth} ({describe(shown)})."
    return figure


@our_style()
def similarity_by_distance(panels: Mapping[str, np.ndarray]) -> Picture:
    """Mean similarity of pixel values that lie a given distance apart, one line per panel of shape V, V."""
    figure = Picture(figsize=(WIDTH, 2.7), layout="constrained")
    ax = figure.subplots()
    for (title, panel), dashes in zip(panels.items(), ["-", "--", "-.", ":"], strict=False):
        ax.plot(features.similarity_profile(panel), dashes, label=title)
    ax.set(xlabel="distance of two pixel values", ylabel="mean similarity", xlim=(0, 255))
    ax.legend()
    figure.caption = "Mean similarity over all pairs of pixel values that lie so far apart."
    figure.alt = f"Mean similarity falls with the distance of two pixel values; one line each for {', '.join(panels)}."
    return figure
