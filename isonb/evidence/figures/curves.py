"""Curves by epoch and by layer: learning curves, and the accuracy of linear probes.

Book: chapters "Results" and "Smoke results", and every executed cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from isonb import config, schema
from isonb.evidence import NOT_RUN, selection, statistics
from isonb.evidence.metrics import MAIN, Tables, by_images, images_read
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
    describe,
    described,
    for_both_widths,
    legend,
    name_of,
    say_not_run,
)

NOT_RUN_HEIGHT = 0.9  # inches of an empty panel


@for_both_widths
def learning_curve(run: schema.Record, width: float = WIDE) -> Picture:
    """Training and validation loss of one run by epoch, in its own unit, and of guesses without a network."""
    curve, unit = run.training.curve, run.cell.run.unit
    figure = Picture(figsize=(width, 3.4), layout="constrained")
    ax = figure.subplots()
    trained = [row for row in curve if row.train_loss is not None]
    ax.plot([row.epoch for row in trained], [row.train_loss for row in trained], "--", color=QUIET, label="training")
    ax.plot([row.epoch for row in curve], [row.validation_loss for row in curve], "o-", color="#222222",
            label="validation")  # fmt: skip
    _draw_baselines(ax, run.baselines)
    ax.set(xlabel="epoch", ylabel=f"loss ({unit})")
    ax.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    last = curve[-1]
    figure.caption = f"Learning curve. Validation loss after epoch {last.epoch}: {last.validation_loss:.3f} ({unit})."
    figure.alt = (
        f"Validation loss ({unit}) goes from {curve[0].validation_loss:.2f} to {last.validation_loss:.2f} in "
        f"{last.epoch} epochs. Without a network: {_in_words(run.baselines)}."
    )
    return figure


@for_both_widths
def learning_curves(runs: Sequence[schema.Record], width: float = WIDE) -> Picture:
    """Validation loss by epoch of several runs: a panel for each encoding, a colour and marker for each network.

    Only networks of the legend with an encoding of the grid are drawn whose loss is in nats per masked sub-pixel, on
    the images that most of them read: losses in other units or on other images share no axis. Dotted lines are what a
    guess around the mean of the unmasked neighbours costs, and one around a linear map of the 5x5 window.
    """
    runs = [run for run in runs if _is_in_nats(run) and run.cell.run.network in NETWORKS]
    runs = [run for run in runs if run.cell.run.encoding in config.GRID_ENCODINGS]
    runs, *others = by_images(runs) or [[]]
    panels = len(config.GRID_ENCODINGS)
    lines, columns = (1, panels) if width == WIDE else (panels, 1)
    figure = Picture(figsize=(width, 3.6 if width == WIDE else 6.4), layout="constrained")
    axes = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat)
    for ax, encoding in zip(axes, config.GRID_ENCODINGS, strict=True):
        for run in (run for run in runs if run.cell.run.encoding == encoding):
            network = run.cell.run.network
            epochs, losses = zip(*((row.epoch, row.validation_loss) for row in run.training.curve), strict=True)
            ax.plot(epochs, losses, marker=MARKERS[network], color=COLOURS[network])
        ax.set_title(name_of(encoding), loc="left")
        ax.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("epoch", fontsize="medium")
    figure.supylabel(NATS, fontsize="medium")
    legend(figure, [network for network in NETWORKS if network in {run.cell.run.network for run in runs}])
    data = " and ".join(sorted({f"{run.data.validation} validation images of {run.data.name}" for run in runs}))
    figure.runs = selection.frame(runs)
    figure.caption = f"Validation loss by epoch of {described(runs)}, on {data}."
    if runs:
        figure.caption += f" Dotted: {', and '.join(_draw_guesses(axes, runs))}."
    if others:
        figure.caption += f" Not drawn: networks that read {' and '.join(map(images_read, others))}."
    figure.alt = "Learning curves. " + " ".join(
        f"{name_of(run.cell.run.network)} with {name_of(run.cell.run.encoding)}: "
        f"{run.training.curve[0].validation_loss:.2f} to {run.training.validation_loss:.2f} nats."
        for run in runs
    )
    return figure


def _draw_guesses(axes: Sequence[Axes], runs: Sequence[schema.Record]) -> list[str]:
    """Draw the mean costs of the two guesses that look around a pixel, of those runs that have them; in words."""
    words = {"neighbour_mean": "a guess around the mean of the neighbours", "linear_filter": "around a linear map"}
    names = {"neighbour_mean": "neighbours\u2019\nmean", "linear_filter": "linear\nfilter"}
    drawn = []
    for name, in_words in words.items():
        side = "bottom" if name == "neighbour_mean" else "top"
        if losses := [_fitted(run.baselines)[name] for run in runs if name in _fitted(run.baselines)]:
            loss = sum(losses) / len(losses)
            for ax in axes:
                ax.axhline(loss, color=QUIET, linewidth=1, linestyle=":")
                if ax.get_subplotspec().is_last_col():
                    place = {"xycoords": ("axes fraction", "data"), "va": side, "linespacing": 0.95}
                    ax.annotate(names[name], (1.02, loss), color=QUIET, **place)
            drawn.append(f"{in_words}, {loss:.3f}")
    return drawn


def _is_in_nats(run: schema.Record) -> bool:
    return run.cell.run.unit == UNIT


@for_both_widths
def probe_curve(probe: schema.Probe, width: float = WIDE) -> Picture:
    """Accuracy of the linear probe of each layer, in per cent; layer 0 is the encoding. Paper: Figures 6 and 7.

    Probes along the training are thin lines, the earlier the paler; hollow squares are those of the untrained twin.
    """
    figure = Picture(figsize=(width, 3.2), layout="constrained")
    ax = figure.subplots()
    layers, twin = [layer.layer for layer in probe.layers], probe.untrained
    earlier = probe.along[:-1]
    for then in earlier:
        look = {"color": "#222222", "linewidth": 0.8, "alpha": then.epoch / len(probe.along)}
        ax.plot(layers, [100 * layer.test_accuracy for layer in then.layers], zorder=1, **look)
    ax.plot(layers, [100 * layer.validation_accuracy for layer in probe.layers], "--", color=QUIET, label="validation")
    ax.plot(layers, [100 * layer.test_accuracy for layer in probe.layers], "o-", color="#222222", label="test")
    ax.plot(probe.best_layer, 100 * probe.test_accuracy, "o", ms=13, mfc="none", mec="#222222", label="chosen")
    if twin:
        untrained = [100 * layer.test_accuracy for layer in twin.layers]
        ax.plot(layers, untrained, "s:", mfc="none", color="#222222", linewidth=1, label="untrained")
    ax.axhline(100 * probe.chance, color=QUIET, linestyle=":", label="chance")
    ax.set(xlabel="layer (0 is the encoding)", ylabel="accuracy (%)", xticks=layers)
    ax.margins(x=0.1)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=3, handlelength=1.6)
    chosen = f"layer {probe.best_layer} is chosen, with {100 * probe.test_accuracy:.1f} % on test images"
    thin = f" Thin: the same on test images after epochs 1 to {len(earlier)}, the earlier the paler." if earlier else ""
    figure.caption = (
        f"Linear probes by layer; {chosen}. Chance is {100 * probe.chance:.1f} %.{thin} Protocol: {probe.protocol}."
    )
    figure.alt = f"Accuracy of linear probes by layer; {chosen}. " + " ".join([
        *(f"Layer {layer.layer}: {100 * layer.test_accuracy:.1f} %." for layer in probe.layers),
        *(f"Chosen after epoch {then.epoch}: {100 * then.test_accuracy:.1f} %." for then in earlier),
        *([f"Untrained: layer {twin.best_layer} is chosen, {100 * twin.test_accuracy:.1f} %."] if twin else []),
    ])  # fmt: skip
    return figure


@for_both_widths
def probes_by_layer(t: Tables, panels: Mapping[str, Mapping[str, object]], width: float = WIDE) -> Picture:
    """Test accuracy of the probe of each layer in per cent, of the main runs that have a panel's values.

    A panel may ask for another arm. A colour and marker for each encoding, dashes for each size; the mean over seeds is
    thick, each of several seeds thin, hollow markers are the mean of the untrained twins. In a panel of one size a mean
    has a band, its 95 % Wilson interval over the test images. Paper: Figures 6 and 7.
    """
    of_panel = {title: _chosen(t.runs, {"arm": MAIN} | dict(wanted)) for title, wanted in panels.items()}
    columns = 1 if width < WIDE or len(panels) == 1 else 2 if len(panels) in (2, 4) else 3
    each = [2.6 if len(chosen) else NOT_RUN_HEIGHT for chosen in of_panel.values()]
    heights = [max(each[start : start + columns]) for start in range(0, len(each), columns)]
    figure = Picture(figsize=(width, 0.9 + sum(heights)), layout="constrained")
    axes = list(figure.subplots(len(heights), columns, sharey=True, squeeze=False, height_ratios=heights).flat)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    axes = axes[: len(panels)]
    words = []
    for ax, (title, chosen) in zip(axes, of_panel.items(), strict=True):
        layers = t.layers[t.layers["run_id"].isin(chosen["run_id"])]
        for (encoding, depth), cell in layers.groupby(["encoding", "depth"]):
            words.append(_draw_layers(ax, title, encoding, depth, cell))
            if chosen["depth"].nunique() == 1:
                _draw_band(ax, encoding, cell, int(chosen["data_test"].min()))
        if layers.empty:
            say_not_run(ax)
            words.append(f"{title}: {NOT_RUN}.")
        else:
            ax.axhline(100 * chosen["chance"].mean(), color=QUIET, linestyle=":", linewidth=1)
        ax.set_title(title, loc="left")
        ax.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("layer (0 is the encoding)", fontsize="medium")
    figure.supylabel("accuracy (%)", fontsize="medium")
    drawn = pd.concat(of_panel.values())
    legend(figure, [encoding for encoding in config.ENCODINGS if encoding in set(drawn["encoding"])])
    sizes = sorted(set(drawn["depth"]))
    if len(sizes) > 1:
        handles = [Line2D([], [], color=QUIET, linestyle=DASHES[size], label=name_of(size)) for size in sizes]
        drawn_on = next(ax for ax, chosen in zip(axes, of_panel.values(), strict=True) if len(chosen))
        drawn_on.legend(handles=handles, ncols=2, columnspacing=1)
    size = f" of size {sizes[0]}" if len(sizes) == 1 else ""
    figure.runs = drawn
    figure.caption = f"Linear probes by layer{size}, on test images: {describe(drawn)}. {_precision(drawn)}".strip()
    if t.layers.loc[t.layers["run_id"].isin(drawn["run_id"]), "untrained_test_accuracy"].notna().any():
        figure.caption += " Hollow: the same networks untrained."
    figure.alt = "Accuracy of linear probes by layer. " + " ".join(words)
    return figure


def _chosen(runs: pd.DataFrame, values: Mapping[str, object]) -> pd.DataFrame:
    """The runs of the studies' sizes whose columns have these values."""
    runs = runs[runs["depth"].isin(DASHES)]
    for column, value in values.items():
        runs = runs[runs[column] == value]
    return runs


