"""What each change of a setting takes off the gap between a transformer and the convolution.

Book: chapter "Why do the transformers fail?".
"""

from __future__ import annotations

from isonb.evidence import NOT_RUN, statistics, titles
from isonb.evidence.ledger import gap
from isonb.evidence.ledger.select import TRANSFORMERS
from isonb.evidence.metrics import Tables
from isonb.evidence.picture import COLOURS, QUIET, WIDE, Picture, for_both_widths, name_of, say_not_run

WORSE = "#B5482F"


@for_both_widths
def gap_bars(t: Tables, network: str = TRANSFORMERS[0], width: float = WIDE) -> Picture:
    """A bar for every change that has run with two seeds or more: its share of the loss gap, with Student's interval.

    The changes that close most of the gap come first.
    """
    shares = {
        name: 100 * of_arm.share_S
        for name, of_arm in gap.gap_shares(t, network=network).items()
        if of_arm.share_S is not None and len(of_arm.share_S) > 1
    }
    names = sorted(shares, key=lambda name: -shares[name].mean())
    figure = Picture(figsize=(width, 1.0 + 0.34 * max(len(names), 2)), layout="constrained")
    ax = figure.subplots()
    words = []
    for row, name in enumerate(names):
        mean, (low, high) = shares[name].mean(), statistics.student_interval(shares[name])
        ax.barh(row, mean, height=0.62, color=COLOURS[network] if mean > 0 else WORSE)
        ax.errorbar(mean, row, xerr=[[mean - low], [high - mean]], color="black", capsize=3, linewidth=1.2)
        words.append(f"{in_words(name)}: {round(mean)} % ({round(low)} to {round(high)} %).")
    if names:
        ax.set_yticks(range(len(names)), map(in_words, names))
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.grid(False, axis="y")
        ax.axvline(0, color=QUIET, linewidth=1)
        ax.axvline(100, color=QUIET, linewidth=1, linestyle=":")
        ax.set_xlabel("share of the gap that goes (%)")
    else:
        say_not_run(ax)
    seeds = sorted({len(share_S) for share_S in shares.values()})
    over = f" over {' or '.join(map(str, seeds))} seeds" if seeds else ""
    figure.caption = (
        f"What one change takes off the loss by which the {name_of(network)} trails the {name_of('conv')}: at 100 % "
        f"nothing would be left of it, and left of 0 % the change makes it larger. Lines are 95 % intervals{over}."
    )
    figure.alt = f"{figure.caption} {' '.join(words) or f'{NOT_RUN.capitalize()}.'}"
    return figure


def in_words(arm: str) -> str:
    """What an arm changes and to what, such as "learning rate 0.001"."""
    values = dict(setting.split("=") for setting in arm.split())
    if gap.change(arm) == gap.DATA:
        return f"all images, not {float(values['data_fraction']):.0%}"
    return ", ".join(titles.in_words(name, value) for name, value in values.items())
