"""The sigma explorer: what an encoding keeps of the distance between pixel values, under the reader's fingers.

With a kernel it is an ipywidgets box that Python redraws. Without one, in the published page, it is HTML that carries
its own script: `explorer_maths.js` computes what this module computes, and tests hold the two to the same numbers.

Paper: section 3.2, equation 4, Figures 2 and 3. Book: chapter "Encodings".
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
from importlib import resources
from typing import Any

import ipywidgets
import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from isonb import features

ENCODINGS = {"one-hot": "one-hot", "random Fourier": "rff", "continuous (its cosine is a sign)": "continuous"}
RANGES = {"[−1, 1]": "symmetric", "[0, 1]": "unit"}
COLOURS = "RdBu_r"  # -1 blue, 0 white, 1 red
EDGES = (-0.5, features.VALUES - 0.5, features.VALUES - 0.5, -0.5)  # left, right, bottom and top of the heat map
PRESETS = (0.1, 1.0, 10.0)  # the three values of sigma in Figure 3
ONE_HOT_SHOWN = range(48, 224, 32)
FREQUENCIES_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What the explorer shows of one encoding. `pictured` pairs captions with single features, shape V."""

    similarity_VV: np.ndarray
    profile_V: np.ndarray
    expected_V: np.ndarray | None
    rank: int
    half_width: int | None
    pictured: list[tuple[str, np.ndarray]]

    def __str__(self) -> str:
        width = {None: "nowhere below 1/2", 1: "1 level"}.get(self.half_width, f"{self.half_width} levels")
        return f"Rank at 99 % energy: {self.rank} of {features.VALUES}. Half-width: {width}."


def measure(encoding: str, sigma: float, k: int, seed: int, value_range: str) -> Measurement:
    """Similarities, profile, rank and half-width of "one-hot", "rff" or "continuous" features of the 256 values.

    sigma, k, seed and value_range matter for "rff" alone; its expected profile is None for the others.
    """
    expected_V = None
    if encoding == "one-hot":
        features_VF = features.one_hot()
        pictured = [(f"value {value}", features_VF[:, value]) for value in ONE_HOT_SHOWN]
    elif encoding == "continuous":
        features_VF = features.continuous()
        pictured = [("p", features_VF[:, 0])]
    else:
        beta_k = features.draw_frequencies(sigma, k, seed)
        features_VF = features.random_fourier(beta_k, value_range)
        expected_V = features.expected_profile(sigma, value_range)
        pictured = [
            (f"{wave}, β = {beta_k[i]:.3f}".replace("-", "−"), features_VF[:, i + start])
            for i in range(FREQUENCIES_SHOWN)
            for wave, start in (("sin", 0), ("cos", k))
        ]
    similarity_VV = features.cosine_similarity(features_VF)
    profile_V = features.similarity_profile(similarity_VV)
    rank, half_width = features.rank_at_energy(features_VF), features.half_width(profile_V)
    return Measurement(similarity_VV, profile_V, expected_V, rank, half_width, pictured)


@functools.cache
def photograph() -> np.ndarray:
    """A cat's face from scikit-image, 48 x 48 pixels, uint8, height x width x colour."""
    from skimage.data import chelsea  # slow to import

    face = chelsea()[10:298, 75:363]
    return face.reshape(48, 6, 48, 6, 3).mean(axis=(1, 3)).round().astype(np.uint8)


class Drawing:
    """The heat map and its profile against distance, drawn once.

    A step only sets the data of what it changes and draws that over a copy of the rest. To draw everything takes
    several times as long: `make bench BENCH=explorer` says how many.
    """

    def __init__(self) -> None:
        with matplotlib.style.context("default"):  # nobody's own
            figure = Figure(figsize=(8.4, 3.9))
            self._canvas = FigureCanvasAgg(figure)
            heat, profile = figure.add_gridspec(
                1, 2, left=0.07, right=0.99, bottom=0.12, top=0.93, wspace=0.2
            ).subplots()
            self._map = heat.imshow(np.zeros((1, 1)), COLOURS, vmin=-1, vmax=1, extent=EDGES, interpolation="none")
            (self._drawn,) = profile.plot([], color="black", label="drawn")
            (self._expected,) = profile.plot([], "--", label="exp(−2π²σ²δ²)")
            levels, shares = (0, 64, 128, 192, 255), (-1, -0.5, 0, 0.5, 1)
            heat.set(title="Cosine similarity", xlabel="value j", ylabel="value i", xticks=levels, yticks=levels)
            figure.colorbar(self._map, ax=heat, ticks=shares, shrink=0.93)
            profile.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
            profile.set(title="Mean similarity at a distance", xlabel="distance |i − j| in levels")
            profile.set(xlim=(-12, 267), ylim=(-1.05, 1.05), xticks=levels, yticks=shares)
            profile.legend(frameon=False, loc="lower left")
            self._changing = (self._map, self._expected, self._drawn)
            for artist in self._changing:
                artist.set_animated(True)  # left out of what is drawn here
            self._canvas.draw()
        self._rest = self._canvas.copy_from_bbox(figure.bbox)

    def of(self, measurement: Measurement) -> np.ndarray:
        """The picture of a measurement, uint8, height x width x colour."""
        self._map.set_data(measurement.similarity_VV)
        for line, values in ((self._drawn, measurement.profile_V), (self._expected, measurement.expected_V)):
            line.set_data(([], []) if values is None else (range(features.VALUES), values))
        self._canvas.restore_region(self._rest)
        for artist in self._changing:
            artist.axes.draw_artist(artist)
        return np.asarray(self._canvas.buffer_rgba())[:, :, :3]


