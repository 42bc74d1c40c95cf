"""Figures for image-GPT's claims: its palette, probes by objective and along training, and fine-tuning.

Book: chapter "Results".
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from isonb import records, rows
from isonb.config import ENCODINGS
from isonb.evidence import NOT_RUN, benchmarks, measurements
from isonb.evidence.figures.curves import NOT_RUN_HEIGHT, probes_by_layer
from isonb.evidence.figures.pictures import images
from isonb.evidence.figures.scatter import draw_guesses, guesses_in_words, guesses_of
from isonb.evidence.ledger.select import AUTOREGRESSIVE, TRANSFORMERS
from isonb.evidence.metrics import MAIN, Tables
from isonb.evidence.picture import (
    COLOURS,
    DASHES,
    MARKERS,
    NATS,
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

HEADS = {network.name: network.heads for network in rows.networks()}
OBJECTIVES = {"BERT": MAIN, "autoregressive": AUTOREGRESSIVE}
WAYS = {"test_accuracy": "linear probe", "finetune_accuracy": "fine-tuned", "scratch_accuracy": "from scratch"}


def palette() -> Picture:
    """Test images in 512 colours below the originals, as `make bench` left them. Figure G1."""
    arrays, measured, quality = {}, pd.DataFrame(), NOT_RUN
    try:
        arrays, measured = measurements.palette_arrays(), benchmarks.palette()
    except records.RecordError as fault:
        quality = str(fault)
    pairs = [arrays.get(name, [None] * 3) for name in ("original_BHWC", "quantised_BHWC")]
    if len(measured):
        one = measured.iloc[0]
        quality = (
            f"peak signal-to-noise ratio {measured['psnr'].mean():.1f} dB, colours off by "
            f"{measured['colour_error'].mean():.1f} of 255 levels over {len(measured)} test images of {one['data']}; "
            f"{one['tokens']} tokens an image instead of {one['sub_pixels']}"
        )
    colours = f"{measured['colours'].iloc[0]} colours" if len(measured) else "palette"
    return images(pairs, f"Images and the same in a palette fitted by k-means: {quality}.", ["original", colours])


def probes_by_objective(t: Tables) -> Picture:
    """Accuracy of the probe of each layer of transformers, by the objective that trained them. Figure G2."""
    panels: dict[str, dict[str, object]] = {}
    for objective, arm in OBJECTIVES.items():
        if arm not in set(t.runs["arm"]):
            panels[objective] = {"arm": arm}
            continue
        for network in TRANSFORMERS:
            heads = f"{HEADS[network]} head{'' if HEADS[network] == 1 else 's'}"
            panels[f"{objective}, {heads}"] = {"arm": arm, "network": network}
    return probes_by_layer(t, panels)


@for_both_widths
def two_phases(t: Tables, width: float = WIDE) -> Picture:
    """How well the class and how well the pixels are read from each layer, of networks whose pixels were probed.

    A panel for each objective, network and size, a colour for each encoding; means over seeds. Figure G2.
    """
    names = {arm: objective for objective, arm in OBJECTIVES.items()}
    layers = t.layers[t.layers["network"].isin(NETWORKS) & t.layers["arm"].isin(names)]
    layers = layers.dropna(subset=["pixel_accuracy"])
    panels = list(layers.groupby(["arm", "network", "depth"], sort=False)) or [(None, layers)]
    columns = 2 if width == WIDE and len(panels) > 1 else 1
    lines = -(-len(panels) // columns)
    height = 0.8 + (2.2 if len(layers) else NOT_RUN_HEIGHT) * lines
    figure = Picture(figsize=(width, height), layout="constrained")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False).flat
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    words = []
    for ax, (key, of_panel) in zip(axes[: len(panels)], panels, strict=True):
        if key is None:
            say_not_run(ax)
            break
        title = f"{names[key[0]]}, {name_of(key[1])}, size {key[2]}"
        for encoding, of_encoding in of_panel.groupby("encoding"):
            mean = 100 * of_encoding.groupby("layer")[["test_accuracy", "pixel_accuracy"]].mean()
            for column, dashes in (("test_accuracy", "-"), ("pixel_accuracy", "--")):
                ax.plot(
                    mean.index, mean[column], dashes, marker=MARKERS[encoding], markersize=5, color=COLOURS[encoding]
                )
            best = mean.idxmax()
            words.append(
                f"{title}, {name_of(encoding)}: class best at layer {best['test_accuracy']}, "
                f"pixels at layer {best['pixel_accuracy']}."
            )
        ax.set_title(title.replace(", ", ",\n", columns - 1), loc="left")
        ax.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("layer (0 is the encoding)", fontsize="medium")
    figure.supylabel("accuracy (%)", fontsize="medium")
    legend(figure, [encoding for encoding in ENCODINGS if encoding in set(layers["encoding"])])
    drawn = t.runs[t.runs["run_id"].isin(layers["run_id"])]
    figure.runs = drawn
    figure.caption = (
        "Solid: the class, by the probe of each layer. Dashed: the pixels, as the share of scored sub-pixels that a "
        f"linear map from the layer hits within 8 levels. Test images; {describe(drawn)}."
    )
    figure.alt = "How well class and pixels are read from each layer. " + (
        " ".join(words) or f"{NOT_RUN.capitalize()}."
    )
    return figure


@for_both_widths
def along_training(t: Tables, width: float = WIDE) -> Picture:
    """Loss against probe accuracy along training, a panel for each network and a line for each run. Figure G3.

    A colour for each encoding, dashes for each size; a marker at the end of training.
    """
    runs = t.runs[(t.runs["arm"] == MAIN) & t.runs["network"].isin(NETWORKS) & t.runs["depth"].isin(DASHES)]
    probed = t.curves.dropna(subset=["probe_accuracy"])
    probed = probed[probed["run_id"].isin(runs["run_id"])].sort_values("epoch")
    networks = [network for network in NETWORKS if network in set(probed["network"])]
    panels = max(1, len(networks))
    figure = Picture(figsize=(width, 0.8 + 2.4 * panels), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    words, untrained = [], runs.set_index("run_id")["untrained_accuracy"]
    for ax, network in zip(axes, networks, strict=False):
        for run_id, path in probed[probed["network"] == network].groupby("run_id"):
            words.append(_draw_path(ax, run_id, path, untrained[run_id]))
        ax.set_title(name_of(network), loc="left")
    for ax in axes:
        ax.set_ylabel("accuracy of the probe (%)")
    axes[-1].set_xlabel(f"validation {NATS}")
    drawn = runs[runs["run_id"].isin(probed["run_id"])]
    guesses = guesses_of(drawn)
    for ax in axes:
        draw_guesses(ax, guesses, is_named=ax is axes[0])
    if networks:
        axes[0].set_title(name_of(networks[0]), loc="left", pad=22)  # above the names of the guesses
    sizes = sorted(set(drawn["depth"]))
    if words:
        legend(figure, [encoding for encoding in ENCODINGS if encoding in set(drawn["encoding"])])
        handles = [Line2D([], [], color=QUIET, linestyle=DASHES[size], label=name_of(size)) for size in sizes]
        axes[0].legend(handles=handles, loc="lower left")
    else:
        say_not_run(axes[0])
    figure.runs = drawn
    figure.caption = (
        f"Loss against probe accuracy after each epoch of training, one line per network: {describe(drawn)}."
        + (
            " Losses fall, so a line is read from right to left; the marker is its end. A thin level line is what a "
            "network's untrained twin reads, where that was probed." + guesses_in_words(guesses)
            if words
            else ""
        )
    )
    figure.alt = "Paths of loss and accuracy along training. " + (" ".join(words) or f"{NOT_RUN.capitalize()}.")
    return figure


def _draw_path(ax: Axes, run_id: str, path: pd.DataFrame, untrained: float) -> str:
    """Draw one run's line, and a thin one at what its untrained twin reads; returns both in words."""
    encoding, depth = path[["encoding", "depth"]].iloc[0]
    loss, accuracy = path["validation_loss"].to_numpy(), 100 * path["probe_accuracy"].to_numpy(float)
    ax.plot(loss, accuracy, linestyle=DASHES[depth], linewidth=1.2, color=COLOURS[encoding])
    ax.plot(loss[-1], accuracy[-1], marker=MARKERS[encoding], color=COLOURS[encoding])
    words = f"{run_id}: {loss[0]:.2f} to {loss[-1]:.2f} nats, {accuracy[0]:.1f} to {accuracy[-1]:.1f} %"
    if pd.isna(untrained):
        return f"{words}."
    ax.axhline(100 * untrained, linestyle=DASHES[depth], linewidth=0.6, color=COLOURS[encoding], alpha=0.6)
    return f"{words}, untrained {100 * untrained:.1f} %."


