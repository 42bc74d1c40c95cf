"""Loss against accuracy, one point a network.

Book: chapters "Results" and "Smoke results".
"""

from __future__ import annotations

import matplotlib
import pandas as pd

from isonb import config
from isonb.evidence import statistics
from isonb.evidence.picture import (
    COLOURS,
    MARKERS,
    NATS,
    NETWORKS,
    STYLE,
    WIDTH,
    Picture,
    describe,
    marks,
    name_of,
    say_not_run,
)

ORDER = {
    "network": NETWORKS,
    "encoding": config.ENCODINGS,
    "depth": (1, 3, 6, 12),
}
BAR_ALPHA = 0.4  # bars step back behind the points, of which there may be a hundred
TITLES = {"network": "by block", "encoding": "by encoding", "depth": "by size"}


@matplotlib.rc_context(STYLE)
def loss_accuracy(runs: pd.DataFrame, *factors: str) -> Picture:
    """Validation loss against the chosen probe's test accuracy; a panel for each factor that colours the points.

    `runs` has the columns of `metrics.runs`; of these the study's networks and sizes are drawn whose loss is in nats.
    Factors are network, encoding or depth; bars are 95 % Wilson intervals over the test images. Paper: Figures 4 and 6.
    """
    figure = Picture(figsize=(WIDTH, 0.3 + 3.1 * len(factors)), layout="constrained")
    panels = figure.subplots(len(factors), 1, sharex=True, squeeze=False)[:, 0]
    runs = runs[runs["objective"] == "bert"]
    for factor, keys in ORDER.items():
        runs = runs[runs[factor].isin(keys)]
    rows = runs.to_dict("records")
    for ax, factor in zip(panels, factors, strict=True):
        for row in rows:
            accuracy = 100 * row["test_accuracy"]
            low, high = (100 * end for end in statistics.wilson(row["test_accuracy"], row["data_test"]))
            bars = ax.errorbar(
                row["validation_loss"], accuracy, [[max(0, accuracy - low)], [max(0, high - accuracy)]],
                fmt=MARKERS[row[factor]], color=COLOURS[row[factor]], elinewidth=0.8, markersize=7,
            )[2]  # fmt: skip
            for bar in bars:
                bar.set_alpha(BAR_ALPHA)
        ax.set_title(TITLES[factor], loc="left", pad=24 if rows else 6)
        ax.set_ylabel("accuracy of the chosen probe (%)")
        if rows:
            present = [key for key in ORDER[factor] if key in set(runs[factor])]
            place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1), "borderaxespad": 0}
            ax.legend(handles=marks(present), ncols=len(present), handletextpad=0.2, columnspacing=1, **place)
        else:
            say_not_run(ax)
    panels[-1].set_xlabel(f"validation {NATS}")
    by = " and ".join(TITLES[factor] for factor in factors)
    tests = " and ".join(str(n) for n in sorted(set(runs["data_test"])))
    bars = f"; bars are 95 % intervals over {tests} test images" if rows else ""
    figure.caption = f"Loss against accuracy {by}: {describe(runs)}{bars}."
    figure.alt = f"Scatter of loss and accuracy {by}. " + (" ".join(map(_in_words, rows)) or "Not run.")
    return figure


def _in_words(row: dict[str, object]) -> str:
    return (
        f"{name_of(row['network'])} with {name_of(row['encoding'])}, size {row['depth']}: "
        f"{row['validation_loss']:.2f} nats, {100 * row['test_accuracy']:.1f} %."
    )
