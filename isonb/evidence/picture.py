"""The book's one visual language: colours, markers, letters, and figures that carry their words with them.

Colours and markers belong to a network or an encoding throughout the book, as `isonb.rows` gives them. Readers with any
colour vision can tell them apart, in print and on a phone's screen. A figure carries its own caption and its
description in words, so that it reads the same in JupyterLab, in an executed cell and in the book.

Book: every figure.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from isonb import rows, schema
from isonb.evidence import NOT_RUN, selection, vectors
from isonb.evidence.markup import Link, plain

NETWORKS = tuple(network.name for network in rows.networks())  # in the order of every legend
DASHES = {1: ":", 3: "--", 6: "-", 12: "-."}  # by size
_LOOKS = {
    **{block.name: (block.title, block.networks[0].colour, block.networks[0].marker) for block in rows.BLOCKS.values()},
    **{row.name: (row.title, row.colour, row.marker) for row in (*rows.networks(), *rows.ENCODINGS.values())},
    1: ("size 1", "#8560B5", "<"),  # the darker the deeper
    3: ("size 3", "#6A3D9A", ">"),
    6: ("size 6", "#43206B", "p"),
    12: ("size 12", "#1F0A38", "*"),
}
NAMES, COLOURS, MARKERS = ({key: look[part] for key, look in _LOOKS.items()} for part in range(3))
UNIT = rows.OBJECTIVES["bert"].unit
NATS = f"loss ({UNIT})"
QUIET = "#5F6670"
COUNT = re.compile(r"\b\d+ networks?(?=, study )")

WIDTH, WIDE = 4.8, 8.0  # inches, on a phone and on a desk: eleven-point letters come out as the text's on both
FROM_WIDE = "48rem"  # of the window
SIZE = 11  # points
STYLE = {
    "font.size": SIZE,
    "font.family": "DejaVu Sans",
    "axes.titlesize": SIZE,
    "axes.titleweight": "bold",
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E6EA",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": SIZE,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "svg.fonttype": "none",  # letters stay letters, in the reader's typeface
    "svg.hashsalt": "isonb",
}
ALL_BUT_SEED = ["network", "encoding", "depth", "arm"]  # columns of the table of runs that tell all but the seed
# A context or decorator: the rest as matplotlib comes, whatever a person's matplotlibrc or notebook has set.
our_style = functools.partial(matplotlib.style.context, STYLE, after_reset=True)


class Picture(Figure):
    """A figure with its caption and, as `alt`, its content in words for readers who cannot see it."""

    caption = ""
    alt = ""
    runs: pd.DataFrame | None = None  # rows of the table of runs that it shows, to which its caption then leads
    wide: Picture | None = None  # the same, drawn for a desk
    is_smooth = False  # True where an image has more pixels than a screen shows, so that no thin line is lost

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": self.alt, "text/html": self.to_html()}

    def compact(self) -> Picture:
        """This figure in half of the bytes, for pages of which there are hundreds: as it is drawn for a phone."""
        self.wide = None
        return self

    def to_html(self) -> str:
        """A self-contained `<figure>` on white; the built book makes files of its images and colours of a dark page."""
        image, most = f'<img alt="{html.escape(plain(self.alt))}" src={self._embedded()}', 36
        if self.wide:
            wide = f'<source media="(min-width: {FROM_WIDE})" srcset={self.wide._embedded()}>'
            image, most = f"{wide}{image}", 60
        image = f'<picture>{image} style="width:100%;max-width:{most}rem;background:#fff"></picture>'
        return f'<figure class="isonb-figure">{image}<figcaption>{self._linked_caption()}</figcaption></figure>'

    def _linked_caption(self) -> str:
        """The caption in HTML; how many networks it is about, as `describe` says it, leads to these and no others."""
        text = html.escape(plain(self.caption))
        if self.runs is None or self.runs.empty:
            return text
        address = selection.of(self.runs)
        return COUNT.sub(lambda count: Link(count[0], address).html(), text, count=1)

    def _embedded(self) -> str:
        """The drawing as the value of an attribute, with those of its width and height behind it."""
        width, height = (round(72 * inches) for inches in self.get_size_inches())
        return f'"data:image/svg+xml;base64,{base64.b64encode(self._svg()).decode()}" width="{width}" height="{height}"'

    def _svg(self) -> bytes:
        buffer = io.StringIO()
        with our_style():
            self.savefig(buffer, format="svg", metadata={"Date": None})
        return vectors.slim(buffer.getvalue(), self.is_smooth).encode()


Draw = TypeVar("Draw", bound=Callable[..., Picture])


def for_both_widths(draw: Draw) -> Draw:
    """Decorate a function that draws a figure `width` inches wide: it draws one for a phone, with one for a desk."""

    @functools.wraps(draw)
    def both(*arguments: Any, **options: Any) -> Picture:
        with our_style():
            figure = draw(*arguments, width=WIDTH, **options)
            figure.wide = draw(*arguments, width=WIDE, **options)
        return figure

    return cast(Draw, both)


def name_of(key: str | int) -> str:
    """What a block, network, encoding or size is called wherever a person reads it, such as "transformer (1 head)"."""
    return NAMES.get(key, str(key))


def legend(figure: Figure, keys: Iterable[str | int]) -> None:
    """Put the same kind of key above every figure that tells blocks, networks, encodings or sizes apart."""
    keys = list(keys)
    if keys:
        columns = columns_for(keys, figure.get_figwidth())
        look = {"handlelength": 1, "handletextpad": 0.4, "columnspacing": 1.2, "borderpad": 0}
        figure.legend(handles=marks(keys), loc="outside upper left", ncols=columns, **look)


def columns_for(keys: Sequence[str | int], width: float) -> int:
    """In how many columns a legend of these keys stays inside so many inches."""
    widths = sorted((0.25 + 0.085 * len(name_of(key)) for key in keys), reverse=True)  # as wide as letters get
    return len(keys) if sum(widths) < width else max(1, int(width / widths[0]))


def marks(keys: Iterable[str | int]) -> list[Line2D]:
    """One legend entry for each key, in its colour and marker."""
    return [Line2D([], [], marker=MARKERS[key], color=COLOURS[key], linestyle="", label=name_of(key)) for key in keys]


def say_not_run(ax: Axes, is_numbered: bool = False) -> None:
    """Write "not run" where a result is missing, and leave out the axes' numbers unless they are fixed."""
    ax.grid(False)
    if not is_numbered:
        ax.tick_params(labelbottom=False, labelleft=False, bottom=False, left=False)
    ax.text(0.5, 0.5, NOT_RUN, ha="center", va="center", transform=ax.transAxes, color=QUIET)


def describe(runs: pd.DataFrame) -> str:
    """How many networks, of which study and seeds: what every caption owes its reader.

    Seeds are counted setting by setting where `runs` has the columns that tell settings apart.
    """
    if runs.empty:
        return NOT_RUN
    networks = f"{len(runs)} network{'' if len(runs) == 1 else 's'}"
    seeds = sorted(set(runs["seed"]))
    fewest = most = len(seeds)
    if {*ALL_BUT_SEED} <= {*runs.columns}:
        of_setting = runs.groupby(ALL_BUT_SEED)["seed"].nunique()
        fewest, most = of_setting.min(), of_setting.max()
    of_seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    of_seeds = f"seed {seeds[0]}" if len(seeds) == 1 else of_seeds
    return f"{networks}, study {', '.join(sorted(set(runs['study'])))}, {of_seeds}"


def described(runs: Iterable[schema.Record]) -> str:
    """The same for records."""
    return describe(pd.DataFrame([{"study": run.cell.study, "seed": run.cell.run.seed} for run in runs]))
