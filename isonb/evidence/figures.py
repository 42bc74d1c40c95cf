"""Every figure of the book as a pure function of records, tables or pixels.

Book: chapters "Encodings", "Objective" and "Smoke results".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isonb import config, features, records
from isonb.evidence import statistics
from isonb.evidence.picture import COLOURS, MARKERS, NAMES, QUIET, STYLE, WIDTH, Picture

NATS = "loss (nats per masked sub-pixel)"


@matplotlib.rc_context(STYLE)
def similarity(panels: Mapping[str, np.ndarray]) -> Picture:
    """Similarity of every two pixel values, one heat map of shape V, V a panel. Paper: Figures 2, 3 and 5."""
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Picture(figsize=(WIDTH, 1.7 * rows * 3 / columns + 0.8), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (title, similarity_VV) in zip(axes.flat, panels.items(), strict=False):
        drawn = ax.imshow(similarity_VV, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none")
        ax.set(title=title, xticks=[0, 255], yticks=[0, 255])
        ax.grid(False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("pixel value")
    for ax in axes[:, 0]:
        ax.set_ylabel("pixel value")
    figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.5, aspect=30, label="similarity", ticks=[-1, 0, 1])
    figure.is_smooth = True
    figure.caption = "Similarity of every pair of the 256 values of one colour channel; 0 is at the top left."
    figure.alt = f"{len(panels)} heat maps of 256 by 256 pixel values. " + " ".join(
        f"{title}: similarity {near:.2f} at distance 1, {middle:.2f} at 64, {far:.2f} at 255."
        for title, (near, middle, far) in (
            (title, features.similarity_profile(panel)[[1, 64, 255]]) for title, panel in panels.items()
        )
    )
    return figure


@matplotlib.rc_context(STYLE)
def similarity_by_distance(panels: Mapping[str, np.ndarray]) -> Picture:
    """Mean similarity of pixel values that lie a given distance apart, one line a panel of shape V, V."""
    figure = Picture(figsize=(WIDTH, 2.7), layout="constrained")
    ax = figure.subplots()
    for (title, panel), dashes in zip(panels.items(), ["-", "--", "-.", ":"], strict=False):
        ax.plot(features.similarity_profile(panel), dashes, label=title)
    ax.set(xlabel="distance of two pixel values", ylabel="mean similarity", xlim=(0, 255))
    ax.legend()
    figure.caption = "Mean similarity over all pairs of pixel values that lie so far apart."
    figure.alt = f"Mean similarity falls with the distance of two pixel values; one line each for {', '.join(panels)}."
    return figure


@matplotlib.rc_context(STYLE)
def learning_curve(curve: Sequence[records.Epoch], baselines: records.Baselines) -> Picture:
    """Training and validation loss of one run by epoch, beside what needs no network. Losses in nats."""
    figure = Picture(figsize=(WIDTH, 3), layout="constrained")
    ax = figure.subplots()
    trained = [row for row in curve if row.train_loss is not None]
    ax.plot([row.epoch for row in trained], [row.train_loss for row in trained], "--", color=QUIET, label="training")
    ax.plot([row.epoch for row in curve], [row.validation_loss for row in curve], "o-", color="#222222",
            label="validation")  # fmt: skip
    _draw_baselines(ax, baselines)
    ax.set(xlabel="epoch", ylabel=NATS)
    ax.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    last = curve[-1]
    figure.caption = f"Learning curve. Validation loss after epoch {last.epoch}: {last.validation_loss:.3f} nats."
    figure.alt = (
        f"Validation loss goes from {curve[0].validation_loss:.2f} nats to {last.validation_loss:.2f} in "
        f"{last.epoch} epochs. Without a network: {_in_words(baselines)}."
    )
    return figure


@matplotlib.rc_context(STYLE)
def learning_curves(runs: Sequence[records.Record]) -> Picture:
    """Validation loss by epoch of several runs: a panel for each encoding, a colour and marker for each block."""
    figure = Picture(figsize=(WIDTH, 3.1), layout="constrained")
    axes = figure.subplots(1, len(config.ENCODINGS), sharex=True, sharey=True)
    for ax, encoding in zip(axes, config.ENCODINGS, strict=True):
        for run in (run for run in runs if run.cell.run.encoding == encoding):
            epochs, losses = zip(*((row.epoch, row.validation_loss) for row in run.training.curve), strict=True)
            ax.plot(epochs, losses, marker=MARKERS[run.cell.run.block], color=COLOURS[run.cell.run.block])
        ax.set_title(_name(encoding))
        ax.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("epoch", fontsize=10)
    axes[0].set_ylabel(NATS)
    _legend(figure, config.BLOCKS)
    data = " and ".join(sorted({f"{run.data.validation} validation images of {run.data.name}" for run in runs}))
    figure.caption = f"Validation loss by epoch of {_described(runs)}, on {data}."
    figure.alt = "Learning curves. " + " ".join(
        f"{_name(run.cell.run.block)} with {_name(run.cell.run.encoding)}: {run.training.curve[0].validation_loss:.2f} "
        f"to {run.training.validation_loss:.2f} nats."
        for run in runs
    )
    return figure


@matplotlib.rc_context(STYLE)
def probe_curve(probe: records.Probe) -> Picture:
    """Accuracy of the linear probe of each layer, in per cent; layer 0 is the encoding. Paper: Figures 6 and 7."""
    figure = Picture(figsize=(WIDTH, 2.8), layout="constrained")
    ax = figure.subplots()
    layers = [layer.layer for layer in probe.layers]
    ax.plot(layers, [100 * layer.validation_accuracy for layer in probe.layers], "--", color=QUIET, label="validation")
    ax.plot(layers, [100 * layer.test_accuracy for layer in probe.layers], "o-", color="#222222", label="test")
    ax.plot(probe.best_layer, 100 * probe.test_accuracy, "o", ms=13, mfc="none", mec="#222222", label="chosen")
    ax.axhline(100 * probe.chance, color=QUIET, linestyle=":", label="chance")
    ax.set(xlabel="layer (0 is the encoding)", ylabel="accuracy (%)", xticks=layers)
    ax.margins(x=0.1)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=4, handlelength=1.6)
    chosen = f"layer {probe.best_layer} is chosen, with {100 * probe.test_accuracy:.1f} % on test images"
    figure.caption = (
        f"Linear probes by layer; {chosen}. Chance is {100 * probe.chance:.1f} %. Protocol: {probe.protocol}."
    )
    figure.alt = f"Accuracy of linear probes by layer; {chosen}. " + " ".join(
        f"Layer {layer.layer}: {100 * layer.test_accuracy:.1f} %." for layer in probe.layers
    )
    return figure


@matplotlib.rc_context(STYLE)
def loss_accuracy(table: pd.DataFrame, by: str) -> Picture:
    """Validation loss against the chosen probe's test accuracy, coloured `by` block or encoding. Paper: Figure 4.

    `table` has the columns of `records.as_row`; bars are 95 % Wilson intervals over the test images.
    """
    figure = Picture(figsize=(WIDTH, 3.6), layout="constrained")
    ax = figure.subplots()
    for row in table.to_dict("records"):
        low, high = statistics.wilson(row["test_accuracy"], row["data_test"])
        accuracy = 100 * row["test_accuracy"]
        ax.errorbar(
            row["validation_loss"], accuracy, [[max(0, accuracy - 100 * low)], [max(0, 100 * high - accuracy)]],
            fmt=MARKERS[row[by]], color=COLOURS[row[by]], elinewidth=0.8, markersize=8,
        )  # fmt: skip
    ax.set(xlabel=f"validation {NATS}", ylabel="accuracy of the chosen probe (%)")
    _legend(figure, config.BLOCKS if by == "block" else config.ENCODINGS)
    counts = (
        f"{_networks(len(table))}, profile {', '.join(sorted(set(table['profile'])))}, {_seeds(set(table['seed']))}"
    )
    tests = " and ".join(str(n) for n in sorted(set(table["data_test"])))
    figure.caption = f"Loss against accuracy by {by}: {counts}; bars are 95 % intervals over {tests} test images."
    figure.alt = f"Scatter of loss and accuracy by {by}. " + " ".join(
        f"{_name(row['block'])} with {_name(row['encoding'])}, depth {row['depth']}: "
        f"{row['validation_loss']:.2f} nats, {100 * row['test_accuracy']:.1f} %."
        for row in table.to_dict("records")
    )
    return figure


def reconstructions(
    masked_BHWC: np.ndarray, reconstructed_BHWC: np.ndarray, original_BHWC: np.ndarray, titles: Sequence[str]
) -> Picture:
    """What the network saw, what it filled in and the truth; a titled row for each image, uint8. Paper: Figure 1."""
    rows = [list(row) for row in zip(masked_BHWC, reconstructed_BHWC, original_BHWC, strict=True)]
    caption = "Masked input (masked pixels in mid-grey), reconstruction and original."
    return images(rows, caption, row_titles=titles, column_titles=["masked input", "reconstruction", "original"])


def reconstruction_grid(cells: Sequence[config.Cell]) -> Picture:
    """The same test image filled in by every network: a row for each block, a column for each encoding."""
    runs = {(cell.run.block, cell.run.encoding): record for cell in cells if (record := records.finished(cell))}
    arrays = {key: records.read_arrays(records.record_path(run.cell)) for key, run in runs.items()}
    ends = [next(iter(arrays.values()), {}).get(f"reconstruction_{name}", [None])[0] for name in ("masked", "original")]
    rows = [
        [
            ends[0],
            *(arrays[block, encoding]["reconstruction_filled"][0] if (block, encoding) in arrays else None
              for encoding in config.ENCODINGS),
            ends[1],
        ]
        for block in config.BLOCKS
    ]  # fmt: skip
    described = _described(list(runs.values())) if runs else "not run"
    return images(
        rows,
        f"One test image: what the networks saw, what each filled in, and the original ({described}).",
        row_titles=[_name(block) for block in config.BLOCKS],
        column_titles=["masked", *(_name(encoding).replace(" ", "\n") for encoding in config.ENCODINGS), "original"],
    )


@matplotlib.rc_context(STYLE)
def images(
    rows: Sequence[Sequence[np.ndarray | None]],
    caption: str,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
) -> Picture:
    """A grid of uint8 images of shape H, W, C; None is drawn as an empty frame that says "not run"."""
    columns = len(rows[0])
    margin = 0.1 + 0.075 * max(map(len, row_titles), default=0)  # a letter is about 0.075 inches wide
    figure = Picture(figsize=(WIDTH, (WIDTH - margin) / columns * len(rows) + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for ax, image in zip(axes.flat, (image for row in rows for image in row), strict=True):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(image is None)
        if image is None:
            ax.set_box_aspect(1)
            ax.text(0.5, 0.5, "not run", ha="center", va="center", transform=ax.transAxes, color=QUIET, fontsize=9)
        else:
            ax.imshow(image, interpolation="none")
    for ax, title in zip(axes[0], column_titles, strict=False):
        ax.set_title(title, fontsize=9)
    for ax, title in zip(axes[:, 0], row_titles, strict=False):
        ax.set_ylabel(title, fontsize=9, rotation=0, ha="right", va="center")
    figure.caption = caption
    figure.alt = f"{caption} Rows: {', '.join(row_titles)}. Columns: {', '.join(column_titles)}.".replace("\n", " ")
    return figure


def _name(key: str) -> str:
    return NAMES.get(key, key)


def _legend(figure: Figure, keys: Sequence[str]) -> None:
    """The same key above every figure that tells blocks or encodings apart."""
    handles = [
        matplotlib.lines.Line2D([], [], marker=MARKERS[key], color=COLOURS[key], linestyle="", label=_name(key))
        for key in keys
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handletextpad=0.2)


def _draw_baselines(ax: Axes, baselines: records.Baselines) -> None:
    for name, loss in baselines:
        ax.axhline(loss, color=QUIET, linewidth=1, linestyle=":")
        place = {"xycoords": ("axes fraction", "data"), "xytext": (0, 2), "textcoords": "offset points"}
        ax.annotate(name.replace("_", " "), (0.99, loss), color=QUIET, fontsize=8, ha="right", **place)


def _in_words(baselines: records.Baselines) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {loss:.2f}" for name, loss in baselines)


def _seeds(seeds: set[int]) -> str:
    return f"seed {min(seeds)}" if len(seeds) == 1 else f"{len(seeds)} seeds"


def _described(runs: Sequence[records.Record]) -> str:
    """How many networks, of which profile and seeds: what every caption owes its reader."""
    profiles = ", ".join(sorted({run.cell.profile for run in runs}))
    return f"{_networks(len(runs))}, profile {profiles}, {_seeds({run.cell.run.seed for run in runs})}"


def _networks(count: int) -> str:
    return f"{count} network{'' if count == 1 else 's'}"