def _draw_layers(ax: Axes, title: str, encoding: str, depth: int, cell: pd.DataFrame) -> str:
    """Draw one cell's lines; returns them in words."""
    look = {"color": COLOURS[encoding], "linestyle": DASHES[depth]}
    by_seed = cell.pivot(index="layer", columns="seed", values="test_accuracy") * 100
    mean = by_seed.mean(axis=1)
    if by_seed.shape[1] > 1:
        ax.plot(by_seed.index, by_seed, linewidth=0.6, alpha=0.6, **look)
    ax.plot(mean.index, mean, marker=MARKERS[encoding], markersize=5, **look)
    words = f"{title}, {name_of(encoding)}, size {depth}, layers 0 to {depth}: {_listed(mean)} %"
    untrained = 100 * cell.groupby("layer")["untrained_test_accuracy"].mean()
    if untrained.notna().all():
        ax.plot(untrained.index, untrained, marker=MARKERS[encoding], markersize=4, mfc="none", lw=0.8, **look)
        words += f", untrained {_listed(untrained)} %"
    return f"{words}."


def _draw_band(ax: Axes, encoding: str, cell: pd.DataFrame, tests: int) -> None:
    means = cell.groupby("layer")["test_accuracy"].mean()
    low, high = 100 * np.transpose([statistics.wilson(mean, tests) for mean in means])
    ax.fill_between(means.index, low, high, color=COLOURS[encoding], alpha=0.15, linewidth=0)


