"""Loss against accuracy, one point per network.

Book: chapters "Results" and "Smoke results".
"""

from __future__ import annotations

import pandas as pd

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
    WIDTH,
    Picture,
    describe,
    marks,
    name_of,
    our_style,
    say_not_run,
)

ORDER = {"network": NETWORKS, "encoding": config.ENCODINGS, "depth": tuple(DASHES)}
IN_NATS = [objective.name for objective in rows.OBJECTIVES.values() if objective.unit == UNIT]
COLUMNS, LINE = 4, 18  # entries of a legend beside each other, and points that a line of them takes
BAR_ALPHA = 0.4  # bars step back behind the points, of which there may be a hundred
GUESSES = {"linear filter": "baseline_linear_filter", "mean of the neighbours": "baseline_neighbour_mean"}
TITLES = {"network": "by block", "encoding": "by encoding", "depth": "by size"}


@our_style()
def loss_accuracy(runs: pd.DataFrame, *factors: str) -> Picture:
    """Validation loss against the chosen probe's test accuracy: one panel per factor, which colours the points.

    `runs` has the columns of `metrics.runs`; those of the legend's networks and sizes are drawn if their loss is in
    nats per masked sub-pixel. Factors are network, encoding or depth; bars are 95 % Wilson intervals over the test
    images. A hollow marker at the same loss is what the network's untrained twin reads; upright lines are what guesses
    without a network cost. Paper: Figures 4 and 6.
    """
    figure = Picture(figsize=(WIDTH, 0.3 + 3.1 * len(factors)), layout="constrained")
    panels = figure.subplots(len(factors), 1, sharex=True, squeeze=False)[:, 0]
    runs = runs[runs["objective"].isin(IN_NATS)]
    for factor, keys in ORDER.items():
        runs = runs[runs[factor].isin(keys)]
    points = runs.to_dict("records")
    guesses = {name: loss for name, column in GUESSES.items() if pd.notna(loss := runs[column].mean())}
    for ax, factor in zip(panels, factors, strict=True):
        for point in points:
            accuracy = 100 * point["test_accuracy"]
            low, high = (100 * end for end in statistics.wilson(point["test_accuracy"], point["data_test"]))
            bars = ax.errorbar(
                point["validation_loss"], accuracy, [[max(0, accuracy - low)], [max(0, high - accuracy)]],
                fmt=MARKERS[point[factor]], color=COLOURS[point[factor]], elinewidth=0.8, markersize=7,
            )[2]  # fmt: skip
            for bar in bars:
                bar.set_alpha(BAR_ALPHA)
            ax.plot(
                point["validation_loss"],
                100 * point["untrained_accuracy"],
                MARKERS[point[factor]],
                mfc="none",
                mec=COLOURS[point[factor]],
                mew=1,
                markersize=6,
                zorder=1,
            )
        present = [key for key in ORDER[factor] if key in set(runs[factor])]
        ax.set_title(TITLES[factor], loc="left", pad=6 + LINE * -(-len(present) // COLUMNS))
        ax.set_ylabel("accuracy of the chosen probe (%)")
        if present:
            place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1), "borderaxespad": 0}
            columns = min(len(present), COLUMNS)
            ax.legend(handles=marks(present), ncols=columns, handletextpad=0.2, columnspacing=1, **place)
        else:
            say_not_run(ax)
        for loss in guesses.values():
            ax.axvline(loss, color=QUIET, linewidth=1, linestyle=":", zorder=0)
    panels[-1].set_xlabel(f"validation {NATS}")
    by = " and ".join(TITLES[factor] for factor in factors)
    has_twins = bool(runs["untrained_accuracy"].notna().any())
    tests = " and ".join(str(n) for n in sorted(set(runs["data_test"])))
    bars = f"; bars are 95 % intervals over {tests} test images" if points else ""
    twins = " Hollow: the same networks untrained, at the loss that they reach by training." * has_twins
    lines = f" Dotted: {', '.join(f'{name} {loss:.3f}' for name, loss in guesses.items())}." * bool(guesses)
    figure.caption = f"Loss against accuracy {by}: {describe(runs)}{bars}.{twins}{lines}"
    figure.alt = f"Scatter of loss and accuracy {by}. " + (
        " ".join(map(_in_words, points)) or f"{NOT_RUN.capitalize()}."
    )
    return figure


def _in_words(point: dict[str, object]) -> str:
    return (
        f"{name_of(point['network'])} with {name_of(point['encoding'])}, size {point['depth']}: "
        f"{point['validation_loss']:.2f} nats, {100 * point['test_accuracy']:.1f} %{_twin_in_words(point)}."
    )


def _twin_in_words(point: dict[str, object]) -> str:
    twin = point["untrained_accuracy"]
    return f", untrained {100 * twin:.1f} %" if pd.notna(twin) else ""