class SigmaExplorer(ipywidgets.VBox):
    """The slider of sigma above the pictures, the other controls below them; `measurement` is what they show."""

    def __init__(self) -> None:
        style = {"style": {"description_width": "8em"}, "layout": {"width": "32em"}}
        self.sigma = ipywidgets.FloatLogSlider(
            value=1, base=10, min=-2, max=2, step=0.05, readout_format=".3g", description="σ, spread", **style
        )
        self.presets = [ipywidgets.Button(description=f"σ = {sigma:g}") for sigma in PRESETS]
        self.k = ipywidgets.IntSlider(128, 8, 256, 8, description="k, frequencies", **style)
        self.seed = ipywidgets.BoundedIntText(0, 0, 9999, description="Seed", **style)
        self.encoding = ipywidgets.Dropdown(options=ENCODINGS, value="rff", description="Encoding", **style)
        self.value_range = ipywidgets.Dropdown(options=RANGES, description="Scaling of p", **style)
        self.numbers, self.picture = ipywidgets.HTML(), ipywidgets.HTML()
        self.drawing = Drawing()
        self._settings = {name: getattr(self, name) for name in ("sigma", "k", "seed", "encoding", "value_range")}
        sigma, *others = self._settings.values()
        super().__init__([sigma, ipywidgets.HBox(self.presets), self.numbers, self.picture, *others])
        for control in self._settings.values():
            control.observe(self._redraw, "value")
        for button, value in zip(self.presets, PRESETS, strict=True):
            button.on_click(functools.partial(self._preset, value))
        self._redraw()

    def _preset(self, sigma: float, _button: ipywidgets.Button) -> None:
        self.sigma.value = sigma

    def _redraw(self, _change: object = None) -> None:
        self.measurement = measure(**{name: control.value for name, control in self._settings.items()})
        for control in (self.sigma, *self.presets, self.k, self.seed, self.value_range):
            control.disabled = self.encoding.value != "rff"
        self.numbers.value = f"<b>{self.measurement}</b>"
        whole = _image(self.drawing.of(self.measurement), f"Similarity map and profile. {self.measurement}")
        self.picture.value = f'{whole}<div style="display:flex;gap:1em">{_strip(self.measurement)}</div>'

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**super()._repr_mimebundle_(**kwargs), "text/html": page()}


@functools.cache
def page() -> str:
    """The explorer as HTML that needs nothing else: any number of copies may stand in one page."""
    css, maths, view = (
        resources.files("isonb.pages").joinpath(name).read_text(encoding="utf-8")
        for name in ("explorer.css", "explorer_maths.js", "explorer_page.js")
    )
    colours = matplotlib.colormaps[COLOURS](np.arange(256), bytes=True)[:, :3].tobytes()
    photo = photograph()
    return (
        f'<style>{css}</style><div class="sigma-explorer" data-colours="{_base64(colours)}" data-side="{len(photo)}"'
        f' data-photo="{_base64(photo.tobytes())}"><p>The sigma explorer is interactive: it needs JavaScript in a page,'
        " or a kernel in JupyterLab. Figures 2 and 3 show what it draws for a few settings.</p></div>"
        f'<script type="module">{maths}{view}</script>'
    )


def _strip(measurement: Measurement) -> str:
    """The photograph and single features of its pixels, each above its caption, as HTML."""
    photo = photograph()
    pictures = [("photograph", photo)]
    for words, feature_V in measurement.pictured:
        pictures.append((words, (127.5 * (feature_V + 1)).round().astype(np.uint8)[photo]))
    images = [_image(pixels, words, "width:7em;image-rendering:pixelated", True) for words, pixels in pictures]
    return "".join(
        f'<figure style="margin:0">{image}<figcaption>{words}</figcaption></figure>'
        for image, (words, _) in zip(images, pictures, strict=True)
    )


def _image(pixels: np.ndarray, alt: str, style: str = "max-width:100%", lossless: bool = False) -> str:
    """Pixels as an image that stands in HTML: WebP, smaller than PNG, by its quickest method."""
    content = io.BytesIO()
    quality = 0 if lossless else 85  # of a lossless image: the least effort
    Image.fromarray(pixels).save(content, format="webp", lossless=lossless, quality=quality, method=0)
    return f'<img alt="{alt}" style="{style}" src="data:image/webp;base64,{_base64(content.getvalue())}">'


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def sigma_explorer() -> SigmaExplorer:
    """The explorer: the last expression of a cell shows it, with or without a kernel behind it."""
    return SigmaExplorer()