def _listed(percentages: pd.Series) -> str:
    return ", ".join(f"{value:.1f}" for value in percentages)


def _precision(runs: pd.DataFrame) -> str:
    if runs.empty:
        return ""
    low, high = statistics.wilson(0.5, int(runs["data_test"].min()))
    return (
        "A thick line is the mean over seeds, dotted is chance. The 95 % interval over "
        f"{runs['data_test'].min()} test images, a band where a panel has one size, is at most {50 * (high - low):.1f} "
        "points to either side; it does not say how much other seeds differ."
    )


def _draw_baselines(ax: Axes, baselines: schema.Baselines) -> None:
    for name, loss in _fitted(baselines).items():
        ax.axhline(loss, color=QUIET, linewidth=1, linestyle=":")
        side = {"xytext": (0, 2), "va": "bottom"} if name == "uniform" else {"xytext": (0, -2), "va": "top"}
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", **side}
        ax.annotate(name.replace("_", " "), (0.99, loss), color=QUIET, ha="right", **place)


def _in_words(baselines: schema.Baselines) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {loss:.2f}" for name, loss in _fitted(baselines).items())


def _fitted(baselines: schema.Baselines) -> dict[str, float]:
    """The guesses without a network that a record has; those of earlier versions lack the linear filter."""
    return {name: loss for name, loss in baselines if loss is not None}
