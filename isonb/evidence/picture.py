"""The book's one visual language: colours, markers, letters, and figures that carry their words with them.

Colours and markers belong to a block or an encoding throughout the book. They are told apart by readers with any
colour vision, in print, and on a phone's screen. A figure carries its own caption and its description in words, so
it reads the same in JupyterLab, in an executed cell and in the book.

Book: every figure.
"""

from __future__ import annotations

import base64
import html
import io

import matplotlib
from matplotlib.figure import Figure

COLOURS = {
    "conv": "#0072B2",
    "mixer": "#C44E00",
    "transformer": "#007A59",
    "continuous": "#222222",
    "rff": "#B0469C",
    "pix2vec": "#8C6D00",
}
MARKERS = {"conv": "o", "mixer": "s", "transformer": "^", "continuous": "D", "rff": "P", "pix2vec": "X"}
NAMES = {"conv": "convolution", "rff": "random Fourier"}
QUIET = "#5F6670"

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


class Picture(Figure):
    """A figure with its caption and, as `alt`, its content in words for those who cannot see it."""

    caption = ""
    alt = ""
    is_smooth = False  # True where an image has more pixels than a screen shows, so that a thin line is not lost

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": self.alt, "text/html": self.to_html()}

    def to_html(self) -> str:
        """A self-contained `<figure>`: vector graphics on white, so that it reads the same on a dark page."""
        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            self.savefig(buffer, format="svg", metadata={"Date": None})
        svg = buffer.getvalue()
        if self.is_smooth:
            svg = svg.replace(b"image-rendering:crisp-edges;image-rendering:pixelated", b"image-rendering:auto")
        source = base64.b64encode(svg).decode()
        image = (
            f'<img src="data:image/svg+xml;base64,{source}" alt="{html.escape(self.alt)}" '
            'style="width:100%;max-width:36rem;background:#fff">'
        )
        return f'<figure class="isonb-figure">{image}<figcaption>{html.escape(self.caption)}</figcaption></figure>'
