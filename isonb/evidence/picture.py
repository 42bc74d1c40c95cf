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
from collections.abc import Iterable

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from isonb import rows, schema
from isonb.evidence import NOT_RUN
from isonb.evidence.markup import plain

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

COMPACT_DPI = 130  # 624 pixels: as many as the page shows
WIDTH = 4.8  # inches: ten-point letters stay readable when a phone shrinks the page's column to three quarters of it
STYLE = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E6EA",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "svg.hashsalt": "isonb",
}
# A context or decorator: the rest as matplotlib comes, whatever a person's matplotlibrc or notebook has set.
our_style = functools.partial(matplotlib.style.context, STYLE, after_reset=True)


class Picture(Figure):
    """A figure with its caption and, as `alt`, its content in words for readers who cannot see it."""

    caption = ""
    alt = ""
    is_smooth = False  # True where an image has more pixels than a screen shows, so that no thin line is lost
    is_compact = False  # True on pages of which there are hundreds

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": self.alt, "text/html": self.to_html()}

    def compact(self) -> Picture:
        """This figure, to be shown in a quarter of the bytes: as pixels in few colours."""
        self.is_compact = True
        return self

    def to_html(self) -> str:
        """A self-contained `<figure>`: vector graphics on white, so that it reads the same on a dark page."""
        kind, content = ("png", self._png()) if self.is_compact else ("svg+xml", self._svg())
        source = base64.b64encode(content).decode()
        image = (
            f'<img src="data:image/{kind};base64,{source}" alt="{html.escape(plain(self.alt))}" '
            'style="width:100%;max-width:36rem;background:#fff">'
        )
        return (
            f'<figure class="isonb-figure">{image}<figcaption>{html.escape(plain(self.caption))}</figcaption></figure>'
        )

    def _svg(self) -> bytes:
        buffer = io.BytesIO()
        with our_style():
            self.savefig(buffer, format="svg", metadata={"Date": None})
        if self.is_smooth:
            return buffer.getvalue().replace(
                b"image-rendering:crisp-edges;image-rendering:pixelated", b"image-rendering:auto"
            )
        return buffer.getvalue()

    def _png(self) -> bytes:
        """Pixels with a palette of their own: 256 colours for photographs, 32 for lines."""
        drawn, packed = io.BytesIO(), io.BytesIO()
        with our_style():
            self.savefig(drawn, format="png", dpi=COMPACT_DPI)
        colours = 256 if any(ax.images for ax in self.axes) else 32
        few = Image.open(drawn).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        few.save(packed, format="png", optimize=True)
        return packed.getvalue()


def name_of(key: str | int) -> str:
    """What a block, network, encoding or size is called in a figure."""
    return NAMES.get(key, str(key))


def with_heads(network: str) -> str:
    """What a network is called where nothing else says which block it has, such as "4-head transformer"."""
    return next(
        f"{kind.heads}-head {block.title}" if kind.heads > 1 else kind.title
        for block in rows.BLOCKS.values()
        for kind in block.networks
        if kind.name == network
    )


def legend(figure: Figure, keys: Iterable[str | int]) -> None:
    """Put the same kind of key above every figure that tells blocks, networks, encodings or sizes apart."""
    handles = marks(keys)
    if handles:
        columns = min(len(handles), 4)
        figure.legend(handles=handles, loc="outside upper center", ncols=columns, handletextpad=0.2, columnspacing=1.2)


def marks(keys: Iterable[str | int]) -> list[Line2D]:
    """One legend entry for each key, in its colour and marker."""
    return [Line2D([], [], marker=MARKERS[key], color=COLOURS[key], linestyle="", label=name_of(key)) for key in keys]


def say_not_run(ax: Axes, is_numbered: bool = False) -> None:
    """Write "not run" where a result is missing, and leave out the axes' numbers unless they are fixed."""
    ax.grid(False)
    if not is_numbered:
        ax.tick_params(labelbottom=False, labelleft=False, bottom=False, left=False)
    ax.text(0.5, 0.5, NOT_RUN, ha="center", va="center", transform=ax.transAxes, color=QUIET, fontsize=9)


def describe(runs: pd.DataFrame) -> str:
    """How many networks, of which study and seeds: what every caption owes its reader."""
    if runs.empty:
        return NOT_RUN
    networks = f"{len(runs)} network{'' if len(runs) == 1 else 's'}"
    seeds = sorted(set(runs["seed"]))
    of_seeds = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
    return f"{networks}, study {', '.join(sorted(set(runs['study'])))}, {of_seeds}"


def described(runs: Iterable[schema.Record]) -> str:
    """The same for records."""
    return describe(pd.DataFrame([{"study": run.cell.study, "seed": run.cell.run.seed} for run in runs]))
