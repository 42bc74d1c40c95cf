"""What each change of a setting takes off the gap between a transformer and the convolution.

Book: chapter "Why do the transformers fail?".
"""

from __future__ import annotations

import pandas as pd

from isonb.evidence import NOT_RUN, statistics, words
from isonb.evidence.ledger import gap
from isonb.evidence.ledger.select import TRANSFORMERS
from isonb.evidence.metrics import Tables
from isonb.evidence.picture import COLOURS, QUIET, WIDE, Picture, describe, for_both_widths, name_of, say_not_run

WORSE = "#B5482F"


@for_both_widths
def gap_bars(t: Tables, network: str = TRANSFORMERS[0], width: float = WIDE) -> Picture:
    """A bar for every change that has run with two seeds or more: its share of the loss gap, with Student's interval.

    The changes that close most of the gap come first.
    """
    shown = {
        name: of_arm
        for name, of_arm in gap.gap_shares(t, network=network).items()
        if of_arm.share_S is not None and len(of_arm.share_S) > 1
    }
    shares = {name: 100 * of_arm.share_S for name, of_arm in shown.items()}
    names = sorted(shares, key=lambda name: -shares[name].mean())
    figure = Picture(figsize=(width, 1.0 + 0.34 * max(len(names), 2)), layout="constrained")
    ax = figure.subplots()
    told = []
    for row, name in enumerate(names):
        mean, (low, high) = shares[name].mean(), statistics.student_interval(shares[name])
        ax.barh(row, mean, height=0.62, color=COLOURS[network] if mean > 0 else WORSE)
        ax.errorbar(mean, row, xerr=[[mean - low], [high - mean]], color="black", capsize=3, linewidth=1.2)
        told.append(f"{in_words(name)}: {round(mean)} % ({round(low)} to {round(high)} %).")
    if names:
        ax.set_yticks(range(len(names)), map(in_words, names))
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.grid(False, axis="y")
        ax.axvline(0, color=QUIET, linewidth=1)
        ax.axvline(100, color=QUIET, linewidth=1, linestyle=":")
        ax.set_xlabel("share of the gap that goes (%)")
    else:
        say_not_run(ax)
    behind = [gap.behind(t, name, of_arm, network) for name, of_arm in shown.items()]
    figure.runs = pd.concat([t.runs[:0], *behind]).drop_duplicates("run_id")
    figure.caption = (
        f"What one change takes off the loss by which the {name_of(network)} trails the {name_of('conv')}: at 100 % "
        f"nothing would be left of it, and left of 0 % the change makes it larger. Lines are 95 % intervals over "
        f"seeds ({describe(figure.runs)})."
    )
    figure.alt = f"{figure.caption} {' '.join(told) or f'{NOT_RUN.capitalize()}.'}"
    return figure


def in_words(arm: str) -> str:
    """What an arm changes and to what: "learning rate 0.001"; of a part of the images, "all images, not 25%"."""
    changed = words.of_arm(arm)
    return f"all images, not {changed.removesuffix(words.SHARE)}" if gap.change(arm) == gap.DATA else changed
