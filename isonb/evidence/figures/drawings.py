"""What a block can see and cannot notice, the positions that it is told, and how groups can look like a law.

Book: chapters "The claims", "Blocks" and "Why do the transformers fail?".
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.patches import Rectangle

from isonb import features
from isonb.evidence import NOT_RUN, selection
from isonb.evidence.figures.similarity import SCALE, SHADES
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.picture import (
    COLOURS,
    MARKERS,
    QUIET,
    WIDE,
    WIDTH,
    Picture,
    describe,
    for_both_widths,
    name_of,
    say_not_run,
)
from isonb.evidence.words import of_arm

TICKS = [-1, 0, 1]
PANELS = 6  # networks whose positions are shown
SAME = 1e-9  # float64: equal but for rounding


@for_both_widths
def reach(sides: Mapping[tuple[str, int], int], image_size: int, width: float = WIDE) -> Picture:
    """Which pixels the prediction for the middle one can depend on: a square of so many pixels, by block and size."""
    columns = len(sides) if width > WIDTH else min(3, len(sides))
    rows = -(-len(sides) // columns)
    figure = Picture(figsize=(width, (width / columns + 0.4) * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    middle = image_size // 2
    for ax, ((block, size), side) in zip(axes, sides.items(), strict=False):
        left = max(0, middle - side // 2)
        ax.add_patch(Rectangle((left, left), side, side, facecolor=COLOURS[block], alpha=0.45))
        ax.add_patch(Rectangle((middle, middle), 1, 1, facecolor="black"))
        ax.set_title(f"{name_of(block)}\n{name_of(size)}", fontweight="normal")
        ax.set(xlim=(0, image_size), ylim=(image_size, 0), aspect="equal", xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=QUIET)
        ax.grid(False)
    for ax in axes[len(sides) :]:
        ax.set_visible(False)
    figure.caption = (
        f"How far a network looks: the prediction for the middle pixel of {image_size} by {image_size} can depend on "
        "the coloured ones."
    )
    figure.alt = f"{figure.caption} " + " ".join(
        f"{name_of(block)}, {name_of(size)}: {side} by {side} pixels." for (block, size), side in sides.items()
    )
    return figure


@for_both_widths
def symmetries(
    changed: Mapping[str, np.ndarray], outputs: Mapping[str, Sequence[np.ndarray]], width: float = WIDE
) -> Picture:
    """Pictures (H, W) by what was done to them, the first nothing, and what each block makes of them, put back.

    Where a block's output is that of the first picture again, the block cannot notice what was done.
    """
    columns = {"input": list(changed.values()), **{name_of(name): list(of_block) for name, of_block in outputs.items()}}
    figure = Picture(figsize=(width, min(5.6, width / len(columns) * len(changed) * 1.2 + 0.3)), layout="constrained")
    axes = figure.subplots(len(changed), len(columns), squeeze=False)
    words = []
    for of_column, (name, pictures) in zip(axes.T, columns.items(), strict=True):
        low, high = np.quantile(pictures[0], [0.02, 0.98])
        of_column[0].set_title(name, fontweight="normal")
        for ax, what, picture in zip(of_column, changed, pictures, strict=True):
            ax.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="none")
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            if name == "input":
                ax.set_ylabel(what)
            elif picture is not pictures[0]:
                is_same = bool(np.abs(picture - pictures[0]).max() < SAME)
                ax.set_xlabel("same" if is_same else "differs", fontweight="normal" if is_same else "bold")
                words.append(f"{name}, {what}: {'the same' if is_same else 'differs'}.")
    figure.caption = (
        "A picture, shuffled and shifted, and one channel of what an untrained block makes of each, its pixels put "
        "back. Same: the block cannot notice what was done."
    )
    figure.alt = f"{figure.caption} {' '.join(words)}"
    return figure


@for_both_widths
def positions(tables: Mapping[str, np.ndarray], at: tuple[int, int], width: float = WIDE) -> Picture:
    """How alike the vector of one position, a row and a column, is to those of all others; each table of shape N, D."""
    figure = Picture(figsize=(width, min(width, 6.0) / len(tables) + 0.95), layout="constrained")
    axes = figure.subplots(1, len(tables), squeeze=False)[0]
    words = []
    for ax, (title, position_ND) in zip(axes, tables.items(), strict=True):
        side = round(len(position_ND) ** 0.5)
        similarity_HW = features.cosine_similarity(position_ND)[at[0] * side + at[1]].reshape(side, side)
        ax.imshow(similarity_HW, cmap=SHADES, norm=SCALE, interpolation="none")
        ax.plot(at[1], at[0], "s", color="black", mfc="none", markersize=7)
        ax.set_title(title, fontweight="normal")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        beside = similarity_HW[at[0], at[1] + 1]
        words.append(f"{title}: {beside:.2f} with the neighbour, {similarity_HW[-1, -1]:.2f} with the last corner.")
    colours = ScalarMappable(SCALE, SHADES)
    figure.colorbar(colours, ax=axes, location="bottom", shrink=0.6, aspect=30, label="similarity", ticks=TICKS)
    figure.caption = "How alike the position that the frame marks is to every other one, before training."
    figure.alt = f"{figure.caption} {' '.join(words)}"
    return figure


def learned_positions(t: Tables) -> Picture:
    """What trained networks have learned of where pixels are: maps of some positions' similarity with all others.

    One panel per network and encoding of which a run keeps them: that with the fewest changes, then the smallest, then
    the one with the lowest seed.
    """
    runs = selection.with_array(t, "positions_QN")
    runs = runs.assign(changed=runs["arm"].map(lambda arm: 0 if arm == MAIN else len(arm.split())))
    shown = runs.sort_values(["changed", "depth", "seed"]).drop_duplicates(["network", "encoding"]).head(PANELS)
    return _learned_positions(t, shown)


@for_both_widths
def _learned_positions(t: Tables, shown: pd.DataFrame, width: float = WIDE) -> Picture:
    columns = max(1, min(len(shown), 3 if width == WIDE else 2))
    rows = max(1, -(-len(shown) // columns))
    figure = Picture(figsize=(width, min(width / columns, 4.4) * rows + 1.2), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    words = []
    for ax, run in zip(axes, shown.itertuples(), strict=False):
        maps_QHW = features.unpack_positions(t.arrays[run.run_id]["positions_QN"])
        ax.imshow(_side_by_side(maps_QHW), cmap=SHADES.with_extremes(bad=QUIET), norm=SCALE, interpolation="none")
        title = ", ".join([name_of(run.network), name_of(run.encoding), name_of(run.depth), *_changed(run.arm)])
        ax.set_title(textwrap.fill(title, 26 if width == WIDE or columns > 1 else 44), fontweight="normal")
        near, apart = features.near_and_apart(maps_QHW)
        words.append(f"{title}: {near:.2f} with direct neighbours, {apart:.2f} with all others.")
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.grid(False)
    for ax in axes[len(shown) :] if len(shown) else ():
        ax.set_visible(False)
    if shown.empty:
        say_not_run(axes[0])
    else:
        colours = ScalarMappable(SCALE, SHADES)
        figure.colorbar(colours, ax=axes, location="bottom", shrink=0.6, aspect=30, label="similarity", ticks=TICKS)
    figure.runs = shown
    figure.caption = (
        f"What was learned of where pixels are. Each small map is the whole picture and belongs to one of "
        f"{features.MAPPED} by {features.MAPPED} pixels of it: how alike that pixel\u2019s position is to all others "
        f"({describe(shown)})."
    )
    figure.alt = f"{figure.caption} {' '.join(words) or f'{NOT_RUN.capitalize()}.'}"
    return figure


def _changed(arm: str) -> list[str]:
    return [] if arm == MAIN else [of_arm(arm)]


def _side_by_side(maps_QHW: np.ndarray) -> np.ndarray:
    """The maps in rows of `features.MAPPED`, with a gap around each that has no similarity."""
    padded_QHW = np.pad(maps_QHW, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    return np.block([[*row] for row in padded_QHW.reshape(features.MAPPED, features.MAPPED, *padded_QHW.shape[1:])])


@for_both_widths
def groups(loss: np.ndarray, accuracy: np.ndarray, group: np.ndarray, width: float = WIDE) -> Picture:
    """One made-up world of points in separated groups, each with its marker: loss against accuracy."""
    figure = Picture(figsize=(width, 2.6), layout="constrained")
    ax = figure.subplots()
    names = np.unique(group)
    for name, marker in zip(names, MARKERS.values(), strict=False):
        ax.plot(loss[group == name], accuracy[group == name], marker, color=QUIET)
    ax.set(xlabel="loss, made up", ylabel="accuracy, made up", xticks=[], yticks=[])
    figure.caption = f"Made-up networks of {len(names)} kinds: inside each kind, loss says nothing about accuracy."
    figure.alt = f"{figure.caption} Together, the {len(loss)} points seem to lie on a falling line."
    return figure
