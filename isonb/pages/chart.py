"""All runs as points, loss against accuracy: each a link in HTML, so that it can be read, tapped and reached by key.

Runs that must not be compared, on other images or with losses in other units, have charts of their own, of which all
but that with the most runs are folded.

Book: chapter "All runs".
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from urllib.parse import quote

from matplotlib.ticker import MaxNLocator

from isonb.evidence import NOT_RUN, markup, picture, selection
from isonb.pages import runs
from isonb.pages.runs import Run

SHAPES = {"o": "circle", "s": "square", "^": "up", "v": "down"}  # of the markers that networks have in figures


def page(every: Iterable[Run]) -> str:
    """Room for the filters, the charts, and the table; "not run" where there is no run."""
    alike: dict[tuple[str, str], list[Run]] = {}
    for run, images in runs.with_images(every):
        alike.setdefault((run.unit, images), []).append(run)
    if not alike:
        return f"<p>{NOT_RUN}</p>"
    groups = sorted(alike.items(), key=lambda group: (group[0][0] != runs.USUAL, -len(group[1])))
    usual, *others = [_chart(unit, images, of_group) for (unit, images), of_group in groups]
    if others:
        usual += f"<details><summary>Other images, and losses in other units</summary>{''.join(others)}</details>"
    listed = [run for _, of_group in groups for run in of_group]
    names = " ".join(selection.FILTERS)
    return (
        f'<div class="isonb-filters" role="group" aria-label="Filters" data-names="{names}" hidden></div>'
        f'<p class="isonb-count" aria-live="polite">{len(listed)} runs</p>{_legend(listed)}'
        f'<p class="isonb-readout">Every run is in the table below.</p>{usual}{runs.table(listed)}'
    )


def _legend(listed: list[Run]) -> str:
    there = {run.record.cell.run.network for run in listed}
    names = [name for name in picture.NETWORKS if name in there]
    items = "".join(f"<li>{_mark(name)}{html.escape(picture.name_of(name))}</li>" for name in names)
    return f'<ul class="isonb-legend">{items}</ul>'


def _chart(unit: str, images: str, listed: list[Run]) -> str:
    losses = [run.record.training.validation_loss for run in listed]
    accuracies = [100 * run.record.probe.test_accuracy for run in listed]
    x, y = _ticks(losses), _ticks(accuracies)
    points = "".join(
        _point(run, _place(loss, x), _place(accuracy, y))
        for run, loss, accuracy in zip(listed, losses, accuracies, strict=True)
    )
    ticks = "".join(f'<i class="isonb-x" style="left:{_place(tick, x):.2f}%">{tick:g}</i>' for tick in x)
    ticks += "".join(f'<i class="isonb-y" style="bottom:{_place(tick, y):.2f}%">{tick:g} %</i>' for tick in y)
    label = (
        f"Accuracy of the trained network against its loss, in {unit}, on {markup.plain(images)}: {len(listed)} runs, "
        "which the table lists, too"
    )
    return (
        f'<figure class="isonb-chart"><div class="isonb-plot" role="group" aria-label="{html.escape(label)}">'
        f'<div aria-hidden="true">{ticks}</div>{points}</div>'
        f"<figcaption>accuracy (upwards) against loss in {html.escape(unit)}, on "
        f"{html.escape(markup.plain(images))}</figcaption></figure>"
    )


def _ticks(values: list[float]) -> list[float]:
    """Round numbers of which the first and the last enclose the values."""
    low, high = min(values), max(values)
    if high - low <= 1e-6 * abs(high):  # one value has room on both sides
        low, high = low - abs(low) / 10 - 1e-3, high + abs(high) / 10 + 1e-3
    return [round(float(tick), 12) for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def _place(value: float, ticks: list[float]) -> float:
    """Where a value stands, in per cent of the axis."""
    return 100 * (value - ticks[0]) / (ticks[-1] - ticks[0])


def _point(run: Run, left: float, bottom: float) -> str:
    record = run.record
    name = markup.plain(
        f"{run.title}: loss {record.training.validation_loss:.3f}, accuracy {record.probe.test_accuracy:.1%}"
    )
    place = quote(run.page) if run.page else f"#{run.anchor}"
    return (
        f'<a class="isonb-point" href="{html.escape(place)}" title="{html.escape(name)}" '
        f'data-row="{html.escape(run.anchor)}" style="left:{left:.2f}%;bottom:{bottom:.2f}%">'
        f"{_mark(record.cell.run.network)}</a>"
    )


def _mark(network: str) -> str:
    colour = picture.COLOURS.get(network, picture.QUIET)
    shape = SHAPES.get(picture.MARKERS.get(network, ""), "circle")
    return f'<b class="isonb-mark isonb-{shape}" style="--ink:{html.escape(colour)}"></b>'