@for_both_widths
def fine_tuning(t: Tables, width: float = WIDE) -> Picture:
    """Accuracy of linear probes, after fine-tuning, and of training from scratch, by objective. Figure G4.

    Reads `finetune_accuracy` and `scratch_accuracy` of the runs, where there are such columns.
    """
    figure = Picture(figsize=(width, 3), layout="constrained")
    axes = figure.subplots(1, len(OBJECTIVES), sharey=True)
    drawn, words = [t.runs[:0]], []
    for ax, (objective, arm) in zip(axes, OBJECTIVES.items(), strict=True):
        runs = t.runs[(t.runs["arm"] == arm) & t.runs["network"].isin(TRANSFORMERS)]
        runs = runs.reindex(columns=[*runs, *(name for name in WAYS if name not in runs)])
        runs = runs.dropna(subset=["finetune_accuracy"])
        accuracies = 100 * runs[list(WAYS)].astype(float)
        for (_, run), values in zip(runs.iterrows(), accuracies.to_numpy(), strict=True):
            ax.plot(range(len(WAYS)), values, color=QUIET, linewidth=0.8)
            ax.plot(range(len(WAYS)), values, linestyle="", marker=MARKERS[run["network"]],
                    color=COLOURS[run["network"]])  # fmt: skip
        ax.set(title=objective, xticks=range(len(WAYS)), xticklabels=[way.replace(" ", "\n") for way in WAYS.values()])
        ax.margins(x=0.15)
        means = ", ".join(f"{way} {accuracies[name].mean():.1f} %" for name, way in WAYS.items())
        words.append(f"{objective}: {means if len(runs) else NOT_RUN}.")
        if runs.empty:
            say_not_run(ax)
        drawn.append(runs)
    axes[0].set_ylabel("accuracy (%)")
    shown = pd.concat(drawn)
    legend(figure, [network for network in TRANSFORMERS if network in set(shown["network"])])
    figure.runs = shown
    figure.caption = (
        f"Linear probe, fine-tuning and training from scratch; a line joins those of one network: {describe(shown)}."
    )
    figure.alt = "Accuracies by objective. " + " ".join(words)
    return figure
