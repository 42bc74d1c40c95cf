"""One network among others of its study: loss against accuracy.

Book: the last figure of each experiment's notebook.
"""

from __future__ import annotations

from collections.abc import Iterable

from isonb import rows, schema
from isonb.evidence.metrics import images_id
from isonb.evidence.picture import COLOURS, MARKERS, NETWORKS, WIDE, Picture, for_both_widths, legend, name_of


@for_both_widths
def among(record: schema.Record, others: Iterable[schema.Record], width: float = WIDE) -> Picture:
    """Validation loss against the chosen probe's test accuracy of one network, ringed, and of others.

    Drawn are those others that have read the same images and have losses in the same unit.
    """
    alike = [
        other
        for other in others
        if other.run_id != record.run_id
        and images_id(other) == images_id(record)
        and other.cell.run.unit == record.cell.run.unit
    ]
    figure = Picture(figsize=(width, 3.6), layout="constrained")
    ax = figure.subplots()
    for other in alike:
        ax.plot(*_place(other), MARKERS[_network(other)], color=COLOURS[_network(other)], alpha=0.5, markersize=6)
    loss, accuracy = _place(record)
    look = {"color": COLOURS[_network(record)], "markersize": 11, "mec": "black", "mew": 2}
    ax.plot(loss, accuracy, MARKERS[_network(record)], **look)
    middle = sum(ax.get_xlim()) / 2
    aside = {"xytext": (-12, 0), "ha": "right"} if loss > middle else {"xytext": (12, 0)}
    ax.annotate("this network", (loss, accuracy), textcoords="offset points", va="center", weight="bold", **aside)
    ax.set_xlabel(f"validation loss ({record.cell.run.unit})")
    ax.set_ylabel("accuracy of the probe (%)")
    present = {_network(run) for run in (record, *alike)}
    legend(figure, [network for network in NETWORKS if network in present])
    count = f"{len(alike)} other network{'' if len(alike) == 1 else 's'} of the study {record.cell.study}"
    figure.caption = (
        f"This network, ringed, among {count} on the same images."
        if alike
        else "This network; no other of its study is here."
    )
    figure.alt = f"{figure.caption} " + " ".join(map(_in_words, (record, *alike)))
    return figure


def _network(record: schema.Record) -> str:
    return rows.network(record.cell.run.block, record.cell.run.heads)


def _place(record: schema.Record) -> tuple[float, float]:
    return record.training.validation_loss, 100 * record.probe.test_accuracy


def _in_words(record: schema.Record) -> str:
    loss, accuracy = _place(record)
    run = record.cell.run
    return f"{name_of(_network(record))} with {name_of(run.encoding)}, size {run.depth}: {loss:.2f}, {accuracy:.1f} %."
